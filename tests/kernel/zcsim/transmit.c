// SPDX-License-Identifier: GPL-2.0
/* transmit.c - packets leave: to which queue of the peer, when, or nowhere. */
#include "zcsim.h"

static bool every(u32 n, u32 count)
{
	return n && count % n == 0;
}

/* Puts a packet into the peer's queue. BH is off, so that a queue that is being stopped is still
 * there (synchronize_net). */
static void deliver(struct zs_priv *peer, struct sk_buff *skb)
{
	struct zs_flow flow;
	unsigned int header_bytes;
	int index = zs_parse(skb, &header_bytes, &flow) ? zs_steer(peer, &flow) : 0;
	/* Pairs with the release in queue_start(). */
	struct zs_queue *queue = smp_load_acquire(&peer->queues[index]);

	if (!queue || !netif_running(peer->dev)) {
		atomic64_inc(&peer->counters[index].overruns);
		dev_kfree_skb_any(skb);
		return;
	}
	if (skb_queue_len_lockless(&queue->arrivals) >= READ_ONCE(peer->rx_pending)) {
		atomic64_inc(&queue->counters->overruns);
		dev_kfree_skb_any(skb);
		return;
	}
	skb_queue_tail(&queue->arrivals, skb);
	napi_schedule(&queue->napi);
}

/* --- a wire with a length ------------------------------------------------------------------ */

struct on_its_way {
	ktime_t due;
};

static struct on_its_way *on_its_way(struct sk_buff *skb)
{
	BUILD_BUG_ON(sizeof(struct on_its_way) > sizeof(skb->cb));
	return (struct on_its_way *)skb->cb;
}

static enum hrtimer_restart arrive(struct hrtimer *timer)
{
	struct zs_priv *priv = container_of(timer, struct zs_priv, late_timer);
	struct sk_buff_head due;
	struct sk_buff *skb;
	ktime_t now = ktime_get();

	__skb_queue_head_init(&due);
	spin_lock_bh(&priv->late.lock);
	while ((skb = skb_peek(&priv->late)) && on_its_way(skb)->due <= now) {
		__skb_unlink(skb, &priv->late);
		__skb_queue_tail(&due, skb);
	}
	priv->arriving = true;
	if (skb)
		hrtimer_start(timer, on_its_way(skb)->due, HRTIMER_MODE_ABS_SOFT);
	spin_unlock_bh(&priv->late.lock);
	rcu_read_lock();
	while ((skb = __skb_dequeue(&due)))
		deliver(netdev_priv(priv->peer), skb);
	rcu_read_unlock();
	WRITE_ONCE(priv->arriving, false);
	return HRTIMER_NORESTART;
}

/* True if it was taken. What comes after a delayed packet waits too: nobody overtakes. As many
 * wait as the transmit ring has entries; more are lost. */
static bool put_off(struct zs_priv *priv, struct sk_buff *skb)
{
	u32 delay_us = READ_ONCE(priv->faults.delay_us);
	bool first;

	if (!delay_us && skb_queue_empty_lockless(&priv->late) && !READ_ONCE(priv->arriving))
		return false;
	if (skb_queue_len_lockless(&priv->late) >= READ_ONCE(priv->tx_pending)) {
		dev_kfree_skb_any(skb);
		return true;
	}
	on_its_way(skb)->due = ktime_add_us(ktime_get(), delay_us);
	spin_lock_bh(&priv->late.lock);
	first = skb_queue_empty(&priv->late);
	__skb_queue_tail(&priv->late, skb);
	if (first)
		hrtimer_start(&priv->late_timer, on_its_way(skb)->due, HRTIMER_MODE_ABS_SOFT);
	spin_unlock_bh(&priv->late.lock);
	return true;
}

void zs_wire_init(struct zs_priv *priv)
{
	spin_lock_init(&priv->held_lock);
	skb_queue_head_init(&priv->late);
	hrtimer_setup(&priv->late_timer, arrive, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_SOFT);
}

void zs_wire_clear(struct zs_priv *priv)
{
	hrtimer_cancel(&priv->late_timer);
	skb_queue_purge(&priv->late);
	dev_kfree_skb_any(priv->held);
	priv->held = NULL;
}

/* ------------------------------------------------------------------------------------------- */

/* With reordering, a packet may wait for its successor. Gives the one to send now, and after it. */
static struct sk_buff *reorder(struct zs_priv *priv, struct sk_buff *skb, u32 number,
			       struct sk_buff **after)
{
	*after = NULL;
	spin_lock_bh(&priv->held_lock);
	if (priv->held) {
		*after = priv->held;
		priv->held = NULL;
	} else if (every(READ_ONCE(priv->faults.reorder_every), number)) {
		priv->held = skb;
		skb = NULL;
	}
	spin_unlock_bh(&priv->held_lock);
	return skb;
}

static void count(struct zs_priv *priv, const struct sk_buff *skb)
{
	struct zs_counters *counters = &priv->counters[skb_get_queue_mapping(skb)];

	counters->sent_packets++;
	counters->sent_bytes += skb->len;
}

netdev_tx_t zs_transmit(struct sk_buff *skb, struct net_device *dev)
{
	struct zs_priv *priv = netdev_priv(dev);
	u32 number = atomic_inc_return(&priv->sent);
	struct sk_buff *packets[2];

	skb_reset_mac_header(skb);
	skb_tx_timestamp(skb);
	skb_orphan(skb);
	count(priv, skb);
	if (every(READ_ONCE(priv->faults.drop_every), number)) {
		dev_kfree_skb_any(skb);
		return NETDEV_TX_OK;
	}
	rcu_read_lock();
	packets[0] = reorder(priv, skb, number, &packets[1]);
	for (unsigned int i = 0; i < 2; i++)
		if (packets[i] && !put_off(priv, packets[i]))
			deliver(netdev_priv(priv->peer), packets[i]);
	rcu_read_unlock();
	return NETDEV_TX_OK;
}

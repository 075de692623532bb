// SPDX-License-Identifier: GPL-2.0
/* transmit.c - packets leave: to which queue of the peer, or nowhere. */
#include "zcsim.h"

static bool every(u32 n, u32 count)
{
	return n && count % n == 0;
}

/* Puts a packet into the peer's queue. The caller is in the transmit path: BH is off, RCU is held,
 * so that a queue that is being stopped is still there. */
static void deliver(struct zs_priv *peer, struct sk_buff *skb)
{
	struct zs_flow flow;
	unsigned int header_bytes;
	int index = zs_parse(skb, &header_bytes, &flow) ? zs_steer(peer, &flow) : 0;
	struct zs_queue *queue = READ_ONCE(peer->queues[index]);

	if (!queue || !netif_running(peer->dev) || skb_queue_len(&queue->arrivals) >= ZS_BACKLOG) {
		dev_kfree_skb_any(skb);
		return;
	}
	skb_queue_tail(&queue->arrivals, skb);
	napi_schedule(&queue->napi);
}

/* With reordering, a packet may wait for its successor. Gives the one to send now, and after it. */
static struct sk_buff *reorder(struct zs_priv *priv, struct sk_buff *skb, struct sk_buff **after)
{
	*after = NULL;
	spin_lock_bh(&priv->held_lock);
	if (priv->held) {
		*after = priv->held;
		priv->held = NULL;
	} else if (every(priv->faults.reorder_every, priv->sent)) {
		priv->held = skb;
		skb = NULL;
	}
	spin_unlock_bh(&priv->held_lock);
	return skb;
}

netdev_tx_t zs_transmit(struct sk_buff *skb, struct net_device *dev)
{
	struct zs_priv *priv = netdev_priv(dev);
	struct zs_priv *peer = netdev_priv(priv->peer);
	struct sk_buff *after;

	skb_reset_mac_header(skb);
	skb_orphan(skb);
	skb_tx_timestamp(skb);
	if (every(priv->faults.drop_every, ++priv->sent)) {
		dev_kfree_skb_any(skb);
		return NETDEV_TX_OK;
	}
	rcu_read_lock();
	skb = reorder(priv, skb, &after);
	if (skb)
		deliver(peer, skb);
	if (after)
		deliver(peer, after);
	rcu_read_unlock();
	return NETDEV_TX_OK;
}

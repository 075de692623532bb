// SPDX-License-Identifier: GPL-2.0
/*
 * queue.c - receive queues: page pools, NAPI, restart with an io_uring's memory.
 *
 * A device with queue_mgmt_ops has its ops called under its own lock (netdev_lock).
 */
#include "zcsim.h"

static int make_pool(struct zs_queue *queue)
{
	struct page_pool_params params = {
		.flags = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV | PP_FLAG_ALLOW_UNREADABLE_NETMEM,
		.order = queue->order,
		.pool_size = 256,
		.nid = NUMA_NO_NODE,
		.dev = &zs_parent->dev,
		.napi = &queue->napi,
		.dma_dir = DMA_FROM_DEVICE,
		.max_len = PAGE_SIZE << queue->order,
		.netdev = queue->dev,
		.queue_idx = queue->index,
	};
	struct page_pool *pool = page_pool_create(&params);

	if (IS_ERR(pool))
		return PTR_ERR(pool);
	queue->pool = pool;
	return 0;
}

static struct zs_queue *queue_new(struct net_device *dev, int index, unsigned int order)
{
	struct zs_queue *queue = kzalloc(sizeof(*queue), GFP_KERNEL);
	int code;

	if (!queue)
		return ERR_PTR(-ENOMEM);
	skb_queue_head_init(&queue->arrivals);
	queue->dev = dev;
	queue->index = index;
	queue->order = order;
	queue->counters = &((struct zs_priv *)netdev_priv(dev))->counters[index];
	code = make_pool(queue);
	if (code) {
		kfree(queue);
		return ERR_PTR(code);
	}
	netif_napi_add_config_locked(dev, &queue->napi, zs_poll, index);
	return queue;
}

static void queue_free(struct zs_queue *queue)
{
	netif_napi_del_locked(&queue->napi);
	skb_queue_purge(&queue->arrivals);
	page_pool_destroy(queue->pool);
	kfree_rcu(queue, rcu);
}

static void queue_start(struct zs_priv *priv, struct zs_queue *queue)
{
	netif_queue_set_napi(priv->dev, queue->index, NETDEV_QUEUE_TYPE_RX, &queue->napi);
	napi_enable_locked(&queue->napi);
	smp_store_release(&priv->queues[queue->index], queue);
}

/* After it nobody puts packets into the queue, and its NAPI does not run. */
static struct zs_queue *queue_stop(struct zs_priv *priv, int index)
{
	struct zs_queue *queue = priv->queues[index];

	WRITE_ONCE(priv->queues[index], NULL);
	synchronize_net();
	napi_disable_locked(&queue->napi);
	netif_queue_set_napi(priv->dev, index, NETDEV_QUEUE_TYPE_RX, NULL);
	return queue;
}

int zs_open(struct net_device *dev)
{
	struct zs_priv *priv = netdev_priv(dev);

	for (unsigned int i = 0; i < dev->real_num_rx_queues; i++) {
		struct netdev_queue_config config;
		struct zs_queue *queue;

		/* A queue stays bound while the link is down, with the chunks that it was bound with. */
		netdev_queue_config(dev, i, &config);
		queue = queue_new(dev, i, get_order(config.rx_page_size));
		if (IS_ERR(queue)) {
			while (i--)
				queue_free(queue_stop(priv, i));
			return PTR_ERR(queue);
		}
		queue_start(priv, queue);
	}
	netif_tx_wake_all_queues(dev);
	netif_carrier_on(dev);
	return 0;
}

int zs_stop(struct net_device *dev)
{
	struct zs_priv *priv = netdev_priv(dev);

	netif_tx_disable(dev);
	netif_carrier_off(dev);
	for (unsigned int i = 0; i < dev->real_num_rx_queues; i++)
		if (priv->queues[i])
			queue_free(queue_stop(priv, i));
	zs_wire_clear(priv);
	return 0;
}

/* --- restart ------------------------------------------------------------------------------- */

struct restart {
	struct zs_queue *queue;
};

static void default_config(struct net_device *dev, struct netdev_queue_config *config)
{
	config->rx_page_size = PAGE_SIZE;
}

static int validate_config(struct net_device *dev, struct netdev_queue_config *config,
			   struct netlink_ext_ack *extack)
{
	if (is_power_of_2(config->rx_page_size) && config->rx_page_size >= PAGE_SIZE &&
	    config->rx_page_size <= SZ_64K)
		return 0;
	NL_SET_ERR_MSG(extack, "receive chunks must be a power of two from 4 KiB to 64 KiB");
	return -ERANGE;
}

static int restart_alloc(struct net_device *dev, struct netdev_queue_config *config, void *memory,
			 int index)
{
	struct zs_priv *priv = netdev_priv(dev);
	struct restart *restart = memory;
	unsigned int bytes = config && config->rx_page_size ? config->rx_page_size : PAGE_SIZE;
	struct zs_queue *queue;

	if (priv->faults.fail_restarts) {
		priv->faults.fail_restarts--;
		return -ENOMEM;
	}
	queue = queue_new(dev, index, get_order(bytes));
	if (IS_ERR(queue))
		return PTR_ERR(queue);
	restart->queue = queue;
	return 0;
}

static void restart_free(struct net_device *dev, void *memory)
{
	struct restart *restart = memory;

	if (restart->queue)
		queue_free(restart->queue);
}

static int restart_start(struct net_device *dev, struct netdev_queue_config *config, void *memory,
			 int index)
{
	struct zs_priv *priv = netdev_priv(dev);
	struct restart *restart = memory;

	queue_start(priv, restart->queue);
	return 0;
}

static int restart_stop(struct net_device *dev, void *memory, int index)
{
	struct restart *restart = memory;

	restart->queue = queue_stop(netdev_priv(dev), index);
	return 0;
}

const struct netdev_queue_mgmt_ops zs_queue_ops = {
	.ndo_queue_mem_size = sizeof(struct restart),
	.ndo_queue_mem_alloc = restart_alloc,
	.ndo_queue_mem_free = restart_free,
	.ndo_queue_start = restart_start,
	.ndo_queue_stop = restart_stop,
	.ndo_default_qcfg = default_config,
	.ndo_validate_qcfg = validate_config,
	.supported_params = QCFG_RX_PAGE_SIZE,
};

/* --- statistics (netdev family, qstats-get) ------------------------------------------------ */

static void stats_rx(struct net_device *dev, int index, struct netdev_queue_stats_rx *stats)
{
	const struct zs_priv *priv = netdev_priv(dev);
	const struct zs_counters *counters = &priv->counters[index];

	stats->packets = READ_ONCE(counters->packets);
	stats->bytes = READ_ONCE(counters->bytes);
	stats->alloc_fail = READ_ONCE(counters->alloc_fail);
	stats->hw_drops = READ_ONCE(counters->drops) + atomic64_read(&counters->overruns);
	stats->hw_drop_overruns = atomic64_read(&counters->overruns);
}

static void stats_tx(struct net_device *dev, int index, struct netdev_queue_stats_tx *stats)
{
	const struct zs_priv *priv = netdev_priv(dev);
	const struct zs_counters *counters = &priv->counters[index];

	stats->packets = READ_ONCE(counters->sent_packets);
	stats->bytes = READ_ONCE(counters->sent_bytes);
}

/* What queues have counted that are there no more. */
static void stats_base(struct net_device *dev, struct netdev_queue_stats_rx *rx,
		       struct netdev_queue_stats_tx *tx)
{
	struct netdev_queue_stats_rx one_rx;
	struct netdev_queue_stats_tx one_tx;

	/* Only what queues count: for all else, "not known" is the right answer. */
	rx->packets = rx->bytes = rx->alloc_fail = rx->hw_drops = rx->hw_drop_overruns = 0;
	tx->packets = tx->bytes = 0;
	for (unsigned int i = dev->real_num_rx_queues; i < ZS_MAX_QUEUES; i++) {
		stats_rx(dev, i, &one_rx);
		stats_tx(dev, i, &one_tx);
		rx->packets += one_rx.packets;
		rx->bytes += one_rx.bytes;
		rx->alloc_fail += one_rx.alloc_fail;
		rx->hw_drops += one_rx.hw_drops;
		rx->hw_drop_overruns += one_rx.hw_drop_overruns;
		tx->packets += one_tx.packets;
		tx->bytes += one_tx.bytes;
	}
}

/* What `ip -s link` shows. */
void zs_stats64(struct net_device *dev, struct rtnl_link_stats64 *stats)
{
	const struct zs_priv *priv = netdev_priv(dev);

	for (unsigned int i = 0; i < ZS_MAX_QUEUES; i++) {
		const struct zs_counters *counters = &priv->counters[i];

		stats->rx_packets += READ_ONCE(counters->packets);
		stats->rx_bytes += READ_ONCE(counters->bytes);
		stats->rx_dropped += READ_ONCE(counters->drops);
		stats->rx_missed_errors += atomic64_read(&counters->overruns);
		stats->tx_packets += READ_ONCE(counters->sent_packets);
		stats->tx_bytes += READ_ONCE(counters->sent_bytes);
	}
}

const struct netdev_stat_ops zs_stat_ops = {
	.get_queue_stats_rx = stats_rx,
	.get_queue_stats_tx = stats_tx,
	.get_base_stats = stats_base,
};

// SPDX-License-Identifier: GPL-2.0
/* ethtool.c - what `ethtool` may ask and set. */
#include "zcsim.h"

/* --- rings: header/data split -------------------------------------------------------------- */

static void get_rings(struct net_device *dev, struct ethtool_ringparam *ring,
		      struct kernel_ethtool_ringparam *kernel, struct netlink_ext_ack *extack)
{
	struct zs_priv *priv = netdev_priv(dev);

	ring->rx_max_pending = ring->tx_max_pending = ZS_RING_MAX;
	ring->rx_pending = priv->rx_pending;
	ring->tx_pending = priv->tx_pending;
	kernel->tcp_data_split = dev->cfg->hds_config;
	kernel->hds_thresh = dev->cfg->hds_thresh;
	kernel->hds_thresh_max = ZS_HDS_MAX;
}

static int set_rings(struct net_device *dev, struct ethtool_ringparam *ring,
		     struct kernel_ethtool_ringparam *kernel, struct netlink_ext_ack *extack)
{
	struct zs_priv *priv = netdev_priv(dev);

	if (kernel->tcp_data_split == ETHTOOL_TCP_DATA_SPLIT_ENABLED && priv->faults.refuse_split) {
		NL_SET_ERR_MSG(extack, "this device cannot split headers from data");
		return -EOPNOTSUPP;
	}
	if (ring->rx_pending < ZS_RING_MIN || ring->tx_pending < ZS_RING_MIN) {
		NL_SET_ERR_MSG(extack, "a ring has at least 64 entries");
		return -EINVAL;
	}
	WRITE_ONCE(priv->rx_pending, ring->rx_pending);
	WRITE_ONCE(priv->tx_pending, ring->tx_pending);
	/* The core keeps them too, in dev->cfg. */
	WRITE_ONCE(priv->split, kernel->tcp_data_split == ETHTOOL_TCP_DATA_SPLIT_ENABLED);
	WRITE_ONCE(priv->hds_thresh, kernel->hds_thresh);
	return 0;
}

/* --- channels ------------------------------------------------------------------------------ */

static void get_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	channels->max_combined = ZS_MAX_QUEUES;
	channels->combined_count = dev->real_num_rx_queues;
}

static int set_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	bool running = netif_running(dev);
	int code;

	if (running)
		zs_stop(dev);
	code = netif_set_real_num_queues(dev, channels->combined_count, channels->combined_count);
	if (!code && !netif_is_rxfh_configured(dev))
		zs_indir_reset(netdev_priv(dev));
	if (running) {
		int again = zs_open(dev);

		if (again)
			netif_close(dev);
		code = code ? code : again;
	}
	return code;
}

/* --- RSS ----------------------------------------------------------------------------------- */

static u32 indir_size(struct net_device *dev)
{
	return ZS_INDIR;
}

static u32 key_size(struct net_device *dev)
{
	return ZS_KEY_BYTES;
}

static int get_rss(struct net_device *dev, struct ethtool_rxfh_param *rss)
{
	struct zs_priv *priv = netdev_priv(dev);

	rss->hfunc = ETH_RSS_HASH_TOP;
	if (rss->indir)
		memcpy(rss->indir, priv->indir, sizeof(priv->indir));
	if (rss->key)
		memcpy(rss->key, priv->key, sizeof(priv->key));
	return 0;
}

static int set_rss(struct net_device *dev, struct ethtool_rxfh_param *rss,
		   struct netlink_ext_ack *extack)
{
	struct zs_priv *priv = netdev_priv(dev);

	if (rss->hfunc != ETH_RSS_HASH_NO_CHANGE && rss->hfunc != ETH_RSS_HASH_TOP)
		return -EOPNOTSUPP;
	if (rss->indir)
		memcpy(priv->indir, rss->indir, sizeof(priv->indir));
	if (rss->key)
		memcpy(priv->key, rss->key, sizeof(priv->key));
	return 0;
}

static int set_context(struct net_device *dev, struct ethtool_rxfh_context *context,
		       const struct ethtool_rxfh_param *rss, struct netlink_ext_ack *extack)
{
	struct zs_priv *priv = netdev_priv(dev);
	u32 *table = priv->context_indir[rss->rss_context];

	if (rss->indir)
		memcpy(table, rss->indir, sizeof(priv->indir));
	return 0;
}

static int create_context(struct net_device *dev, struct ethtool_rxfh_context *context,
			  const struct ethtool_rxfh_param *rss, struct netlink_ext_ack *extack)
{
	struct zs_priv *priv = netdev_priv(dev);

	if (!rss->indir) {
		memcpy(priv->context_indir[rss->rss_context], priv->indir, sizeof(priv->indir));
		memcpy(ethtool_rxfh_context_indir(context), priv->indir, sizeof(priv->indir));
	}
	return set_context(dev, context, rss, extack);
}

static int remove_context(struct net_device *dev, struct ethtool_rxfh_context *context, u32 number,
			  struct netlink_ext_ack *extack)
{
	return 0;
}

/* --- rules --------------------------------------------------------------------------------- */

static u32 ring_count(struct net_device *dev)
{
	return dev->real_num_rx_queues;
}

static int get_rules(struct net_device *dev, struct ethtool_rxnfc *cmd, u32 *locations)
{
	struct zs_priv *priv = netdev_priv(dev);

	switch (cmd->cmd) {
	case ETHTOOL_GRXCLSRLCNT:
		cmd->rule_cnt = zs_rule_list(priv, NULL, 0);
		cmd->data = ZS_RULES | RX_CLS_LOC_SPECIAL;
		return 0;
	case ETHTOOL_GRXCLSRULE:
		return zs_rule_get(priv, cmd);
	case ETHTOOL_GRXCLSRLALL:
		if (zs_rule_list(priv, NULL, 0) > cmd->rule_cnt)
			return -EMSGSIZE;
		cmd->rule_cnt = zs_rule_list(priv, locations, cmd->rule_cnt);
		cmd->data = ZS_RULES;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int set_rules(struct net_device *dev, struct ethtool_rxnfc *cmd)
{
	struct zs_priv *priv = netdev_priv(dev);

	switch (cmd->cmd) {
	case ETHTOOL_SRXCLSRLINS:
		return zs_rule_insert(priv, cmd);
	case ETHTOOL_SRXCLSRLDEL:
		return zs_rule_delete(priv, cmd->fs.location);
	default:
		return -EOPNOTSUPP;
	}
}

/* --- statistics ---------------------------------------------------------------------------- */

static const char *const names[] = {"packets",    "bytes", "placed_bytes", "linear",
				    "alloc_fail", "drops", "overruns"};
#define PER_QUEUE ARRAY_SIZE(names)

static int stats_count(struct net_device *dev, int set)
{
	return set == ETH_SS_STATS ? dev->real_num_rx_queues * PER_QUEUE : -EOPNOTSUPP;
}

static void stats_names(struct net_device *dev, u32 set, u8 *data)
{
	for (unsigned int q = 0; set == ETH_SS_STATS && q < dev->real_num_rx_queues; q++)
		for (unsigned int i = 0; i < PER_QUEUE; i++)
			ethtool_sprintf(&data, "rx%u_%s", q, names[i]);
}

static void stats_values(struct net_device *dev, struct ethtool_stats *stats, u64 *values)
{
	struct zs_priv *priv = netdev_priv(dev);

	for (unsigned int q = 0; q < dev->real_num_rx_queues; q++, values += PER_QUEUE) {
		const struct zs_counters *counters = &priv->counters[q];

		values[0] = counters->packets;
		values[1] = counters->bytes;
		values[2] = counters->placed_bytes;
		values[3] = counters->linear_bytes;
		values[4] = counters->alloc_fail;
		values[5] = counters->drops;
		values[6] = atomic64_read(&counters->overruns);
	}
}

static void get_driver(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, "zcsim", sizeof(info->driver));
	strscpy(info->bus_info, dev_name(&zs_parent->dev), sizeof(info->bus_info));
}

const struct ethtool_ops zs_ethtool_ops = {
	.supported_ring_params = ETHTOOL_RING_USE_TCP_DATA_SPLIT | ETHTOOL_RING_USE_HDS_THRS,
	.rxfh_max_num_contexts = ZS_CONTEXTS + 1,
	.cap_rss_rxnfc_adds = 1,
	/* These change what only RTNL protects. */
	.op_needs_rtnl = ETHTOOL_OP_NEEDS_RTNL_SCHANNELS | ETHTOOL_OP_NEEDS_RTNL_GLINK,
	.get_drvinfo = get_driver,
	.get_link = ethtool_op_get_link,
	.get_ringparam = get_rings,
	.set_ringparam = set_rings,
	.get_channels = get_channels,
	.set_channels = set_channels,
	.get_rxfh_indir_size = indir_size,
	.get_rxfh_key_size = key_size,
	.get_rxfh = get_rss,
	.set_rxfh = set_rss,
	.create_rxfh_context = create_context,
	.modify_rxfh_context = set_context,
	.remove_rxfh_context = remove_context,
	.get_rx_ring_count = ring_count,
	.get_rxnfc = get_rules,
	.set_rxnfc = set_rules,
	.get_sset_count = stats_count,
	.get_strings = stats_names,
	.get_ethtool_stats = stats_values,
};

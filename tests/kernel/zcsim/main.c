// SPDX-License-Identifier: GPL-2.0
/* main.c - the module, its devices, fault knobs. */
#include <linux/bpf.h>
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>

#include "zcsim.h"

static unsigned int pairs = 1;
module_param(pairs, uint, 0444);
MODULE_PARM_DESC(pairs, "pairs of devices: zc0 and zc1, zc2 and zc3, ...");

static unsigned int queues = 4;
module_param(queues, uint, 0444);
MODULE_PARM_DESC(queues, "receive queues of a device");

#define MAX_PAIRS 8

struct platform_device *zs_parent;
static struct net_device *devices[2 * MAX_PAIRS];
static struct dentry *debugfs;

/* XDP programs are taken and not run: they are here so that binding a queue finds one. The core
 * refuses them while a queue is bound. */
static int zs_bpf(struct net_device *dev, struct netdev_bpf *bpf)
{
	struct zs_priv *priv = netdev_priv(dev);

	if (bpf->command != XDP_SETUP_PROG)
		return -EINVAL;
	if (priv->xdp)
		bpf_prog_put(priv->xdp);
	priv->xdp = bpf->prog;
	return 0;
}

static const struct net_device_ops zs_device_ops = {
	.ndo_open = zs_open,
	.ndo_stop = zs_stop,
	.ndo_start_xmit = zs_transmit,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_bpf = zs_bpf,
	.ndo_get_stats64 = zs_stats64,
};

static struct net_device *new_device(unsigned int number)
{
	struct net_device *dev =
		alloc_etherdev_mqs(sizeof(struct zs_priv), ZS_MAX_QUEUES, ZS_MAX_QUEUES);
	struct zs_priv *priv;

	if (!dev)
		return NULL;
	priv = netdev_priv(dev);
	SET_NETDEV_DEV(dev, &zs_parent->dev);
	snprintf(dev->name, IFNAMSIZ, "zc%u", number);
	dev->netdev_ops = &zs_device_ops;
	dev->ethtool_ops = &zs_ethtool_ops;
	dev->queue_mgmt_ops = &zs_queue_ops;
	dev->stat_ops = &zs_stat_ops;
	/* A packet waits in a list: nobody else may use it meanwhile. And netpoll sends with interrupts
	 * off, where the locks of the fault knobs cannot be taken. */
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	dev->priv_flags |= IFF_DISABLE_NETPOLL;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = 9000;
	dev->hw_features =
		NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_NTUPLE;
	dev->features = dev->hw_features & ~NETIF_F_NTUPLE;
	dev->vlan_features = dev->features;
	eth_hw_addr_random(dev);
	netif_set_real_num_rx_queues(dev, queues);
	netif_set_real_num_tx_queues(dev, queues);
	priv->dev = dev;
	priv->rx_pending = priv->tx_pending = 1024;
	zs_wire_init(priv);
	netdev_rss_key_fill(priv->key, sizeof(priv->key));
	zs_indir_reset(priv);
	return dev;
}

static void make_knobs(struct zs_priv *priv)
{
	struct zs_faults *faults = &priv->faults;

	priv->debugfs = debugfs_create_dir(priv->dev->name, debugfs);
	debugfs_create_u32("drop_every", 0600, priv->debugfs, &faults->drop_every);
	debugfs_create_u32("reorder_every", 0600, priv->debugfs, &faults->reorder_every);
	debugfs_create_bool("linear", 0600, priv->debugfs, &faults->linear);
	debugfs_create_bool("share", 0600, priv->debugfs, &faults->share);
	debugfs_create_bool("refuse_split", 0600, priv->debugfs, &faults->refuse_split);
	debugfs_create_u32("fail_restarts", 0600, priv->debugfs, &faults->fail_restarts);
	debugfs_create_u32("delay_us", 0600, priv->debugfs, &faults->delay_us);
}

static void forget_devices(void)
{
	for (unsigned int i = 0; i < 2 * pairs; i++) {
		if (!devices[i])
			continue;
		if (devices[i]->reg_state == NETREG_REGISTERED)
			unregister_netdev(devices[i]);
	}
	for (unsigned int i = 0; i < 2 * pairs; i++)
		if (devices[i])
			free_netdev(devices[i]);
}

static int make_pair(unsigned int number)
{
	struct net_device **pair = &devices[2 * number];

	for (unsigned int i = 0; i < 2; i++) {
		pair[i] = new_device(2 * number + i);
		if (!pair[i])
			return -ENOMEM;
	}
	for (unsigned int i = 0; i < 2; i++) {
		struct zs_priv *priv = netdev_priv(pair[i]);
		int code;

		priv->peer = pair[!i];
		code = register_netdev(pair[i]);
		if (code)
			return code;
		make_knobs(priv);
	}
	return 0;
}

static int __init zs_init(void)
{
	int code = 0;

	if (!pairs || pairs > MAX_PAIRS || !queues || queues > ZS_MAX_QUEUES)
		return -EINVAL;
	zs_parent = platform_device_register_simple("zcsim", 0, NULL, 0);
	if (IS_ERR(zs_parent))
		return PTR_ERR(zs_parent);
	dma_coerce_mask_and_coherent(&zs_parent->dev, DMA_BIT_MASK(64));
	debugfs = debugfs_create_dir("zcsim", NULL);
	for (unsigned int i = 0; i < pairs && !code; i++)
		code = make_pair(i);
	if (code) {
		debugfs_remove_recursive(debugfs);
		forget_devices();
		platform_device_unregister(zs_parent);
	}
	return code;
}

static void __exit zs_exit(void)
{
	debugfs_remove_recursive(debugfs);
	forget_devices();
	platform_device_unregister(zs_parent);
}

module_init(zs_init);
module_exit(zs_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A software NIC for io_uring zero-copy receive");
MODULE_IMPORT_NS("NETDEV_INTERNAL");

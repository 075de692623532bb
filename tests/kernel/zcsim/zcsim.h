/* SPDX-License-Identifier: GPL-2.0 */
/*
 * zcsim - a software NIC that the kernel accepts for io_uring zero-copy receive.
 *
 * Devices come in pairs, joined back to back. What is sent on one is received by the other as by
 * hardware with header/data split: headers in ordinary memory, TCP payload in chunks of the
 * receive queue's page pool. If an io_uring is bound to the queue, these chunks are its area.
 * "DMA" is a memcpy to the chunk's DMA address, which without an IOMMU is its physical one.
 *
 *   main.c      the module, its devices, fault knobs
 *   transmit.c  packets leave: to which queue of the peer, when, or nowhere
 *   receive.c   packets arrive: headers here, payload there
 *   queue.c     receive queues: page pools, NAPI, restart with an io_uring's memory
 *   steer.c     which queue: rules, RSS tables and contexts
 *   ethtool.c   what `ethtool` may ask and set
 */
#ifndef ZCSIM_H
#define ZCSIM_H

#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/hrtimer.h>
#include <linux/netdevice.h>
#include <linux/platform_device.h>
#include <net/netdev_lock.h>
#include <net/netdev_queues.h>
#include <net/netdev_rx_queue.h>
#include <net/page_pool/helpers.h>

#define ZS_MAX_QUEUES 16
#define ZS_INDIR 128
#define ZS_KEY_BYTES 40
#define ZS_RULES 64
#define ZS_CONTEXTS 8
#define ZS_HDS_MAX 1024
#define ZS_RING_MIN 64
#define ZS_RING_MAX 4096

/* Of a queue's number: they outlive restarts. */
struct zs_counters {
	/* written by its NAPI alone */
	u64 packets, bytes; /* passed to the stack */
	u64 placed_bytes;   /* payload that went to the pool's chunks */
	u64 linear_bytes;   /* of packets that stayed with their headers */
	u64 alloc_fail, drops;
	/* written under the lock of the transmit queue of this number */
	u64 sent_packets, sent_bytes;
	atomic64_t overruns; /* packets that found the receive ring full */
};

struct zs_queue {
	struct napi_struct napi;
	struct page_pool *pool;
	struct sk_buff_head arrivals; /* as the peer sent them */
	struct net_device *dev;
	int index;
	unsigned int order; /* of a chunk */
	struct zs_counters *counters;
	struct rcu_head rcu;
};

struct zs_flow { /* of a TCP packet */
	bool v6;
	struct in6_addr source, destination; /* v4: the first word */
	__be16 source_port, destination_port;
};

struct zs_rule {
	bool used;
	struct ethtool_rx_flow_spec spec;
	u32 context; /* RSS context; 0: spec.ring_cookie is the queue */
};

/* Faults, in debugfs. */
struct zs_faults {
	u32 drop_every;    /* n: every n-th packet is lost */
	u32 reorder_every; /* n: every n-th packet comes after its successor */
	bool linear;       /* payload stays in linear memory: the kernel must copy */
	bool share;        /* several packets in a chunk */
	bool refuse_split; /* tcp-data-split cannot be switched on */
	u32 fail_restarts; /* so many restarts of a queue fail */
	u32 delay_us;      /* a packet travels so long */
};

struct zs_priv {
	struct net_device *dev, *peer;
	struct zs_queue *queues[ZS_MAX_QUEUES];
	struct zs_counters counters[ZS_MAX_QUEUES];
	u32 indir[ZS_INDIR];
	u32 context_indir[ZS_CONTEXTS + 1][ZS_INDIR]; /* by context, from 1 */
	u8 key[ZS_KEY_BYTES];
	struct zs_rule rules[ZS_RULES];
	/* ring sizes: packets that wait for a queue's NAPI; that are on their way, with a delay */
	u32 rx_pending, tx_pending;
	/* Copies: the core replaces dev->cfg without waiting for who reads it. */
	bool split;
	u32 hds_thresh;
	struct bpf_prog *xdp;
	struct zs_faults faults;
	atomic_t sent;        /* packets, for the faults */
	struct sk_buff *held; /* waits for its successor */
	spinlock_t held_lock;
	struct sk_buff_head late; /* wait for their time, in order; its lock covers the next two */
	bool arriving;            /* some of them are being delivered */
	struct hrtimer late_timer;
	struct dentry *debugfs;
};

extern struct platform_device *zs_parent;

/* transmit.c */
netdev_tx_t zs_transmit(struct sk_buff *skb, struct net_device *dev);
void zs_wire_init(struct zs_priv *priv);
/* Drops what is on its way. Nobody may be transmitting. */
void zs_wire_clear(struct zs_priv *priv);
/* receive.c */
int zs_poll(struct napi_struct *napi, int budget);
/* True if it is TCP; `header_bytes` then covers everything before the payload. */
bool zs_parse(const struct sk_buff *skb, unsigned int *header_bytes, struct zs_flow *flow);
/* queue.c */
extern const struct netdev_queue_mgmt_ops zs_queue_ops;
extern const struct netdev_stat_ops zs_stat_ops;
int zs_open(struct net_device *dev);
int zs_stop(struct net_device *dev);
void zs_stats64(struct net_device *dev, struct rtnl_link_stats64 *stats);
/* steer.c */
int zs_steer(const struct zs_priv *priv, const struct zs_flow *flow);
int zs_rule_insert(struct zs_priv *priv, struct ethtool_rxnfc *cmd);
int zs_rule_delete(struct zs_priv *priv, u32 location);
int zs_rule_get(struct zs_priv *priv, struct ethtool_rxnfc *cmd);
u32 zs_rule_list(struct zs_priv *priv, u32 *locations, u32 room);
void zs_indir_reset(struct zs_priv *priv);
/* ethtool.c */
extern const struct ethtool_ops zs_ethtool_ops;

#endif

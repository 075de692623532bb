// SPDX-License-Identifier: GPL-2.0
/* receive.c - packets arrive: headers here, payload there. */
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <net/ip.h>
#include <net/ipv6.h>

#include "zcsim.h"

static bool parse_tcp(const struct sk_buff *skb, unsigned int at, unsigned int *header_bytes,
		      struct zs_flow *flow)
{
	struct tcphdr space;
	const struct tcphdr *tcp = skb_header_pointer(skb, at, sizeof(space), &space);

	if (!tcp || tcp->doff < 5 || at + tcp->doff * 4 > skb->len)
		return false;
	flow->source_port = tcp->source;
	flow->destination_port = tcp->dest;
	*header_bytes = at + tcp->doff * 4;
	return true;
}

static bool parse_v4(const struct sk_buff *skb, unsigned int *header_bytes, struct zs_flow *flow)
{
	struct iphdr space;
	const struct iphdr *ip = skb_header_pointer(skb, ETH_HLEN, sizeof(space), &space);

	if (!ip || ip->version != 4 || ip->ihl < 5 || ip->protocol != IPPROTO_TCP ||
	    ip_is_fragment(ip))
		return false;
	flow->source.s6_addr32[0] = ip->saddr;
	flow->destination.s6_addr32[0] = ip->daddr;
	return parse_tcp(skb, ETH_HLEN + ip->ihl * 4, header_bytes, flow);
}

static bool parse_v6(const struct sk_buff *skb, unsigned int *header_bytes, struct zs_flow *flow)
{
	struct ipv6hdr space;
	const struct ipv6hdr *ip = skb_header_pointer(skb, ETH_HLEN, sizeof(space), &space);

	if (!ip || ip->version != 6 || ip->nexthdr != IPPROTO_TCP)
		return false;
	flow->v6 = true;
	flow->source = ip->saddr;
	flow->destination = ip->daddr;
	return parse_tcp(skb, ETH_HLEN + sizeof(*ip), header_bytes, flow);
}

bool zs_parse(const struct sk_buff *skb, unsigned int *header_bytes, struct zs_flow *flow)
{
	memset(flow, 0, sizeof(*flow));
	switch (eth_hdr(skb)->h_proto) {
	case htons(ETH_P_IP):
		return parse_v4(skb, header_bytes, flow);
	case htons(ETH_P_IPV6):
		return parse_v6(skb, header_bytes, flow);
	default:
		return false;
	}
}

/* How many bytes of a packet stay in linear memory. */
static unsigned int linear_bytes(const struct zs_queue *queue, const struct sk_buff *sent)
{
	const struct zs_priv *priv = netdev_priv(queue->dev);
	struct zs_flow flow;
	unsigned int header_bytes;

	if (!zs_parse(sent, &header_bytes, &flow) || priv->faults.linear ||
	    !READ_ONCE(priv->split) || sent->len - header_bytes <= READ_ONCE(priv->hds_thresh))
		return sent->len;
	return header_bytes;
}

/* Writes payload to where the pool gives room; 0 or -ENOMEM. */
static int place(struct zs_queue *queue, struct sk_buff *skb, const struct sk_buff *sent,
		 unsigned int from)
{
	const struct zs_priv *priv = netdev_priv(queue->dev);
	unsigned int chunk = PAGE_SIZE << queue->order;

	while (from < sent->len) {
		unsigned int bytes = min(chunk, sent->len - from), size = chunk, offset = 0;
		int n = skb_shinfo(skb)->nr_frags;
		netmem_ref netmem;
		dma_addr_t at;

		if (n == MAX_SKB_FRAGS)
			return -ENOMEM;
		if (priv->faults.share)
			size = bytes;
		netmem = page_pool_dev_alloc_netmem(queue->pool, &offset, &size);
		if (!netmem)
			return -ENOMEM;
		at = page_pool_get_dma_addr_netmem(netmem);
		/* A device's own memory, which this processor cannot write to. */
		if (!pfn_valid(PHYS_PFN(at))) {
			page_pool_put_full_netmem(queue->pool, netmem, true);
			return -ENOMEM;
		}
		if (skb_copy_bits(sent, from, phys_to_virt(at + offset), bytes))
			WARN_ON_ONCE(1);
		/* Charged as drivers do: with the whole chunk, unless it is shared. */
		skb_add_rx_frag_netmem(skb, n, netmem, offset, bytes, size);
		queue->counters->placed_bytes += bytes;
		from += bytes;
	}
	return 0;
}

/* The sender leaves checksums to be filled in, and nobody does: so they still are. */
static void checksum(struct sk_buff *skb, const struct sk_buff *sent)
{
	if (sent->ip_summed == CHECKSUM_PARTIAL) {
		skb->ip_summed = CHECKSUM_PARTIAL;
		skb->csum_start = skb_headroom(skb) + skb_checksum_start_offset(sent);
		skb->csum_offset = sent->csum_offset;
	} else {
		skb->ip_summed = CHECKSUM_NONE;
	}
}

static void finish(struct zs_queue *queue, struct sk_buff *skb, const struct sk_buff *sent)
{
	/* What was sent as one large segment arrives as what a NIC's own GRO would make of it. */
	if (skb_is_gso(sent)) {
		skb_shinfo(skb)->gso_size = skb_shinfo(sent)->gso_size;
		skb_shinfo(skb)->gso_type = skb_shinfo(sent)->gso_type;
		skb_shinfo(skb)->gso_segs = skb_shinfo(sent)->gso_segs;
	}
	skb_mark_for_recycle(skb);
	checksum(skb, sent);
	skb->protocol = eth_type_trans(skb, queue->dev);
	skb_record_rx_queue(skb, queue->index);
	napi_gro_receive(&queue->napi, skb);
}

static void receive(struct zs_queue *queue, struct sk_buff *sent)
{
	unsigned int linear = linear_bytes(queue, sent);
	struct sk_buff *skb = napi_alloc_skb(&queue->napi, linear);

	if (!skb) {
		queue->counters->alloc_fail++;
		queue->counters->drops++;
		return;
	}
	skb_copy_bits(sent, 0, skb_put(skb, linear), linear);
	if (place(queue, skb, sent, linear)) {
		queue->counters->alloc_fail++;
		queue->counters->drops++;
		/* Its chunks are the pool's: they must go back there, and not to the page allocator. */
		skb_mark_for_recycle(skb);
		kfree_skb(skb);
		return;
	}
	if (linear > ETH_HLEN && linear == sent->len)
		queue->counters->linear_bytes += linear;
	queue->counters->packets++;
	queue->counters->bytes += sent->len;
	finish(queue, skb, sent);
}

int zs_poll(struct napi_struct *napi, int budget)
{
	struct zs_queue *queue = container_of(napi, struct zs_queue, napi);
	struct sk_buff *sent;
	int done = 0;

	while (done < budget && (sent = skb_dequeue(&queue->arrivals))) {
		receive(queue, sent);
		dev_consume_skb_any(sent);
		done++;
	}
	if (done < budget && napi_complete_done(napi, done) && !skb_queue_empty(&queue->arrivals))
		napi_schedule(napi);
	return done;
}

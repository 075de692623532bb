// SPDX-License-Identifier: GPL-2.0
/* steer.c - which queue: rules first, then the RSS table. */
#include <linux/jhash.h>

#include "zcsim.h"

void zs_indir_reset(struct zs_priv *priv)
{
	for (unsigned int i = 0; i < ZS_INDIR; i++)
		priv->indir[i] = ethtool_rxfh_indir_default(i, priv->dev->real_num_rx_queues);
}

static bool same(__be32 value, __be32 wanted, __be32 mask)
{
	return !((value ^ wanted) & mask);
}

static bool same16(__be16 value, __be16 wanted, __be16 mask)
{
	return !((value ^ wanted) & mask);
}

static bool same_v6(const struct in6_addr *value, const __be32 *wanted, const __be32 *mask)
{
	for (int i = 0; i < 4; i++)
		if (!same(value->s6_addr32[i], wanted[i], mask[i]))
			return false;
	return true;
}

static bool matches_v4(const struct ethtool_rx_flow_spec *spec, const struct zs_flow *flow)
{
	const struct ethtool_tcpip4_spec *h = &spec->h_u.tcp_ip4_spec, *m = &spec->m_u.tcp_ip4_spec;

	return !flow->v6 && same(flow->source.s6_addr32[0], h->ip4src, m->ip4src) &&
	       same(flow->destination.s6_addr32[0], h->ip4dst, m->ip4dst) &&
	       same16(flow->source_port, h->psrc, m->psrc) &&
	       same16(flow->destination_port, h->pdst, m->pdst);
}

static bool matches_v6(const struct ethtool_rx_flow_spec *spec, const struct zs_flow *flow)
{
	const struct ethtool_tcpip6_spec *h = &spec->h_u.tcp_ip6_spec, *m = &spec->m_u.tcp_ip6_spec;

	return flow->v6 && same_v6(&flow->source, h->ip6src, m->ip6src) &&
	       same_v6(&flow->destination, h->ip6dst, m->ip6dst) &&
	       same16(flow->source_port, h->psrc, m->psrc) &&
	       same16(flow->destination_port, h->pdst, m->pdst);
}

static bool matches(const struct ethtool_rx_flow_spec *spec, const struct zs_flow *flow)
{
	return (spec->flow_type & ~(FLOW_EXT | FLOW_MAC_EXT | FLOW_RSS)) == TCP_V6_FLOW
		       ? matches_v6(spec, flow)
		       : matches_v4(spec, flow);
}

static u32 hash_of(const struct zs_flow *flow)
{
	u32 hash = jhash(&flow->source, sizeof(flow->source), 0);

	hash = jhash(&flow->destination, sizeof(flow->destination), hash);
	return jhash_2words((__force u32)flow->source_port, (__force u32)flow->destination_port,
			    hash);
}

int zs_steer(const struct zs_priv *priv, const struct zs_flow *flow)
{
	u32 at = hash_of(flow) % ZS_INDIR, queue = priv->indir[at];

	for (unsigned int i = 0; priv->dev->features & NETIF_F_NTUPLE && i < ZS_RULES; i++) {
		const struct zs_rule *rule = &priv->rules[i];

		/* Pairs with the release in zs_rule_insert(): then the rule is whole. */
		if (!smp_load_acquire(&rule->used) || !matches(&rule->spec, flow))
			continue;
		queue = ethtool_get_flow_spec_ring(rule->spec.ring_cookie);
		/* A rule that names a context adds its queue number to what the context says. */
		if (rule->context)
			queue += priv->context_indir[rule->context][at];
		break;
	}
	return queue < priv->dev->real_num_rx_queues ? queue : 0;
}

/* --- rules --------------------------------------------------------------------------------- */

/* Type of service, traffic class: not looked at. */
static bool has_class(const struct ethtool_rx_flow_spec *spec, u32 type)
{
	return type == TCP_V4_FLOW ? spec->m_u.tcp_ip4_spec.tos : spec->m_u.tcp_ip6_spec.tclass;
}

static int check_rule(const struct zs_priv *priv, const struct ethtool_rxnfc *cmd)
{
	const struct ethtool_rx_flow_spec *spec = &cmd->fs;
	u32 type = spec->flow_type & ~FLOW_RSS;
	u32 context = spec->flow_type & FLOW_RSS ? cmd->rss_context : 0;

	if (type != TCP_V4_FLOW && type != TCP_V6_FLOW)
		return -EOPNOTSUPP;
	if (spec->ring_cookie == RX_CLS_FLOW_DISC || context > ZS_CONTEXTS ||
	    ethtool_get_flow_spec_ring_vf(spec->ring_cookie) || has_class(spec, type))
		return -EOPNOTSUPP;
	if (spec->location >= ZS_RULES && spec->location != RX_CLS_LOC_ANY)
		return -EINVAL;
	if (ethtool_get_flow_spec_ring(spec->ring_cookie) >= priv->dev->real_num_rx_queues)
		return -EINVAL;
	return 0;
}

int zs_rule_insert(struct zs_priv *priv, struct ethtool_rxnfc *cmd)
{
	u32 location = cmd->fs.location;
	int code = check_rule(priv, cmd);

	if (code)
		return code;
	if (location == RX_CLS_LOC_ANY) {
		for (location = 0; location < ZS_RULES && priv->rules[location].used; location++)
			;
	}
	if (location >= ZS_RULES)
		return -ENOSPC;
	WRITE_ONCE(priv->rules[location].used, false);
	synchronize_net();
	priv->rules[location].spec = cmd->fs;
	priv->rules[location].spec.location = location;
	priv->rules[location].context = cmd->fs.flow_type & FLOW_RSS ? cmd->rss_context : 0;
	smp_store_release(&priv->rules[location].used, true);
	cmd->fs.location = location;
	return 0;
}

int zs_rule_delete(struct zs_priv *priv, u32 location)
{
	if (location >= ZS_RULES || !priv->rules[location].used)
		return -ENOENT;
	WRITE_ONCE(priv->rules[location].used, false);
	synchronize_net();
	return 0;
}

int zs_rule_get(struct zs_priv *priv, struct ethtool_rxnfc *cmd)
{
	u32 location = cmd->fs.location;

	if (location >= ZS_RULES || !priv->rules[location].used)
		return -ENOENT;
	cmd->fs = priv->rules[location].spec;
	cmd->rss_context = priv->rules[location].context;
	return 0;
}

u32 zs_rule_list(struct zs_priv *priv, u32 *locations, u32 room)
{
	u32 n = 0;

	for (u32 i = 0; i < ZS_RULES; i++) {
		if (!priv->rules[i].used)
			continue;
		if (locations && n < room)
			locations[n] = i;
		n++;
	}
	return n;
}

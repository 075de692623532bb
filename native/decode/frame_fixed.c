/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_fixed.c - every message has the same number of bytes.
 *
 * With blocks, a row is as many whole messages as lie together.
 */
#include "frame_measured.h"

static inline int measure(const struct za_framing *framing, const uint8_t *data, size_t len,
			  struct za_measure *out)
{
	(void)data;
	(void)len;
	out->start = 0;
	out->total = out->length = framing->fixed_bytes;
	return 0;
}

static int fixed_scan(const struct za_framing *framing, const uint8_t *data, size_t len,
		      size_t from, struct za_bound *bounds, uint32_t room, size_t *consumed)
{
	size_t whole = len - len % framing->fixed_bytes;

	(void)from;
	if (!framing->blocks)
		return za_measured_scan(framing, data, len, bounds, room, consumed, measure);
	*consumed = 0;
	if (!whole || !room)
		return 0;
	bounds[0] = (struct za_bound){.start = 0, .length = (uint32_t)whole};
	*consumed = whole;
	return 1;
}

static int fixed_extend(const struct za_framing *framing, const uint8_t *head, size_t head_len,
			const uint8_t *next, size_t next_len, size_t *taken, bool *whole)
{
	(void)next;
	return za_measured_extend(framing, head, head_len, next_len, taken, whole, measure);
}

const struct za_framing_ops za_framing_fixed = {
	.name = "fixed-size",
	.broken = "",
	.scan = fixed_scan,
	.extend = fixed_extend,
	.finish = za_measured_finish,
};

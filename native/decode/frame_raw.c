/* SPDX-License-Identifier: Apache-2.0 */
/* frame_raw.c - no framing: a message is the bytes of one fragment. */
#include "frame.h"

static int raw_scan(const struct za_framing *framing, const uint8_t *data, size_t len, size_t from,
		    struct za_bound *bounds, uint32_t room, size_t *consumed)
{
	(void)framing;
	(void)data;
	(void)from;
	*consumed = 0;
	if (!len || !room)
		return 0;
	bounds[0] = (struct za_bound){.start = 0, .length = (uint32_t)len};
	*consumed = len;
	return 1;
}

/* Never called with bytes: a raw message is never unfinished. */
static int raw_extend(const struct za_framing *framing, const uint8_t *head, size_t head_len,
		      const uint8_t *next, size_t next_len, size_t *taken, bool *whole)
{
	(void)framing;
	(void)head;
	(void)head_len;
	(void)next;
	*taken = next_len;
	*whole = true;
	return 0;
}

static bool raw_finish(const struct za_framing *framing, const uint8_t *head, size_t head_len,
		       struct za_bound *bound)
{
	(void)framing;
	(void)head;
	*bound = (struct za_bound){.start = 0, .length = (uint32_t)head_len};
	return head_len > 0;
}

const struct za_framing_ops za_framing_raw = {
	.name = "raw",
	.broken = "",
	.whole = true,
	.scan = raw_scan,
	.extend = raw_extend,
	.finish = raw_finish,
};

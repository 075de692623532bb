/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_measured.h - framings whose messages say at their beginning how long they are.
 *
 * Such a framing only needs to *measure*: to say from a message's first bytes where its payload
 * lies and where it ends. Cutting and continuing across a seam follow from that. The functions are
 * inlined into each framing, so that measuring is no call.
 */
#ifndef ZA_DECODE_FRAME_MEASURED_H
#define ZA_DECODE_FRAME_MEASURED_H

#include "frame.h"

struct za_measure {
	size_t need;   /* 0: all is known; else how many bytes must be there to say more */
	size_t total;  /* of the message with all that belongs to it; at least 1 */
	size_t start;  /* of its payload */
	size_t length; /* of its payload */
};

/* Measures the message that begins at data[0]; len > 0. 0, -EMSGSIZE or -EBADMSG. */
typedef int (*za_measure_fn)(const struct za_framing *framing, const uint8_t *data, size_t len,
			     struct za_measure *out);

static inline __attribute__((always_inline)) int
za_measured_scan(const struct za_framing *framing, const uint8_t *data, size_t len,
		 struct za_bound *bounds, uint32_t room, size_t *consumed, za_measure_fn measure)
{
	uint32_t n = 0;
	size_t at = 0;
	int code = 0;

	while (n < room && at < len) {
		struct za_measure m = {0};

		code = measure(framing, data + at, len - at, &m);
		if (code || m.need || m.total > len - at)
			break;
		bounds[n++] = (struct za_bound){.start = (uint32_t)(at + m.start),
						.length = (uint32_t)m.length};
		at += m.total;
	}
	*consumed = at;
	return n ? (int)n : code;
}

static inline __attribute__((always_inline)) int
za_measured_extend(const struct za_framing *framing, const uint8_t *head, size_t head_len,
		   size_t next_len, size_t *taken, bool *whole, za_measure_fn measure)
{
	struct za_measure m = {0};
	int code = measure(framing, head, head_len, &m);
	size_t wanted;

	if (code)
		return code;
	wanted = (m.need ? m.need : m.total) - head_len;
	*taken = wanted < next_len ? wanted : next_len;
	*whole = !m.need && *taken == wanted;
	return 0;
}

/* The three operations of a framing that is measured by `measure`. A message that has not ended when
 * the stream does is not delivered. */
#define ZA_MEASURED_OPS(prefix, measure)                                                          \
	static int prefix##_scan(const struct za_framing *framing, const uint8_t *data,           \
				 size_t len, size_t from, struct za_bound *bounds, uint32_t room, \
				 size_t *consumed)                                                \
	{                                                                                         \
		(void)from;                                                                       \
		return za_measured_scan(framing, data, len, bounds, room, consumed, measure);     \
	}                                                                                         \
	static int prefix##_extend(const struct za_framing *framing, const uint8_t *head,         \
				   size_t head_len, const uint8_t *next, size_t next_len,         \
				   size_t *taken, bool *whole)                                    \
	{                                                                                         \
		(void)next;                                                                       \
		return za_measured_extend(framing, head, head_len, next_len, taken, whole,        \
					  measure);                                               \
	}

/* The stream ended within a message: it is not one. */
static inline bool za_measured_finish(const struct za_framing *framing, const uint8_t *head,
				      size_t head_len, struct za_bound *bound)
{
	(void)framing;
	(void)head;
	(void)head_len;
	(void)bound;
	return false;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tail.h - the unfinished message at the end of a connection's bytes.
 *
 * As long as what comes next may lie next to it in the area, the tail stays there and is leased.
 * When it does not (a seam), the tail's bytes are copied to the heap and the message is put
 * together there: "stitched".
 */
#ifndef ZA_DECODE_TAIL_H
#define ZA_DECODE_TAIL_H

#include "../reclaim/lease.h"

struct za_tail {
	struct za_span span; /* in the area; 0 bytes if none */
	uint8_t *heap;       /* stitched so far */
	uint32_t heap_bytes, heap_capacity;
};

static inline size_t za_tail_bytes(const struct za_tail *tail)
{
	return tail->span.bytes + tail->heap_bytes;
}

/* Leases `bytes` (> 0) at `offset` as the tail; there was none. */
void za_tail_keep(struct za_tail *tail, struct za_area *area, uint64_t offset, size_t bytes,
		  struct za_gift *gift);
/* Moves the tail's span, if any, to the heap and gives its lease back. 0 or -ENOMEM. */
int za_tail_stitch(struct za_tail *tail, struct za_area *area);
/* Appends bytes to the stitched part. 0 or -ENOMEM. */
int za_tail_append(struct za_tail *tail, struct za_area *area, const uint8_t *data, size_t bytes);
/* Forgets the tail, gives its lease back; keeps a small heap block for the next one. */
void za_tail_clear(struct za_tail *tail, struct za_area *area);
void za_tail_fini(struct za_tail *tail, struct za_area *area);

#endif

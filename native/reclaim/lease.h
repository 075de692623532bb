/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease.h - the right to read bytes of the area, given back exactly once.
 *
 * A lease is a set of spans. It holds every chunk that a span touches once per span; so what is
 * given back follows from the addresses alone, and there is no list to lose an entry from.
 */
#ifndef ZA_RECLAIM_LEASE_H
#define ZA_RECLAIM_LEASE_H

#include <stdbool.h>
#include <stddef.h>

#include "../rx/area.h"

/* Bytes of the area that lie next to each other. */
struct za_span {
	uint64_t offset;
	uint64_t bytes;
};

/* A hold that its owner would drop after having passed on what it covers. Whoever takes over exactly
 * that may have it instead of a new one: `available` is false then, and nothing is left to drop. */
struct za_gift {
	uint32_t chunk;
	bool available;
};

/* Receiver thread. Holds the chunks of a span of at least one byte. The caller already has a hold
 * on each (its own or the kernel's), so none can go back meanwhile. `gift` may be NULL. Returns the
 * holds that are the span's now. */
uint32_t za_lease_take(struct za_area *area, struct za_span span, struct za_gift *gift);
/* Receiver thread. The span grew from `before` bytes: holds the chunks that it now touches too. */
uint32_t za_lease_grow(struct za_area *area, struct za_span span, uint64_t before,
		       struct za_gift *gift);
/* Any thread, no GIL, does not block on the receiver: drops the holds of `n` spans and returns the
 * chunks that nobody holds any more. */
void za_lease_drop(struct za_area *area, const struct za_span *spans, size_t n);
/* The same for one hold on one chunk. */
void za_lease_drop_chunk(struct za_area *area, uint32_t chunk);

#endif

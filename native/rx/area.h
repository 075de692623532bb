/* SPDX-License-Identifier: Apache-2.0 */
/*
 * area.h - the receive memory, and what is known of each of its chunks.
 *
 * The area is reference-counted because it outlives everything: the source and every batch that
 * has not been released own a share, whoever is last unmaps it.
 *
 * A chunk's word counts its *holds* (batches, unfinished messages and, for `copy`, the kernel) in
 * the low half and the *returns* it owes to the kernel in the high half: what goes to the refill
 * ring when the last hold is dropped. For `copy` that is one; where the kernel counts each
 * fragment of a chunk by itself (zcrx) it is the number of fragments, returned side by side.
 */
#ifndef ZA_RX_AREA_H
#define ZA_RX_AREA_H

#include <stddef.h>

#include "../atomics.h"
#include "../process.h"
#include "../reclaim/refill.h"
#include "../stats.h"
#include "../za.h"

#define ZA_WORD_HOLD 1ULL
#define ZA_WORD_RETURN (1ULL << 32)

struct za_area {
	za_u32 shares;
	uint8_t *base;
	uint64_t bytes;
	uint32_t chunk_shift;
	uint32_t chunks;
	za_u64 *words; /* one a chunk, see above */
	struct za_owner owner;
	struct za_refill refill;
	struct za_stats stats;
	struct za_batch_pool *pool; /* recycled column memory, export/batch.c */
};

/* Maps `bytes` of memory; of huge pages only, if asked. The caller gets the first share. */
int za_area_new(uint64_t bytes, uint32_t chunk_bytes, bool huge_pages, struct za_error *error,
		struct za_area **out);
/* Before anything is received: the kernel recycles in other units than it was asked to. */
int za_area_rechunk(struct za_area *area, uint32_t chunk_bytes);
struct za_area *za_area_take(struct za_area *area);
/* Any thread, no GIL, does not block on the receiver. The last one unmaps. */
void za_area_put(struct za_area *area);

/* Any thread. Leaves out the queue's part. */
void za_area_metrics(struct za_area *area, struct za_metrics *out);

/* Any thread, see za_source_area_map(). */
size_t za_area_map(struct za_area *area, uint8_t *out, size_t room);

static inline uint32_t za_area_chunk_bytes(const struct za_area *area)
{
	return 1U << area->chunk_shift;
}

static inline uint32_t za_area_chunk_at(const struct za_area *area, uint64_t offset)
{
	return (uint32_t)(offset >> area->chunk_shift);
}

/* Under AddressSanitizer, bytes that the kernel has not reported, or that were given back, cannot
 * be read: using a fragment after its return is caught at the instruction that does it. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define za_area_poison(area, offset, len) __asan_poison_memory_region((area)->base + (offset), len)
#define za_area_unpoison(area, offset, len) \
	__asan_unpoison_memory_region((area)->base + (offset), len)
#else
#define za_area_poison(area, offset, len) ((void)(area), (void)(offset), (void)(len))
#define za_area_unpoison(area, offset, len) ((void)(area), (void)(offset), (void)(len))
#endif

#endif

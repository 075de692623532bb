/* SPDX-License-Identifier: Apache-2.0 */
#include "lease.h"

#ifdef ZA_STRICT
#include <stdio.h>
#include <stdlib.h>
#endif

/* Returns on their way home, so that the refill lock is taken once for many. */
struct homeward {
	struct za_area *area;
	uint32_t n;
	struct za_return returns[64];
};

static uint32_t take_chunks(struct za_area *area, uint32_t first, uint32_t last,
			    struct za_gift *gift)
{
	uint32_t holds = last - first + 1;

	if (gift && gift->available && gift->chunk == last) {
		gift->available = false;
		last--;
	}
	/* Relaxed: the chunk cannot be freed meanwhile, since the caller holds it too; whoever gets
	 * the new hold gets it through a lock (the queue's). Compared with + 1, since a gift of the
	 * first chunk of the area leaves last below it. */
	for (uint32_t chunk = first; chunk != last + 1; chunk++)
		atomic_fetch_add_explicit(&area->words[chunk], ZA_WORD_HOLD, memory_order_relaxed);
	return holds;
}

uint32_t za_lease_take(struct za_area *area, struct za_span span, struct za_gift *gift)
{
	return take_chunks(area, za_area_chunk_at(area, span.offset),
			   za_area_chunk_at(area, span.offset + span.bytes - 1), gift);
}

uint32_t za_lease_grow(struct za_area *area, struct za_span span, uint64_t before,
		       struct za_gift *gift)
{
	uint32_t had = za_area_chunk_at(area, span.offset + before - 1);
	uint32_t last = za_area_chunk_at(area, span.offset + span.bytes - 1);

	return had == last ? 0 : take_chunks(area, had + 1, last, gift);
}

/* A lease came back that was not out. Counted, since memory that is still right must not be taken
 * from others; a strict build stops on the spot. */
static void lease_fault(struct za_area *area, uint32_t chunk)
{
	za_count_shared(&area->stats.lease_faults, 1);
#ifdef ZA_STRICT
	fprintf(stderr, "zcrx-arrow: chunk %u returned more often than lent\n", chunk);
	abort();
#else
	(void)chunk;
#endif
}

/* Drops one hold. If it was the last, the chunk's returns are the caller's to make: how many. */
static uint32_t drop_hold(struct za_area *area, uint32_t chunk)
{
	za_u64 *word = &area->words[chunk];
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
	uint64_t new;

	/* A loop and not a subtraction: the last hold must take the returns in the same instant,
	 * or a fragment that arrives in between would lose its own. acq_rel: all reads by all
	 * holders happen before the chunk is offered again. */
	do {
		if (!(uint32_t)old) {
			lease_fault(area, chunk);
			return 0;
		}
		new = (uint32_t)old == ZA_WORD_HOLD ? 0 : old - ZA_WORD_HOLD;
	} while (!atomic_compare_exchange_weak_explicit(word, &old, new, memory_order_acq_rel,
							memory_order_relaxed));
	return new ? 0 : (uint32_t)(old / ZA_WORD_RETURN);
}

/* The list is long and mostly unused: it is not cleared. */
static void home_init(struct homeward *home, struct za_area *area)
{
	home->area = area;
	home->n = 0;
}

static void send_home(struct homeward *home)
{
	if (home->n)
		za_refill_give(&home->area->refill, home->area, home->returns, home->n);
	home->n = 0;
}

static void drop_chunk(struct homeward *home, uint32_t chunk)
{
	uint32_t returns = drop_hold(home->area, chunk);

	if (!returns)
		return;
	if (home->n == sizeof(home->returns) / sizeof(home->returns[0]))
		send_home(home);
	home->returns[home->n++] = (struct za_return){.chunk = chunk, .returns = returns};
}

void za_lease_drop(struct za_area *area, const struct za_span *spans, size_t n)
{
	struct homeward home;

	home_init(&home, area);
	for (size_t i = 0; i < n; i++) {
		uint32_t last = za_area_chunk_at(area, spans[i].offset + spans[i].bytes - 1);

		for (uint32_t chunk = za_area_chunk_at(area, spans[i].offset); chunk <= last;
		     chunk++)
			drop_chunk(&home, chunk);
	}
	send_home(&home);
}

void za_lease_drop_chunk(struct za_area *area, uint32_t chunk)
{
	struct homeward home;

	home_init(&home, area);
	drop_chunk(&home, chunk);
	send_home(&home);
}

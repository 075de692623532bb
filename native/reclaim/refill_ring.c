/* SPDX-License-Identifier: Apache-2.0 */
#include "refill_ring.h"

#include <errno.h>
#include <stdlib.h>

#include "../rx/area.h"

void za_refill_ring_fini(struct za_refill_ring *ring)
{
	free(ring->owed);
	free(ring->owing);
	ring->owed = NULL;
	ring->owing = NULL;
}

static uint32_t room(struct za_refill_ring *ring)
{
	uint32_t used = ring->next - ring->seen_head;

	if (used == ring->entries) {
		/* Acquire pairs with the kernel's store of the head: it has read the entries that
		 * we are about to overwrite. */
		ring->seen_head = za_load_acquire32(ring->head);
		used = ring->next - ring->seen_head;
	}
	return ring->entries - used;
}

/* Writes up to `n` entries for a chunk, side by side; returns how many fitted. */
static uint32_t write_entries(struct za_refill_ring *ring, uint64_t off, uint32_t n)
{
	uint32_t done = 0;

	while (done < n && room(ring)) {
		/* len and pad are 0 since the beginning, and nobody writes them. */
		ring->rqes[ring->next++ & (ring->entries - 1)].off = off;
		done++;
	}
	return done;
}

static void publish(struct za_refill_ring *ring)
{
	/* Release pairs with the kernel's acquire of the tail: it sees the entries whole. And all
	 * reads of the chunks by whoever held them happen before: the drop of the last hold was
	 * acq_rel. */
	za_store_release32(ring->tail, ring->next);
}

static uint64_t entry_of(const struct za_area *area, uint32_t chunk)
{
	return area->refill.ring.token | (uint64_t)chunk << area->chunk_shift;
}

/* Returns that waited for room, the last ones first. */
static void write_owed(struct za_refill_ring *ring, const struct za_area *area)
{
	while (ring->n_owing) {
		uint32_t chunk = ring->owing[ring->n_owing - 1];

		ring->owed[chunk] -= write_entries(ring, entry_of(area, chunk), ring->owed[chunk]);
		if (ring->owed[chunk])
			return;
		ring->n_owing--;
	}
}

static void owe(struct za_refill_ring *ring, uint32_t chunk, uint32_t returns)
{
	if (!ring->owed[chunk])
		ring->owing[ring->n_owing++] = chunk;
	ring->owed[chunk] += returns;
}

/* Bytes of a chunk that is all given back must not be read. Called with the lock held, which
 * za_refill_ring_arrived() takes too in a sanitized build: else a fragment that arrives right now
 * would be poisoned with the rest. */
static void poison(struct za_area *area, uint32_t chunk)
{
#ifdef __SANITIZE_ADDRESS__
	if (!atomic_load_explicit(&area->words[chunk], memory_order_relaxed))
		za_area_poison(area, (uint64_t)chunk << area->chunk_shift,
			       za_area_chunk_bytes(area));
#else
	(void)area;
	(void)chunk;
#endif
}

static void ring_give(struct za_refill *refill, struct za_area *area,
		      const struct za_return *returns, uint32_t n)
{
	struct za_refill_ring *ring = &refill->ring;

	ring->came_back += n;
	for (uint32_t i = 0; i < n; i++)
		poison(area, returns[i].chunk);
	if (!ring->head)
		return;
	if (ring->n_owing)
		write_owed(ring, area);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t chunk = returns[i].chunk, written = 0;

		/* Behind those that wait already: siblings belong next to each other. */
		if (!ring->n_owing)
			written = write_entries(ring, entry_of(area, chunk), returns[i].returns);
		if (written < returns[i].returns)
			owe(ring, chunk, returns[i].returns - written);
	}
	publish(ring);
	/* The kernel does not say when it has made room: the receiver must see to it. */
	refill->starved |= ring->n_owing > 0;
}

static struct za_refill_level ring_level(const struct za_refill *refill, const struct za_area *area)
{
	uint64_t out = za_read(&refill->ring.went_out) - refill->ring.came_back;

	/* A chunk that comes back and goes out again at the same time may be counted twice. */
	return (struct za_refill_level){.offered = out < area->chunks ? area->chunks - (uint32_t)out
								      : 0};
}

static void ring_map(const struct za_refill *refill, const struct za_area *area, uint8_t *out,
		     size_t room)
{
	(void)refill;
	(void)area;
	/* The area is the kernel's: what nobody holds is in its hands, or on the way there. */
	for (size_t i = 0; i < room; i++)
		if (out[i] == ZA_CHUNK_FREE)
			out[i] = ZA_CHUNK_OFFERED;
}

static const struct za_refill_ops ring_ops = {
	.give = ring_give,
	.level = ring_level,
	.map = ring_map,
};

int za_refill_ring_attach(struct za_area *area, const struct za_refill_ring_place *place,
			  struct za_waker waker)
{
	struct za_refill_ring *ring = &area->refill.ring;

	ring->owed = calloc(area->chunks, sizeof(*ring->owed));
	ring->owing = calloc(area->chunks, sizeof(*ring->owing));
	if (!ring->owed || !ring->owing)
		return -ENOMEM;
	ring->head = place->head;
	ring->tail = place->tail;
	ring->rqes = place->rqes;
	ring->entries = place->entries;
	ring->token = place->token;
	ring->next = ring->seen_head = za_load_acquire32(ring->head);
	za_refill_attach(&area->refill, &ring_ops, waker);
	return 0;
}

void za_refill_ring_detach(struct za_area *area)
{
	struct za_refill_ring *ring = &area->refill.ring;

	za_refill_detach(&area->refill);
	pthread_mutex_lock(&area->refill.lock);
	ring->head = NULL;
	ring->n_owing = 0;
	pthread_mutex_unlock(&area->refill.lock);
}

static void count_arrival(struct za_area *area, uint32_t chunk)
{
	za_u64 *word = &area->words[chunk];
	struct za_refill_ring *ring = &area->refill.ring;

	/* Nobody holds any of it, so nobody else can touch the word: a plain store. Acquire pairs
	 * with the drop that made it 0, whose returns are already on their way. */
	if (!atomic_load_explicit(word, memory_order_acquire)) {
		atomic_store_explicit(word, ZA_WORD_HOLD | ZA_WORD_RETURN, memory_order_relaxed);
		za_count(&ring->went_out, 1);
		return;
	}
	/* A sibling of fragments that are out. They may all be dropped at this very moment: the one
	 * who sees the last hold go takes all returns, and what we add is ours. */
	if (!atomic_fetch_add_explicit(word, ZA_WORD_HOLD | ZA_WORD_RETURN, memory_order_acquire))
		za_count(&ring->went_out, 1);
}

int za_refill_ring_arrived(struct za_area *area, uint64_t off, uint32_t bytes, uint64_t *offset)
{
	uint64_t at = off & ~ZA_ZCRX_AREA_MASK;
	uint32_t chunk_bytes = za_area_chunk_bytes(area);

	if ((off & ZA_ZCRX_AREA_MASK) != area->refill.ring.token || at >= area->bytes ||
	    (at & (chunk_bytes - 1)) + bytes > chunk_bytes)
		return -EPROTO;
#ifdef __SANITIZE_ADDRESS__
	pthread_mutex_lock(&area->refill.lock); /* see poison() */
#endif
	count_arrival(area, za_area_chunk_at(area, at));
	za_area_unpoison(area, at, bytes);
#ifdef __SANITIZE_ADDRESS__
	pthread_mutex_unlock(&area->refill.lock);
#endif
	*offset = at;
	return 0;
}

void za_refill_ring_settle(struct za_area *area, uint32_t *unread, uint32_t *owing)
{
	struct za_refill_ring *ring = &area->refill.ring;

	pthread_mutex_lock(&area->refill.lock);
	if (ring->n_owing) {
		write_owed(ring, area);
		publish(ring);
	}
	*unread = ring->next - za_load_acquire32(ring->head);
	*owing = ring->n_owing;
	pthread_mutex_unlock(&area->refill.lock);
}

bool za_refill_ring_starved(struct za_area *area)
{
	struct za_refill *refill = &area->refill;
	bool starved;

	pthread_mutex_lock(&refill->lock);
	starved = refill->ring.next == za_load_acquire32(refill->ring.head);
	refill->starved = starved;
	pthread_mutex_unlock(&refill->lock);
	return starved;
}

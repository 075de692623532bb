/* SPDX-License-Identifier: Apache-2.0 */
#include "refill_buffers.h"

#include <errno.h>
#include <stdlib.h>

#include "../rx/area.h"
#include "lease.h"

void za_buffers_fini(struct za_buffers *buffers)
{
	free(buffers->stack);
	free(buffers->place);
	free(buffers->slots);
	buffers->stack = NULL;
	buffers->place = NULL;
	buffers->slots = NULL;
}

static void push(struct za_buffers *buffers, uint32_t chunk)
{
	if (buffers->adjacent)
		buffers->place[chunk] = buffers->free;
	buffers->stack[buffers->free++] = chunk;
}

static bool is_free(const struct za_buffers *buffers, uint32_t chunk)
{
	/* What stands in `place` may be old. */
	return buffers->place[chunk] < buffers->free &&
	       buffers->stack[buffers->place[chunk]] == chunk;
}

/* The first free chunk behind the last one, around the end of the area: as long as they come back in
 * about the order in which they went out, that is the one right behind it. There is a free one. */
static uint32_t next_behind(const struct za_buffers *buffers, uint32_t chunks)
{
	uint32_t chunk = buffers->last;

	/* Far enough: what is near the beginning is still in cache, if nobody holds it. */
	if (chunk + 1 >= buffers->near_chunks && is_free(buffers, 0))
		return 0;
	do
		chunk = chunk + 1 < chunks ? chunk + 1 : 0;
	while (!is_free(buffers, chunk));
	return chunk;
}

static uint32_t pop(struct za_buffers *buffers, uint32_t chunks)
{
	uint32_t chunk, top = buffers->stack[buffers->free - 1];

	if (!buffers->adjacent) {
		buffers->free--;
		return top;
	}
	chunk = next_behind(buffers, chunks);
	/* The top takes its place. */
	buffers->stack[buffers->place[chunk]] = top;
	buffers->place[top] = buffers->place[chunk];
	buffers->free--;
	buffers->last = chunk;
	return chunk;
}

static void buffers_give(struct za_refill *refill, struct za_area *area,
			 const struct za_return *returns, uint32_t n)
{
	struct za_buffers *buffers = &refill->buffers;

	/* One return a chunk is all that this transport owes. */
	for (uint32_t i = 0; i < n; i++) {
		za_area_poison(area, (uint64_t)returns[i].chunk << area->chunk_shift,
			       za_area_chunk_bytes(area));
		push(buffers, returns[i].chunk);
	}
}

static struct za_refill_level buffers_level(const struct za_refill *refill,
					    const struct za_area *area)
{
	(void)area;
	return (struct za_refill_level){.free = refill->buffers.free,
					.offered = refill->buffers.offered};
}

static void buffers_map(const struct za_refill *refill, const struct za_area *area, uint8_t *out,
			size_t room)
{
	const struct za_buffers *buffers = &refill->buffers;

	for (uint32_t i = 0; i < buffers->entries; i++) {
		const struct za_buffer_slot *slot = &buffers->slots[i];

		if (!slot->offered || slot->chunk >= room)
			continue;
		/* One of the holds is the kernel's. Relaxed: only counted. */
		out[slot->chunk] = ZA_CHUNK_OFFERED;
		if ((uint32_t)atomic_load_explicit(&area->words[slot->chunk],
						   memory_order_relaxed) > ZA_WORD_HOLD)
			out[slot->chunk] |= ZA_CHUNK_LEASED;
	}
}

static const struct za_refill_ops buffers_ops = {
	.give = buffers_give,
	.level = buffers_level,
	.map = buffers_map,
};

int za_buffers_attach(struct za_area *area, struct io_uring_buf_ring *ring, uint32_t entries,
		      struct za_waker waker)
{
	struct za_buffers *buffers = &area->refill.buffers;

	buffers->stack = malloc(area->chunks * sizeof(*buffers->stack));
	buffers->slots = calloc(entries, sizeof(*buffers->slots));
	if (!buffers->stack || !buffers->slots)
		return -ENOMEM;
	/* Low addresses on top, so that a quiet source stays within a few pages. */
	for (uint32_t i = 0; i < area->chunks; i++)
		buffers->stack[i] = area->chunks - 1 - i;
	buffers->free = area->chunks;
	buffers->ring = ring;
	buffers->entries = entries;
	buffers->tail = 0;
	za_refill_attach(&area->refill, &buffers_ops, waker);
	return 0;
}

int za_buffers_prefer_adjacent(struct za_area *area, uint64_t near_bytes)
{
	struct za_buffers *buffers = &area->refill.buffers;
	int code = 0;

	pthread_mutex_lock(&area->refill.lock);
	buffers->place = calloc(area->chunks, sizeof(*buffers->place));
	if (buffers->place) {
		for (uint32_t i = 0; i < buffers->free; i++)
			buffers->place[buffers->stack[i]] = i;
		buffers->adjacent = true;
		buffers->near_chunks = (uint32_t)(near_bytes >> area->chunk_shift);
		buffers->last = area->chunks - 1;
	} else {
		code = -ENOMEM;
	}
	pthread_mutex_unlock(&area->refill.lock);
	return code;
}

void za_buffers_detach(struct za_area *area)
{
	struct za_buffers *buffers = &area->refill.buffers;

	za_refill_detach(&area->refill);
	pthread_mutex_lock(&area->refill.lock);
	buffers->offered = 0;
	pthread_mutex_unlock(&area->refill.lock);
	buffers->ring = NULL;
	/* A chunk that is partly filled may still be read by batches: their holds keep it. */
	for (uint32_t i = 0; i < buffers->entries; i++) {
		bool offered = buffers->slots[i].offered;

		pthread_mutex_lock(&area->refill.lock);
		buffers->slots[i].offered = false;
		pthread_mutex_unlock(&area->refill.lock);
		if (offered)
			za_lease_drop_chunk(area, buffers->slots[i].chunk);
	}
}

static void write_entry(struct za_buffers *buffers, struct za_area *area, uint32_t chunk)
{
	uint16_t at = (uint16_t)(buffers->tail & (buffers->entries - 1));
	struct io_uring_buf *entry = &buffers->ring->bufs[at];

	buffers->slots[at] = (struct za_buffer_slot){.chunk = chunk, .offered = true};
	/* The kernel's own hold. Relaxed: nobody else knows of the chunk, and the drop that freed it
	 * was ordered by the lock that we took to pop it. */
	atomic_store_explicit(&area->words[chunk], ZA_WORD_HOLD | ZA_WORD_RETURN,
			      memory_order_relaxed);
	entry->addr = (uint64_t)(uintptr_t)area->base + ((uint64_t)chunk << area->chunk_shift);
	entry->len = za_area_chunk_bytes(area);
	entry->bid = at;
	buffers->tail++;
}

void za_buffers_offer(struct za_area *area, uint32_t window)
{
	struct za_refill *refill = &area->refill;
	struct za_buffers *buffers = &refill->buffers;
	uint16_t before = buffers->tail;

	pthread_mutex_lock(&refill->lock);
	while (buffers->offered < window && buffers->free &&
	       !buffers->slots[buffers->tail & (buffers->entries - 1)].offered) {
		write_entry(buffers, area, pop(buffers, area->chunks));
		buffers->offered++;
	}
	if (buffers->offered)
		refill->starved = false;
	pthread_mutex_unlock(&refill->lock);
	/* Release pairs with the kernel's acquire of the tail: it sees the entries whole. */
	if (buffers->tail != before)
		za_store_release16(&buffers->ring->tail, buffers->tail);
}

int za_buffers_filled(struct za_area *area, uint32_t id, uint32_t bytes, bool done,
		      uint64_t *offset)
{
	struct za_buffers *buffers = &area->refill.buffers;
	struct za_buffer_slot *slot = &buffers->slots[id & (buffers->entries - 1)];

	if (id >= buffers->entries || !slot->offered ||
	    bytes > za_area_chunk_bytes(area) - slot->filled_bytes)
		return -EPROTO;
	*offset = ((uint64_t)slot->chunk << area->chunk_shift) + slot->filled_bytes;
	slot->filled_bytes += bytes;
	za_area_unpoison(area, *offset, bytes);
	if (done) {
		pthread_mutex_lock(&area->refill.lock);
		slot->offered = false;
		buffers->offered--;
		pthread_mutex_unlock(&area->refill.lock);
	}
	return 0;
}

bool za_buffers_starved(struct za_area *area)
{
	struct za_refill *refill = &area->refill;
	bool starved;

	pthread_mutex_lock(&refill->lock);
	starved = !refill->buffers.offered && !refill->buffers.free;
	refill->starved = starved;
	pthread_mutex_unlock(&refill->lock);
	return starved;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "refill.h"

#include <errno.h>
#include <stdlib.h>

#include "../rx/area.h"
#include "lease.h"

int za_refill_init(struct za_refill *refill, uint32_t chunks)
{
	refill->stack = malloc(chunks * sizeof(*refill->stack));
	if (!refill->stack)
		return -ENOMEM;
	/* Low addresses on top, so that a quiet source stays within a few pages. */
	for (uint32_t i = 0; i < chunks; i++)
		refill->stack[i] = chunks - 1 - i;
	refill->free = chunks;
	return -pthread_mutex_init(&refill->lock, NULL);
}

void za_refill_fini(struct za_refill *refill)
{
	if (!refill->stack)
		return;
	pthread_mutex_destroy(&refill->lock);
	free(refill->stack);
	free(refill->slots);
	refill->stack = NULL;
}

int za_refill_attach(struct za_refill *refill, struct io_uring_buf_ring *ring, uint32_t entries,
		     struct za_waker waker)
{
	refill->slots = calloc(entries, sizeof(*refill->slots));
	if (!refill->slots)
		return -ENOMEM;
	refill->ring = ring;
	refill->entries = entries;
	refill->tail = 0;
	pthread_mutex_lock(&refill->lock);
	refill->waker = waker;
	pthread_mutex_unlock(&refill->lock);
	return 0;
}

void za_refill_detach(struct za_refill *refill, struct za_area *area)
{
	pthread_mutex_lock(&refill->lock);
	refill->waker = (struct za_waker){NULL, NULL};
	refill->offered = 0;
	pthread_mutex_unlock(&refill->lock);
	refill->ring = NULL;
	/* A chunk that is partly filled may still be read by batches: their holds keep it. */
	for (uint32_t i = 0; i < refill->entries; i++) {
		if (refill->slots[i].offered)
			za_lease_drop_chunk(area, refill->slots[i].chunk);
		refill->slots[i].offered = false;
	}
}

static void refill_write(struct za_refill *refill, struct za_area *area, uint32_t chunk)
{
	uint16_t at = (uint16_t)(refill->tail & (refill->entries - 1));
	struct io_uring_buf *entry = &refill->ring->bufs[at];

	refill->slots[at] = (struct za_refill_slot){.chunk = chunk, .offered = true};
	/* The kernel's own hold. Relaxed: nobody else knows of the chunk, and the drop that freed it
	 * was ordered by the lock that we took to pop it. */
	atomic_store_explicit(&area->words[chunk], ZA_WORD_HOLD | ZA_WORD_RETURN,
			      memory_order_relaxed);
	entry->addr = (uint64_t)(uintptr_t)area->base + ((uint64_t)chunk << area->chunk_shift);
	entry->len = za_area_chunk_bytes(area);
	entry->bid = at;
	refill->tail++;
}

void za_refill_offer(struct za_refill *refill, struct za_area *area, uint32_t window)
{
	uint16_t before = refill->tail;

	pthread_mutex_lock(&refill->lock);
	while (refill->offered < window && refill->free &&
	       !refill->slots[refill->tail & (refill->entries - 1)].offered) {
		refill_write(refill, area, refill->stack[--refill->free]);
		refill->offered++;
	}
	if (refill->offered)
		refill->starved = false;
	pthread_mutex_unlock(&refill->lock);
	/* Release pairs with the kernel's acquire of the tail: it sees the entries whole. */
	if (refill->tail != before)
		za_store_release16(&refill->ring->tail, refill->tail);
}

int za_refill_filled(struct za_refill *refill, struct za_area *area, uint32_t id, uint32_t bytes,
		     bool done, uint64_t *offset)
{
	struct za_refill_slot *slot = &refill->slots[id & (refill->entries - 1)];

	if (id >= refill->entries || !slot->offered ||
	    bytes > za_area_chunk_bytes(area) - slot->filled_bytes)
		return -EPROTO;
	*offset = ((uint64_t)slot->chunk << area->chunk_shift) + slot->filled_bytes;
	slot->filled_bytes += bytes;
	za_area_unpoison(area, *offset, bytes);
	if (done) {
		slot->offered = false;
		pthread_mutex_lock(&refill->lock);
		refill->offered--;
		pthread_mutex_unlock(&refill->lock);
	}
	return 0;
}

bool za_refill_starved(struct za_refill *refill)
{
	bool starved;

	pthread_mutex_lock(&refill->lock);
	starved = !refill->offered && !refill->free;
	refill->starved = starved;
	pthread_mutex_unlock(&refill->lock);
	return starved;
}

void za_refill_give(struct za_refill *refill, struct za_area *area, const uint32_t *chunks,
		    uint32_t n)
{
	struct za_waker waker = {NULL, NULL};

	pthread_mutex_lock(&refill->lock);
	for (uint32_t i = 0; i < n; i++) {
		za_area_poison(area, (uint64_t)chunks[i] << area->chunk_shift,
			       za_area_chunk_bytes(area));
		refill->stack[refill->free++] = chunks[i];
	}
	if (refill->starved) {
		refill->starved = false;
		waker = refill->waker;
	}
	/* Woken under the lock: after za_refill_detach() nobody uses the waker any more. */
	if (waker.wake)
		waker.wake(waker.arg);
	pthread_mutex_unlock(&refill->lock);
}

struct za_refill_level za_refill_level(struct za_refill *refill)
{
	struct za_refill_level level;

	pthread_mutex_lock(&refill->lock);
	level = (struct za_refill_level){.free = refill->free, .offered = refill->offered};
	pthread_mutex_unlock(&refill->lock);
	return level;
}

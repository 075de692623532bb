/* SPDX-License-Identifier: Apache-2.0 */
/* batch_pool.c - a batch's memory: columns that grow, batches that are used again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "batch_internal.h"

#define FIRST_ROWS 256U
#define POOLED_BATCHES 32

struct za_batch_pool *za_batch_pool_new(const struct za_batch_layout *layout)
{
	struct za_batch_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	pool->layout = *layout;
	if (pthread_mutex_init(&pool->lock, NULL)) {
		free(pool);
		return NULL;
	}
	return pool;
}

static void batch_free(struct za_batch *batch)
{
	free(batch->block);
	free(batch->spans);
	free(batch->buffers);
	free(batch->compact);
	free(batch->payload_buffers);
	free(batch->buffer_lengths);
	free(batch);
}

void za_batch_pool_free(struct za_batch_pool *pool)
{
	if (!pool)
		return;
	while (pool->top) {
		struct za_batch *batch = pool->top;

		pool->top = batch->next;
		batch_free(batch);
	}
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static size_t padded(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63; /* Arrow: buffers are best aligned to 64 bytes */
}

static void *carve(uint8_t *block, size_t *at, size_t bytes)
{
	void *column = block ? block + *at : NULL;

	*at += padded(bytes);
	return column;
}

/* Points the columns into a block for `rows` rows, if there is one; returns its size. */
static size_t lay_out(struct za_batch *batch, uint8_t *block, size_t rows)
{
	size_t at = 0;

	batch->views = carve(block, &at, (rows + 1) * sizeof(struct view));
	batch->positions = carve(block, &at, rows * sizeof(uint64_t));
	batch->received = carve(block, &at, rows * sizeof(int64_t));
	batch->connections = carve(block, &at, rows * sizeof(uint32_t));
	if (layout_of(batch)->with_offsets) {
		batch->offsets = carve(block, &at, rows * sizeof(uint64_t));
		batch->nulls = carve(block, &at, (rows + 7) / 8);
	}
	return at;
}

int za_batch_grow_rows(struct za_batch *batch, uint32_t rows)
{
	struct za_batch old = *batch;
	uint32_t capacity = batch->row_capacity ? batch->row_capacity : FIRST_ROWS;
	size_t bytes;
	uint8_t *block;

	while (capacity < rows)
		capacity *= 2;
	bytes = lay_out(batch, NULL, capacity);
	block = aligned_alloc(64, bytes);
	if (!block) {
		*batch = old;
		return -ENOMEM;
	}
	lay_out(batch, block, capacity);
	if (is_compact(batch) && !old.block)
		((int64_t *)(void *)batch->views)[0] = 0;
	if (old.block) {
		memcpy(batch->views, old.views,
		       is_compact(batch) ? (batch->fill.rows + 1) * sizeof(int64_t)
					 : batch->fill.rows * sizeof(struct view));
		memcpy(batch->positions, old.positions, batch->fill.rows * sizeof(uint64_t));
		memcpy(batch->received, old.received, batch->fill.rows * sizeof(int64_t));
		memcpy(batch->connections, old.connections, batch->fill.rows * sizeof(uint32_t));
		if (batch->offsets)
			memcpy(batch->offsets, old.offsets, batch->fill.rows * sizeof(uint64_t));
	}
	if (batch->nulls)
		memset(batch->nulls, 0, (capacity + 7) / 8);
	batch->block = block;
	batch->row_capacity = capacity;
	free(old.block);
	return 0;
}

int za_batch_grow_array(void **array, uint32_t *capacity, size_t element_bytes)
{
	uint32_t wanted = *capacity ? *capacity * 2 : 16;
	void *moved = realloc(*array, wanted * element_bytes);

	if (!moved)
		return -ENOMEM;
	*array = moved;
	*capacity = wanted;
	return 0;
}

int za_batch_new(struct za_area *area, struct za_batch **out)
{
	struct za_batch_pool *pool = area->pool;
	struct za_batch *batch;
	int code;

	pthread_mutex_lock(&pool->lock);
	batch = pool->top;
	if (batch) {
		pool->top = batch->next;
		pool->n--;
	}
	pthread_mutex_unlock(&pool->lock);
	if (batch) {
		batch->area = za_area_take(area);
		*out = batch;
		return 0;
	}
	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return -ENOMEM;
	batch->area = area;
	batch->fill.max_rows = layout_of(batch)->max_rows;
	batch->fill.max_bytes = layout_of(batch)->max_bytes;
	code = za_batch_grow_rows(batch, 1);
	if (code) {
		free(batch);
		return code;
	}
	za_area_take(area);
	*out = batch;
	return 0;
}

/* Everything that the batch holds beyond its reusable memory. */
static void batch_empty(struct za_batch *batch)
{
	if (batch->n_spans)
		za_lease_drop(batch->area, batch->spans, batch->n_spans);
	if (batch->lent) {
		za_process_returned(batch->holds);
		atomic_fetch_sub_explicit(&batch->area->stats.batches_held, 1,
					  memory_order_relaxed);
	}
	for (uint32_t i = 0; i < batch->n_buffers; i++)
		free(batch->buffers[i].owned);
	free(batch->copy);
	batch->copy = NULL;
	batch->fill.rows = 0;
	batch->fill.payload_bytes = 0;
	batch->holds = 0;
	batch->copied = false;
	batch->lent = false;
	batch->n_spans = 0;
	batch->n_buffers = 0;
	batch->stitch_capacity = 0;
}

/* To the pool, or to the heap when that has enough; then the share of the area, which may be the
 * last and take the pool with it. */
static void batch_recycle(struct za_batch *batch)
{
	struct za_area *area = batch->area;
	struct za_batch_pool *pool = area->pool;

	pthread_mutex_lock(&pool->lock);
	if (pool->n < POOLED_BATCHES) {
		batch->next = pool->top;
		pool->top = batch;
		pool->n++;
		batch = NULL;
	}
	pthread_mutex_unlock(&pool->lock);
	if (batch)
		batch_free(batch);
	za_area_put(area);
}

void za_batch_discard(struct za_batch *batch)
{
	batch_empty(batch);
	batch_recycle(batch);
}

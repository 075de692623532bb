/* SPDX-License-Identifier: Apache-2.0 */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHILDREN 5
#define INLINE_BYTES 12U /* Arrow: payloads up to this long live in the view itself */
#define FIRST_ROWS 256U
#define STITCH_BLOCK_BYTES (64U << 10)
#define POOLED_BATCHES 32

struct view {
	uint32_t length;
	uint8_t prefix[4];
	uint32_t buffer;
	uint32_t offset;
};
_Static_assert(sizeof(struct view) == 16, "Arrow binary view");

/* One variadic buffer: a span of the area, or memory of the batch's own. */
struct buffer {
	const uint8_t *data;
	uint64_t bytes;
	void *owned; /* to be freed; NULL for a span */
};

struct za_batch {
	za_u32 shares; /* exported structures that are not released: the root and its children */
	struct za_area *area;
	struct za_batch *next; /* in the pool */
	uint32_t rows, row_capacity;
	uint64_t payload_bytes;
	uint64_t holds;
	bool copied;
	bool lent; /* counted as outstanding */

	/* columns, in one block */
	uint8_t *block;
	struct view *views; /* or int64_t offsets, one more than rows */
	uint64_t *positions;
	int64_t *received;
	uint64_t *offsets;
	uint8_t *nulls; /* all zero: area_offset of a copied batch */
	uint32_t *connections;

	struct za_span *spans; /* the lease */
	uint32_t n_spans, span_capacity;
	struct buffer *buffers;
	uint32_t n_buffers, buffer_capacity;
	uint32_t open_span_buffer; /* buffer of the last span */
	uint32_t stitch_buffer;    /* buffer that has room for stitched messages */
	uint64_t stitch_capacity;  /* 0: none */

	uint8_t *compact; /* large_*: the payloads, one after the other */
	uint64_t compact_capacity;
	uint8_t *copy; /* copied out: what the spans held */

	/* what Arrow sees */
	const void **payload_buffers;
	int64_t *buffer_lengths;
	const void *fixed_buffers[MAX_CHILDREN][2];
	const void *root_buffers[1];
	struct ArrowArray children[MAX_CHILDREN];
	struct ArrowArray *child_pointers[MAX_CHILDREN];
};

struct za_batch_pool {
	pthread_mutex_t lock;
	struct za_batch_layout layout;
	struct za_batch *top; /* last released, first used again: its columns are in cache */
	uint32_t n;
};

static const struct za_batch_layout *layout_of(const struct za_batch *batch)
{
	return &batch->area->pool->layout;
}

static bool is_compact(const struct za_batch *batch)
{
	return layout_of(batch)->payload >= ZA_PAYLOAD_LARGE_BINARY;
}

/* --- memory ------------------------------------------------------------------------------ */

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

static void *carve(uint8_t **at, size_t bytes)
{
	void *column = *at;

	*at += padded(bytes);
	return column;
}

/* Points the columns into a block for `rows` rows; returns its size. */
static size_t lay_out(struct za_batch *batch, uint8_t *block, size_t rows)
{
	uint8_t *at = block;

	batch->views = carve(&at, (rows + 1) * sizeof(struct view));
	batch->positions = carve(&at, rows * sizeof(uint64_t));
	batch->received = carve(&at, rows * sizeof(int64_t));
	batch->connections = carve(&at, rows * sizeof(uint32_t));
	if (layout_of(batch)->with_offsets) {
		batch->offsets = carve(&at, rows * sizeof(uint64_t));
		batch->nulls = carve(&at, (rows + 7) / 8);
	}
	return (size_t)(at - block);
}

static int grow_rows(struct za_batch *batch, uint32_t rows)
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
		       is_compact(batch) ? (batch->rows + 1) * sizeof(int64_t)
					 : batch->rows * sizeof(struct view));
		memcpy(batch->positions, old.positions, batch->rows * sizeof(uint64_t));
		memcpy(batch->received, old.received, batch->rows * sizeof(int64_t));
		memcpy(batch->connections, old.connections, batch->rows * sizeof(uint32_t));
		if (batch->offsets)
			memcpy(batch->offsets, old.offsets, batch->rows * sizeof(uint64_t));
	}
	if (batch->nulls)
		memset(batch->nulls, 0, (capacity + 7) / 8);
	batch->block = block;
	batch->row_capacity = capacity;
	free(old.block);
	return 0;
}

/* Room for one more element in a growing array. */
static int grow_array(void **array, uint32_t *capacity, uint32_t n, size_t element_bytes)
{
	uint32_t wanted = *capacity ? *capacity * 2 : 16;
	void *moved;

	if (n < *capacity)
		return 0;
	moved = realloc(*array, wanted * element_bytes);
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
	code = grow_rows(batch, 1);
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
	batch->rows = 0;
	batch->payload_bytes = 0;
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

/* --- filling ----------------------------------------------------------------------------- */

uint32_t za_batch_rows(const struct za_batch *batch)
{
	return batch->rows;
}

uint64_t za_batch_bytes(const struct za_batch *batch)
{
	return batch->payload_bytes;
}

uint32_t za_batch_room(const struct za_batch *batch)
{
	return layout_of(batch)->max_rows - batch->rows;
}

bool za_batch_full(const struct za_batch *batch)
{
	return !za_batch_room(batch) || batch->payload_bytes >= layout_of(batch)->max_bytes;
}

bool za_batch_is_copied(const struct za_batch *batch)
{
	return batch->copied;
}

static int add_buffer(struct za_batch *batch, const uint8_t *data, uint64_t bytes, void *owned)
{
	int code = grow_array((void **)&batch->buffers, &batch->buffer_capacity, batch->n_buffers,
			      sizeof(*batch->buffers));

	if (!code)
		batch->buffers[batch->n_buffers++] =
			(struct buffer){.data = data, .bytes = bytes, .owned = owned};
	return code;
}

/* Makes [offset, offset + bytes) part of the lease. Gives the buffer that covers it and where in
 * that buffer it begins. */
static int add_span(struct za_batch *batch, uint64_t offset, size_t bytes, uint32_t *buffer,
		    uint64_t *start)
{
	struct za_span *last = batch->n_spans ? &batch->spans[batch->n_spans - 1] : NULL;
	int code;

	/* The limit keeps view offsets in an int32, however long a run of adjacent spans gets. */
	if (last && last->offset + last->bytes == offset && last->bytes + bytes <= INT32_MAX) {
		uint64_t before = last->bytes;

		last->bytes += bytes;
		batch->holds += za_lease_grow(batch->area, *last, before);
		batch->buffers[batch->open_span_buffer].bytes = last->bytes;
		*buffer = batch->open_span_buffer;
		*start = before;
		return 0;
	}
	code = grow_array((void **)&batch->spans, &batch->span_capacity, batch->n_spans,
			  sizeof(*batch->spans));
	if (!code)
		code = add_buffer(batch, batch->area->base + offset, bytes, NULL);
	if (code)
		return code;
	batch->open_span_buffer = batch->n_buffers - 1;
	batch->spans[batch->n_spans++] = (struct za_span){.offset = offset, .bytes = bytes};
	batch->holds += za_lease_take(batch->area, batch->spans[batch->n_spans - 1]);
	*buffer = batch->open_span_buffer;
	*start = 0;
	return 0;
}

static inline void write_view(struct view *view, const uint8_t *data, uint32_t length,
			      uint32_t buffer, uint64_t offset)
{
	struct view made = {.length = length};

	if (length > INLINE_BYTES) {
		/* Field by field: a view made on the stack would be stored in small parts and loaded
		 * as a whole, which a processor cannot forward from its store buffer. */
		view->length = length;
		memcpy(view->prefix, data, sizeof(view->prefix));
		view->buffer = buffer;
		view->offset = (uint32_t)offset;
		return;
	}
	/* prefix, buffer and offset lie together: 12 bytes, the rest of them zero */
	memcpy((uint8_t *)&made + offsetof(struct view, prefix), data, length);
	*view = made;
}

static void write_origin(struct za_batch *batch, const struct za_bound *bounds, uint32_t n,
			 const struct za_row_origin *origin)
{
	uint64_t *positions = batch->positions + batch->rows;
	int64_t *received = batch->received + batch->rows;
	uint32_t *connections = batch->connections + batch->rows;

	for (uint32_t i = 0; i < n; i++)
		positions[i] = origin->position + bounds[i].start;
	for (uint32_t i = 0; i < n; i++)
		received[i] = origin->received_ns;
	for (uint32_t i = 0; i < n; i++)
		connections[i] = origin->connection;
}

/* large_*: the payloads move together, and nothing of the area is kept. */
static int add_compact(struct za_batch *batch, const uint8_t *data, const struct za_bound *bounds,
		       uint32_t n)
{
	int64_t *offsets = (int64_t *)(void *)batch->views + batch->rows;
	uint64_t need = batch->payload_bytes;
	uint8_t *at;

	for (uint32_t i = 0; i < n; i++)
		need += bounds[i].length;
	if (need > batch->compact_capacity || !batch->compact) {
		uint64_t capacity = batch->compact_capacity ? batch->compact_capacity : 4096;
		uint8_t *moved;

		while (capacity < need)
			capacity *= 2;
		moved = realloc(batch->compact, capacity);
		if (!moved)
			return -ENOMEM;
		batch->compact = moved;
		batch->compact_capacity = capacity;
	}
	at = batch->compact + batch->payload_bytes;
	offsets[0] = (int64_t)batch->payload_bytes;
	for (uint32_t i = 0; i < n; i++) {
		memcpy(at, data + bounds[i].start, bounds[i].length);
		at += bounds[i].length;
		offsets[i + 1] = offsets[i] + bounds[i].length;
	}
	batch->payload_bytes = need;
	batch->copied = true;
	return 0;
}

static int reserve(struct za_batch *batch, uint32_t n)
{
	return batch->rows + n <= batch->row_capacity ? 0 : grow_rows(batch, batch->rows + n);
}

static uint64_t add_views(struct za_batch *batch, const uint8_t *data,
			  const struct za_bound *bounds, uint32_t n, uint32_t buffer,
			  uint64_t start)
{
	struct view *views = batch->views + batch->rows;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++) {
		write_view(&views[i], data + bounds[i].start, bounds[i].length, buffer,
			   start + bounds[i].start);
		bytes += bounds[i].length;
	}
	return bytes;
}

static bool any_outside_view(const struct za_bound *bounds, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (bounds[i].length > INLINE_BYTES)
			return true;
	return false;
}

int za_batch_add(struct za_batch *batch, uint64_t offset, size_t bytes,
		 const struct za_bound *bounds, uint32_t n, const struct za_row_origin *origin)
{
	const uint8_t *data = batch->area->base + offset;
	int code = reserve(batch, n);
	uint32_t buffer = 0;
	uint64_t start = 0;

	if (code)
		return code;
	if (is_compact(batch)) {
		code = add_compact(batch, data, bounds, n);
	} else {
		/* Payloads that fit into their views leave nothing to hold. */
		if (any_outside_view(bounds, n))
			code = add_span(batch, offset, bytes, &buffer, &start);
		if (!code)
			batch->payload_bytes += add_views(batch, data, bounds, n, buffer, start);
	}
	if (code)
		return code;
	if (batch->offsets)
		for (uint32_t i = 0; i < n; i++)
			batch->offsets[batch->rows + i] = offset + bounds[i].start;
	write_origin(batch, bounds, n, origin);
	batch->rows += n;
	return 0;
}

/* A place for `length` stitched bytes that does not move until the batch is released. */
static int stitch_room(struct za_batch *batch, uint32_t length, uint8_t **place)
{
	struct buffer *buffer = &batch->buffers[batch->stitch_buffer];

	if (!batch->stitch_capacity || batch->stitch_capacity - buffer->bytes < length) {
		uint8_t *block = malloc(STITCH_BLOCK_BYTES);
		int code = block ? add_buffer(batch, block, 0, block) : -ENOMEM;

		if (code) {
			free(block);
			return code;
		}
		batch->stitch_buffer = batch->n_buffers - 1;
		batch->stitch_capacity = STITCH_BLOCK_BYTES;
		buffer = &batch->buffers[batch->stitch_buffer];
	}
	*place = (uint8_t *)buffer->owned + buffer->bytes;
	buffer->bytes += length;
	return 0;
}

static int add_stitched_view(struct za_batch *batch, uint8_t **heap, const struct za_bound *bound)
{
	const uint8_t *data = *heap + bound->start;
	struct view *view = &batch->views[batch->rows];
	uint8_t *place;
	int code;

	if (bound->length <= INLINE_BYTES) {
		write_view(view, data, bound->length, 0, 0);
		return 0;
	}
	if (bound->length >= STITCH_BLOCK_BYTES) {
		/* Long enough that a buffer of its own is cheaper than copying it again. */
		code = add_buffer(batch, data, bound->length, *heap);
		if (code)
			return code;
		write_view(view, data, bound->length, batch->n_buffers - 1, 0);
		*heap = NULL;
		return 0;
	}
	code = stitch_room(batch, bound->length, &place);
	if (code)
		return code;
	memcpy(place, data, bound->length);
	write_view(view, place, bound->length, batch->stitch_buffer,
		   (uint64_t)(place - (uint8_t *)batch->buffers[batch->stitch_buffer].owned));
	return 0;
}

int za_batch_add_stitched(struct za_batch *batch, uint8_t **heap, const struct za_bound *bound,
			  const struct za_row_origin *origin)
{
	int code = reserve(batch, 1);

	if (code)
		return code;
	if (is_compact(batch)) {
		code = add_compact(batch, *heap, bound, 1);
	} else {
		code = add_stitched_view(batch, heap, bound);
		if (!code)
			batch->payload_bytes += bound->length;
	}
	if (code)
		return code;
	write_origin(batch, bound, 1, origin);
	batch->rows++;
	return 0;
}

int za_batch_copy_out(struct za_batch *batch)
{
	uint64_t bytes = 0;
	uint8_t *at;

	for (uint32_t i = 0; i < batch->n_spans; i++)
		bytes += batch->spans[i].bytes;
	if (!bytes)
		return 0;
	at = batch->copy = malloc(bytes);
	if (!at)
		return -ENOMEM;
	/* Views name a buffer and a place in it: both stay what they are. */
	for (uint32_t i = 0; i < batch->n_buffers; i++) {
		struct buffer *buffer = &batch->buffers[i];

		if (buffer->owned)
			continue;
		memcpy(at, buffer->data, buffer->bytes);
		buffer->data = at;
		at += buffer->bytes;
	}
	za_lease_drop(batch->area, batch->spans, batch->n_spans);
	batch->n_spans = 0;
	batch->holds = 0;
	batch->copied = true;
	return 0;
}

/* --- handing over ------------------------------------------------------------------------ */

static void batch_put(struct za_batch *batch)
{
	/* acq_rel: whatever any consumer read through any of the structures happens before the
	 * chunks are given back. */
	if (atomic_fetch_sub_explicit(&batch->shares, 1, memory_order_acq_rel) != 1)
		return;
	/* A forked child drops its copy of the structures; the lease is the parent's. */
	if (za_owner_is_me(&batch->area->owner))
		za_batch_discard(batch);
}

static void release_child(struct ArrowArray *array)
{
	struct za_batch *batch = array->private_data;

	array->release = NULL;
	batch_put(batch);
}

static void release_root(struct ArrowArray *array)
{
	struct za_batch *batch = array->private_data;

	/* Children that a consumer has moved out are marked released here and live on there. */
	for (int64_t i = 0; i < array->n_children; i++)
		if (array->children[i]->release)
			array->children[i]->release(array->children[i]);
	array->release = NULL;
	batch_put(batch);
}

static void export_child(struct za_batch *batch, int64_t at, int64_t n_buffers,
			 const void **buffers)
{
	batch->children[at] = (struct ArrowArray){
		.length = batch->rows,
		.n_buffers = n_buffers,
		.buffers = buffers,
		.release = release_child,
		.private_data = batch,
	};
	batch->child_pointers[at] = &batch->children[at];
}

static void export_fixed(struct za_batch *batch, int64_t at, const void *values)
{
	batch->fixed_buffers[at][0] = NULL;
	batch->fixed_buffers[at][1] = values;
	export_child(batch, at, 2, batch->fixed_buffers[at]);
}

static void export_payload(struct za_batch *batch)
{
	const void **buffers = batch->payload_buffers;

	buffers[0] = NULL;
	buffers[1] = batch->views;
	if (is_compact(batch)) {
		buffers[2] = batch->compact;
		export_child(batch, 0, 3, buffers);
		return;
	}
	for (uint32_t i = 0; i < batch->n_buffers; i++) {
		buffers[2 + i] = batch->buffers[i].data;
		batch->buffer_lengths[i] = (int64_t)batch->buffers[i].bytes;
	}
	buffers[2 + batch->n_buffers] = batch->buffer_lengths;
	export_child(batch, 0, 3 + (int64_t)batch->n_buffers, buffers);
}

int za_batch_seal(struct za_batch *batch)
{
	const void **buffers =
		realloc(batch->payload_buffers, (3 + (size_t)batch->n_buffers) * sizeof(*buffers));
	int64_t *lengths;

	if (!buffers)
		return -ENOMEM;
	batch->payload_buffers = buffers;
	lengths = realloc(batch->buffer_lengths, (1 + (size_t)batch->n_buffers) * sizeof(*lengths));
	if (!lengths)
		return -ENOMEM;
	batch->buffer_lengths = lengths;
	batch->lent = true;
	za_process_lent(batch->holds);
	za_count_shared(&batch->area->stats.batches_held, 1);
	return 0;
}

void za_batch_export(struct za_batch *batch, struct ArrowArray *out)
{
	int64_t children = 4;

	export_payload(batch);
	export_fixed(batch, 1, batch->connections);
	export_fixed(batch, 2, batch->positions);
	export_fixed(batch, 3, batch->received);
	if (batch->offsets) {
		export_fixed(batch, 4, batch->offsets);
		if (batch->copied) {
			batch->fixed_buffers[4][0] = batch->nulls;
			batch->children[4].null_count = batch->rows;
		}
		children = 5;
	}
	batch->root_buffers[0] = NULL;
	atomic_store_explicit(&batch->shares, (uint32_t)children + 1, memory_order_relaxed);
	*out = (struct ArrowArray){
		.length = batch->rows,
		.n_buffers = 1,
		.n_children = children,
		.buffers = batch->root_buffers,
		.children = batch->child_pointers,
		.release = release_root,
		.private_data = batch,
	};
}

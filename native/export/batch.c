/* SPDX-License-Identifier: Apache-2.0 */
/* batch.c - filling a batch: rows, spans, stitched messages, copying out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "batch_internal.h"

#define INLINE_BYTES 12U /* Arrow: payloads up to this long live in the view itself */
#define STITCH_BLOCK_BYTES (64U << 10)

bool za_batch_is_copied(const struct za_batch *batch)
{
	return batch->copied;
}

static int add_buffer(struct za_batch *batch, const uint8_t *data, uint64_t bytes, void *owned)
{
	int code = za_batch_one_more((void **)&batch->buffers, &batch->buffer_capacity,
				     batch->n_buffers, sizeof(*batch->buffers));

	if (!code)
		batch->buffers[batch->n_buffers++] =
			(struct buffer){.data = data, .bytes = bytes, .owned = owned};
	return code;
}

/* Makes [offset, offset + bytes) part of the lease. Gives the buffer that covers it and where in
 * that buffer it begins. */
static int add_span(struct za_batch *batch, uint64_t offset, size_t bytes, struct za_gift *gift,
		    uint32_t *buffer, uint64_t *start)
{
	struct za_span *last = batch->n_spans ? &batch->spans[batch->n_spans - 1] : NULL;
	int code;

	/* The limit keeps view offsets in an int32, however long a run of adjacent spans gets. */
	if (last && last->offset + last->bytes == offset && last->bytes + bytes <= INT32_MAX) {
		uint64_t before = last->bytes;

		last->bytes += bytes;
		batch->holds += za_lease_grow(batch->area, *last, before, gift);
		batch->buffers[batch->open_span_buffer].bytes = last->bytes;
		*buffer = batch->open_span_buffer;
		*start = before;
		return 0;
	}
	code = za_batch_one_more((void **)&batch->spans, &batch->span_capacity, batch->n_spans,
				 sizeof(*batch->spans));
	if (!code)
		code = add_buffer(batch, batch->area->base + offset, bytes, NULL);
	if (code)
		return code;
	batch->open_span_buffer = batch->n_buffers - 1;
	batch->spans[batch->n_spans++] = (struct za_span){.offset = offset, .bytes = bytes};
	batch->holds += za_lease_take(batch->area, batch->spans[batch->n_spans - 1], gift);
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
	uint64_t *positions = batch->positions + batch->fill.rows;
	int64_t *received = batch->received + batch->fill.rows;
	uint32_t *connections = batch->connections + batch->fill.rows;

	if (n == 1) { /* raw framing: the loops' set-up would cost more than their work */
		*positions = origin->position + bounds->start;
		*received = origin->received_ns;
		*connections = origin->connection;
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		positions[i] = origin->position + bounds[i].start;
	for (uint32_t i = 0; i < n; i++)
		received[i] = origin->received_ns;
	for (uint32_t i = 0; i < n; i++)
		connections[i] = origin->connection;
}

static void write_offsets(struct za_batch *batch, uint64_t offset, const struct za_bound *bounds,
			  uint32_t n)
{
	uint64_t *offsets = batch->offsets + batch->fill.rows;

	if (n == 1) {
		*offsets = offset + bounds->start;
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		offsets[i] = offset + bounds[i].start;
}

/* large_*: the payloads move together, and nothing of the area is kept. */
static int add_compact(struct za_batch *batch, const uint8_t *data, const struct za_bound *bounds,
		       uint32_t n)
{
	int64_t *offsets = (int64_t *)(void *)batch->views + batch->fill.rows;
	uint64_t need = batch->fill.payload_bytes;
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
	at = batch->compact + batch->fill.payload_bytes;
	offsets[0] = (int64_t)batch->fill.payload_bytes;
	for (uint32_t i = 0; i < n; i++) {
		memcpy(at, data + bounds[i].start, bounds[i].length);
		at += bounds[i].length;
		offsets[i + 1] = offsets[i] + bounds[i].length;
	}
	batch->fill.payload_bytes = need;
	batch->copied = true;
	return 0;
}

static int reserve(struct za_batch *batch, uint32_t n)
{
	return batch->fill.rows + n <= batch->row_capacity
		       ? 0
		       : za_batch_grow_rows(batch, batch->fill.rows + n);
}

static uint64_t add_views(struct za_batch *batch, const uint8_t *data,
			  const struct za_bound *bounds, uint32_t n, uint32_t buffer,
			  uint64_t start)
{
	struct view *views = batch->views + batch->fill.rows;
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
		 const struct za_bound *bounds, uint32_t n, const struct za_row_origin *origin,
		 struct za_gift *gift)
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
			code = add_span(batch, offset, bytes, gift, &buffer, &start);
		if (!code)
			batch->fill.payload_bytes +=
				add_views(batch, data, bounds, n, buffer, start);
	}
	if (code)
		return code;
	if (batch->offsets)
		write_offsets(batch, offset, bounds, n);
	write_origin(batch, bounds, n, origin);
	batch->fill.rows += n;
	return 0;
}

/* A place for `length` stitched bytes that does not move until the batch is released. */
static int stitch_room(struct za_batch *batch, uint32_t length, uint8_t **place)
{
	struct buffer *buffer;

	if (!batch->stitch_capacity ||
	    batch->stitch_capacity - batch->buffers[batch->stitch_buffer].bytes < length) {
		uint8_t *block = malloc(STITCH_BLOCK_BYTES);
		int code = block ? add_buffer(batch, block, 0, block) : -ENOMEM;

		if (code) {
			free(block);
			return code;
		}
		batch->stitch_buffer = batch->n_buffers - 1;
		batch->stitch_capacity = STITCH_BLOCK_BYTES;
	}
	buffer = &batch->buffers[batch->stitch_buffer];
	*place = (uint8_t *)buffer->owned + buffer->bytes;
	buffer->bytes += length;
	return 0;
}

static int add_stitched_view(struct za_batch *batch, uint8_t **heap, const struct za_bound *bound)
{
	const uint8_t *data = *heap + bound->start;
	struct view *view = &batch->views[batch->fill.rows];
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
			batch->fill.payload_bytes += bound->length;
	}
	if (code)
		return code;
	write_origin(batch, bound, 1, origin);
	batch->fill.rows++;
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

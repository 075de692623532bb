/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch_internal.h - what a batch is made of, for the files of the batch:
 *
 *   batch_pool.c    its memory: columns that grow, batches that are used again
 *   batch.c         filling: rows, spans, stitched messages, copying out
 *   batch_export.c  handing over: the ArrowArray and its release
 */
#ifndef ZA_EXPORT_BATCH_INTERNAL_H
#define ZA_EXPORT_BATCH_INTERNAL_H

#include "batch.h"

#define MAX_CHILDREN 5

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
	struct za_batch_fill fill; /* first: za_batch_fill_of() */
	za_u32 shares; /* exported structures that are not released: the root and its children */
	struct za_area *area;
	struct za_batch *next; /* in the pool */
	uint32_t row_capacity;
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
	uint32_t pointer_capacity; /* buffers that these two have room for */
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

static inline const struct za_batch_layout *layout_of(const struct za_batch *batch)
{
	return &batch->area->pool->layout;
}

static inline bool is_compact(const struct za_batch *batch)
{
	return layout_of(batch)->payload >= ZA_PAYLOAD_LARGE_BINARY;
}

/* batch_pool.c */
/* Room for `rows` rows in the columns; keeps what is there. 0 or -ENOMEM. */
int za_batch_grow_rows(struct za_batch *batch, uint32_t rows);
/* Makes a full array larger. 0 or -ENOMEM. */
int za_batch_grow_array(void **array, uint32_t *capacity, size_t element_bytes);

/* Room for one more element. 0 or -ENOMEM. */
static inline int za_batch_one_more(void **array, uint32_t *capacity, uint32_t n,
				    size_t element_bytes)
{
	return n < *capacity ? 0 : za_batch_grow_array(array, capacity, element_bytes);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h - rows, their columns and the lease that they read by.
 *
 * A batch is filled by the receiver thread, then exported as an ArrowArray. Its variadic buffers
 * are the exact spans of the area that its rows use (adjacent ones merged) and the memory of
 * stitched messages, never the area as a whole: consumers serialise such buffers whole.
 *
 * Source of the layout: Arrow columnar format, "Variable-size Binary View Layout"; C data
 * interface, "Variadic buffers" (lengths come as one more int64 buffer).
 */
#ifndef ZA_EXPORT_BATCH_H
#define ZA_EXPORT_BATCH_H

#include "../decode/frame.h"
#include "../reclaim/lease.h"
#include "../za.h"

struct za_batch;
struct za_batch_pool;

/* What all batches of a source have in common. */
struct za_batch_layout {
	uint8_t payload;   /* enum za_payload_type */
	bool with_offsets; /* the column area_offset */
	uint32_t max_rows;
	uint32_t max_bytes;
};

/* Where the rows of one call come from. */
struct za_row_origin {
	uint32_t connection;
	uint64_t position;   /* in the stream, of data[0] */
	int64_t received_ns; /* CLOCK_REALTIME */
};

/* Batches that were released, with their columns' memory, for the next ones. Any thread. */
struct za_batch_pool *za_batch_pool_new(const struct za_batch_layout *layout);
void za_batch_pool_free(struct za_batch_pool *pool);

/* An empty batch that owns a share of the area. */
int za_batch_new(struct za_area *area, struct za_batch **out);
/* Gives up a batch that was not exported: its lease goes back. */
void za_batch_discard(struct za_batch *batch);

/* How full a batch is: what every batch begins with, so that asking costs no call. */
struct za_batch_fill {
	uint32_t rows, max_rows;
	uint64_t payload_bytes, max_bytes;
};

static inline const struct za_batch_fill *za_batch_fill_of(const struct za_batch *batch)
{
	return (const struct za_batch_fill *)(const void *)batch;
}

static inline uint32_t za_batch_rows(const struct za_batch *batch)
{
	return za_batch_fill_of(batch)->rows;
}

static inline uint64_t za_batch_bytes(const struct za_batch *batch)
{
	return za_batch_fill_of(batch)->payload_bytes;
}

/* How many more rows fit. */
static inline uint32_t za_batch_room(const struct za_batch *batch)
{
	return za_batch_fill_of(batch)->max_rows - za_batch_fill_of(batch)->rows;
}

/* No more rows fit. */
static inline bool za_batch_full(const struct za_batch *batch)
{
	return !za_batch_room(batch) ||
	       za_batch_fill_of(batch)->payload_bytes >= za_batch_fill_of(batch)->max_bytes;
}

/* Receiver thread. Adds messages that lie in the area: bounds are relative to area byte `offset`,
 * the first `bytes` bytes from there are used up by them. `gift` may be NULL. 0 or -ENOMEM, then
 * nothing was added. */
int za_batch_add(struct za_batch *batch, uint64_t offset, size_t bytes,
		 const struct za_bound *bounds, uint32_t n, const struct za_row_origin *origin,
		 struct za_gift *gift);
/* Receiver thread. Adds one message that was stitched: data[bound]. If `*heap` (what data was
 * malloc'ed as) is worth keeping it is moved into the batch and set to NULL. */
int za_batch_add_stitched(struct za_batch *batch, uint8_t **heap, const struct za_bound *bound,
			  const struct za_row_origin *origin);
/* Receiver thread. Copies all that lies in the area into memory of the batch's own and gives the
 * lease back. 0 or -ENOMEM, then the lease is still held. */
int za_batch_copy_out(struct za_batch *batch);
bool za_batch_is_copied(const struct za_batch *batch);

/* Receiver thread. No more rows come: reserves what za_batch_export() needs, so that handing over
 * cannot fail, and counts the lease as outstanding. 0 or -ENOMEM. */
int za_batch_seal(struct za_batch *batch);
/* Moves the batch into `out`; releasing that (and children moved out of it) gives it back, on any
 * thread, without waiting for the receiver. */
void za_batch_export(struct za_batch *batch, struct ArrowArray *out);

#endif

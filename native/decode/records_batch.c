/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records_batch.c - plain layouts become a whole batch in one call: small batches would cost more to
 * put together column by column than to decode.
 *
 * Source: Arrow C data interface, "Moving child arrays".
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "records.h"

#define MOST_COLUMNS 64U

/* All columns of a batch in one block, which goes when the last of them is released. */
struct flat_batch {
	_Atomic uint32_t shares;
	const void *none[1];
	struct ArrowArray **pointers;
	struct ArrowArray *children;
	const void **buffers;
};

static void flat_put(struct flat_batch *flat)
{
	if (atomic_fetch_sub_explicit(&flat->shares, 1, memory_order_acq_rel) == 1)
		free(flat);
}

static void flat_release_child(struct ArrowArray *array)
{
	struct flat_batch *flat = array->private_data;

	array->release = NULL;
	flat_put(flat);
}

static void flat_release(struct ArrowArray *array)
{
	struct flat_batch *flat = array->private_data;

	for (int64_t i = 0; i < array->n_children; i++)
		if (array->children[i]->release)
			array->children[i]->release(array->children[i]);
	array->release = NULL;
	flat_put(flat);
}

static size_t padded(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63; /* Arrow: buffers are best aligned to 64 bytes */
}

int za_records_flat(const struct za_records *records, const struct ArrowArray *batch,
		    struct ArrowArray *out)
{
	static const struct za_origins no_origins;
	const struct za_layout *layout = &records->layouts[0];
	uint32_t n = records->n_columns;
	uint64_t count = za_records_count(records, batch), rows;
	struct za_column columns[MOST_COLUMNS] = {0};
	struct flat_batch *flat;
	struct za_bad bad;
	size_t bytes;
	uint8_t *at;

	if (n > MOST_COLUMNS || layout->n_fields != n)
		return -EINVAL;
	bytes = padded(sizeof(*flat) + n * (sizeof(void *) * 3 + sizeof(struct ArrowArray)));
	for (uint32_t i = 0; i < n; i++)
		bytes += padded(count * layout->fields[i].out_bytes);
	flat = aligned_alloc(64, bytes);
	if (!flat)
		return -ENOMEM;
	flat->none[0] = NULL;
	flat->children = (struct ArrowArray *)(void *)(flat + 1);
	flat->pointers = (struct ArrowArray **)(void *)(flat->children + n);
	flat->buffers = (const void **)(void *)(flat->pointers + n);
	at = (uint8_t *)flat +
	     padded(sizeof(*flat) + n * (sizeof(void *) * 3 + sizeof(struct ArrowArray)));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t column = layout->fields[i].column;

		columns[column].values = at;
		flat->buffers[2 * column] = NULL;
		flat->buffers[2 * column + 1] = at;
		at += padded(count * layout->fields[i].out_bytes);
	}
	(void)za_records_decode(records, batch, columns, &no_origins, &bad, 1, &rows);
	for (uint32_t i = 0; i < n; i++) {
		flat->children[i] = (struct ArrowArray){
			.length = (int64_t)rows,
			.n_buffers = 2,
			.buffers = flat->buffers + 2 * (size_t)i,
			.release = flat_release_child,
			.private_data = flat,
		};
		flat->pointers[i] = &flat->children[i];
	}
	atomic_init(&flat->shares, n + 1);
	*out = (struct ArrowArray){
		.length = (int64_t)rows,
		.n_buffers = 1,
		.n_children = n,
		.buffers = flat->none,
		.children = flat->pointers,
		.release = flat_release,
		.private_data = flat,
	};
	return 0;
}

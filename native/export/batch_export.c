/* SPDX-License-Identifier: Apache-2.0 */
/* batch_export.c - handing a batch over: the ArrowArray and its release. */
#include <errno.h>
#include <stdlib.h>

#include "batch_internal.h"

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
		.length = batch->fill.rows,
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

/* Room for what Arrow wants beside the buffers themselves: two pointers before, lengths after. */
static int reserve_pointers(struct za_batch *batch)
{
	const void **pointers;
	int64_t *lengths;
	uint32_t capacity = batch->buffer_capacity;

	/* Grows as `buffers` does, so a batch that is used again has room already. */
	if (!batch->payload_buffers || capacity != batch->pointer_capacity) {
		pointers =
			realloc(batch->payload_buffers, (3 + (size_t)capacity) * sizeof(*pointers));
		if (!pointers)
			return -ENOMEM;
		batch->payload_buffers = pointers;
		lengths = realloc(batch->buffer_lengths, (1 + (size_t)capacity) * sizeof(*lengths));
		if (!lengths)
			return -ENOMEM;
		batch->buffer_lengths = lengths;
		batch->pointer_capacity = capacity;
	}
	return 0;
}

int za_batch_seal(struct za_batch *batch)
{
	int code = reserve_pointers(batch);

	if (code)
		return code;
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
			batch->children[4].null_count = batch->fill.rows;
		}
		children = 5;
	}
	batch->root_buffers[0] = NULL;
	atomic_store_explicit(&batch->shares, (uint32_t)children + 1, memory_order_relaxed);
	*out = (struct ArrowArray){
		.length = batch->fill.rows,
		.n_buffers = 1,
		.n_children = children,
		.buffers = batch->root_buffers,
		.children = batch->child_pointers,
		.release = release_root,
		.private_data = batch,
	};
}

bool za_in_area(const struct ArrowArray *array, int64_t i)
{
	const struct za_batch *batch = array->private_data;

	/* Messages that Python has cut lie in somebody else's structures. */
	if (array->release != release_root)
		return false;
	return i >= 0 && i < batch->n_buffers && !batch->copied && !batch->buffers[i].owned;
}

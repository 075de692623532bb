/* SPDX-License-Identifier: Apache-2.0 */
#include "tail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_CAPACITY 4096U

void za_tail_keep(struct za_tail *tail, struct za_area *area, uint64_t offset, size_t bytes,
		  struct za_gift *gift)
{
	tail->span = (struct za_span){.offset = offset, .bytes = bytes};
	za_lease_take(area, tail->span, gift);
}

int za_tail_stitch(struct za_tail *tail, struct za_area *area)
{
	struct za_span span = tail->span;
	int code;

	if (!span.bytes)
		return 0;
	code = za_tail_append(tail, area, area->base + span.offset, span.bytes);
	if (code)
		return code;
	tail->span.bytes = 0;
	za_lease_drop(area, &span, 1);
	return 0;
}

int za_tail_append(struct za_tail *tail, struct za_area *area, const uint8_t *data, size_t bytes)
{
	size_t need = tail->heap_bytes + bytes;

	if (need > tail->heap_capacity) {
		size_t capacity = tail->heap_capacity ? tail->heap_capacity : KEPT_CAPACITY;
		uint8_t *moved;

		while (capacity < need)
			capacity *= 2;
		moved = realloc(tail->heap, capacity);
		if (!moved)
			return -ENOMEM;
		tail->heap = moved;
		tail->heap_capacity = (uint32_t)capacity;
	}
	memcpy(tail->heap + tail->heap_bytes, data, bytes);
	tail->heap_bytes = (uint32_t)need;
	za_count(&area->stats.stitched_bytes, bytes);
	return 0;
}

void za_tail_clear(struct za_tail *tail, struct za_area *area)
{
	if (tail->span.bytes)
		za_lease_drop(area, &tail->span, 1);
	tail->span.bytes = 0;
	tail->heap_bytes = 0;
	/* A batch may have taken the block; and a thousand quiet connections must not each keep
	 * the memory of their longest message. */
	if (!tail->heap || tail->heap_capacity > KEPT_CAPACITY) {
		free(tail->heap);
		tail->heap = NULL;
		tail->heap_capacity = 0;
	}
}

void za_tail_fini(struct za_tail *tail, struct za_area *area)
{
	za_tail_clear(tail, area);
	free(tail->heap);
	tail->heap = NULL;
	tail->heap_capacity = 0;
}

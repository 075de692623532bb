/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.h - reading an exported batch as a consumer would: from the ArrowArray alone, by the Arrow
 * specification, with every view checked against the length of its buffer.
 */
#ifndef ZA_TEST_ROWS_H
#define ZA_TEST_ROWS_H

#include <stdbool.h>
#include <string.h>

#include "../za.h"
#include "check.h"

struct row {
	const uint8_t *data;
	uint32_t bytes;
	uint32_t connection;
	uint64_t position;
};

static inline struct row row_of_view(const struct ArrowArray *payload, int64_t at)
{
	const uint8_t *view = (const uint8_t *)payload->buffers[1] + 16 * at;
	const int64_t *lengths = payload->buffers[payload->n_buffers - 1];
	struct row row = {.data = view + 4};
	int32_t place[2];

	memcpy(&row.bytes, view, 4);
	if (row.bytes <= 12) {
		for (uint32_t i = row.bytes; i < 12; i++)
			CHECK(!view[4 + i], "padding of an inline view");
		return row;
	}
	memcpy(place, view + 8, 8);
	CHECK(place[0] >= 0 && place[0] < payload->n_buffers - 3, "buffer %d of %d", place[0],
	      (int)payload->n_buffers - 3);
	CHECK(place[1] >= 0 && place[1] + (int64_t)row.bytes <= lengths[place[0]],
	      "view %d+%u outside of its buffer of %lld", place[1], row.bytes,
	      (long long)lengths[place[0]]);
	row.data = (const uint8_t *)payload->buffers[2 + place[0]] + place[1];
	CHECK(!memcmp(view + 4, row.data, 4), "prefix of a view");
	return row;
}

static inline struct row row_at(const struct ArrowArray *batch, bool views, int64_t at)
{
	const struct ArrowArray *payload = batch->children[0];
	struct row row;

	if (views) {
		row = row_of_view(payload, at);
	} else {
		const int64_t *offsets = payload->buffers[1];

		row.data = (const uint8_t *)payload->buffers[2] + offsets[at];
		row.bytes = (uint32_t)(offsets[at + 1] - offsets[at]);
	}
	row.connection = ((const uint32_t *)batch->children[1]->buffers[1])[at];
	row.position = ((const uint64_t *)batch->children[2]->buffers[1])[at];
	return row;
}

/* FNV-1a over everything that a consumer can read. */
static inline uint64_t batch_hash(const struct ArrowArray *batch, bool views)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (int64_t i = 0; i < batch->length; i++) {
		struct row row = row_at(batch, views, i);

		hash = (hash ^ row.position) * 0x100000001b3ULL;
		for (uint32_t j = 0; j < row.bytes; j++)
			hash = (hash ^ row.data[j]) * 0x100000001b3ULL;
	}
	return hash;
}

#endif

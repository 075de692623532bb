/* SPDX-License-Identifier: Apache-2.0 */
/* ipc_batch.c - the messages of a batch, looked at in one call. */
#include <string.h>

#include "../za.h"

#define INLINE_BYTES 12U

void za_ipc_look(const struct ArrowArray *batch, struct za_ipc_message *out)
{
	const struct ArrowArray *payload = batch->children[0];
	const uint32_t *connections = batch->children[1]->buffers[1];
	const uint64_t *positions = batch->children[2]->buffers[1];
	const int64_t *received = batch->children[3]->buffers[1];

	for (int64_t row = 0; row < payload->length; row++, out++) {
		const uint8_t *view =
			(const uint8_t *)payload->buffers[1] + 16 * (row + payload->offset);
		struct za_error error;
		int32_t place[2];

		memcpy(&out->length, view, sizeof(out->length));
		memcpy(place, view + 8, sizeof(place));
		out->in_area = out->length > INLINE_BYTES && za_in_area(batch, place[0]);
		out->data = out->length > INLINE_BYTES
				    ? (const uint8_t *)payload->buffers[2 + place[0]] + place[1]
				    : view + 4;
		out->connection = connections[row + batch->children[1]->offset];
		out->position = positions[row + batch->children[2]->offset];
		out->received = received[row + batch->children[3]->offset];
		out->code = za_ipc_inspect(out->data, out->length, &out->info, &error);
	}
}

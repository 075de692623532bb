/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_ipc.c - Arrow IPC stream messages: a row is one encapsulated message, its prefix included.
 *
 * The marker that ends a stream (a length of 0) is a message too, of 8 bytes; another stream may
 * follow it. The form without a continuation marker, written before Arrow 0.15, is not taken.
 *
 * Source: see ipc.h.
 */
#include "frame_measured.h"
#include "ipc.h"

static inline int measure(const struct za_framing *framing, const uint8_t *data, size_t len,
			  struct za_measure *out)
{
	int code = za_ipc_measure(data, len, framing->max_message_bytes, &out->need, &out->total);

	out->length = out->total;
	return code;
}

ZA_MEASURED_OPS(ipc, measure)

const struct za_framing_ops za_framing_ipc = {
	.name = "arrow-ipc",
	.broken =
		"no Arrow IPC message begins there (a marker of four bytes 0xFF, the length of the "
		"metadata, a flatbuffer)",
	.scan = ipc_scan,
	.extend = ipc_extend,
	.finish = za_measured_finish,
};

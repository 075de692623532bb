/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_varint.c - a base-128 varint holds the message's length.
 *
 * Source: Protocol Buffers, "Encoding", "Base 128 Varints": seven bits a byte, the lowest first, the
 * top bit says that more follow, at most ten bytes. Written by parseDelimitedFrom()'s counterpart in
 * every protobuf library. An encoding longer than need be is taken as those libraries take it.
 */
#include <errno.h>

#include "frame_measured.h"

#define MOST_BYTES 10

static inline int measure(const struct za_framing *framing, const uint8_t *data, size_t len,
			  struct za_measure *out)
{
	uint64_t value = 0;
	size_t n = 0;

	for (;; n++) {
		if (n == MOST_BYTES)
			return -EBADMSG;
		if (n == len) {
			out->need = len + 1;
			return 0;
		}
		/* Of the tenth byte only one bit is left. */
		if (n == MOST_BYTES - 1 && data[n] > 1)
			return -EBADMSG;
		value |= (uint64_t)(data[n] & 0x7F) << (7 * n);
		if (!(data[n] & 0x80))
			break;
	}
	if (value > framing->max_message_bytes)
		return -EMSGSIZE;
	out->start = n + 1;
	out->length = (size_t)value;
	out->total = out->start + out->length;
	return 0;
}

ZA_MEASURED_OPS(varint, measure)

const struct za_framing_ops za_framing_varint = {
	.name = "varint",
	.broken = "a length has more than ten bytes, or more than 64 bits",
	.scan = varint_scan,
	.extend = varint_extend,
	.finish = za_measured_finish,
};

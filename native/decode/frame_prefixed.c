/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_prefixed.c - a header of fixed size holds the message's length.
 *
 * The field has 1, 2, 4 or 8 bytes in either order, lies anywhere in the header, counts units of
 * one or more bytes, and may count the header too. So it fits, among others,
 *   SoupBinTCP 4.00, section 2 (u16 big endian, not counting itself),
 *   gRPC over HTTP/2, "Length-Prefixed-Message" (a flag byte, then u32 big endian),
 *   DBN records (u8 in units of 4 bytes, counting the header, which is part of the record).
 */
#include <errno.h>
#include <string.h>

#include "frame_measured.h"

static inline uint64_t read_length(const struct za_prefix *prefix, const uint8_t *at)
{
	uint16_t two;
	uint32_t four;
	uint64_t eight;

	switch (prefix->width) {
	case 1:
		return *at;
	case 2:
		memcpy(&two, at, sizeof(two));
		return prefix->swap ? __builtin_bswap16(two) : two;
	case 4:
		memcpy(&four, at, sizeof(four));
		return prefix->swap ? __builtin_bswap32(four) : four;
	default:
		memcpy(&eight, at, sizeof(eight));
		return prefix->swap ? __builtin_bswap64(eight) : eight;
	}
}

static inline int measure(const struct za_framing *framing, const uint8_t *data, size_t len,
			  struct za_measure *out)
{
	const struct za_prefix *prefix = &framing->prefix;
	size_t header = prefix->header_bytes;
	size_t counted = prefix->counts_header ? header : 0;
	size_t kept = prefix->keep_header ? header : 0;
	uint64_t value;

	if (len < header) {
		out->need = header;
		return 0;
	}
	value = read_length(prefix, data + prefix->offset);
	/* First against the limit, so that nothing below can overflow. */
	if (value > ((uint64_t)framing->max_message_bytes + counted) / prefix->unit)
		return -EMSGSIZE;
	value *= prefix->unit;
	if (value < counted)
		return -EBADMSG;
	value -= counted;
	if (value + kept > framing->max_message_bytes)
		return -EMSGSIZE;
	out->total = header + (size_t)value;
	out->start = header - kept;
	out->length = (size_t)value + kept;
	return 0;
}

ZA_MEASURED_OPS(prefixed, measure)

const struct za_framing_ops za_framing_prefixed = {
	.name = "length-prefixed",
	.broken = "a length is less than its header's, which it counts",
	.scan = prefixed_scan,
	.extend = prefixed_extend,
	.finish = za_measured_finish,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * utf8.c - is this text? Source: The Unicode Standard, table 3-7 "Well-Formed UTF-8 Byte
 * Sequences": no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#include <string.h>

#include "frame.h"

static inline bool continues(uint8_t byte)
{
	return (byte & 0xC0) == 0x80;
}

/* Length of the well-formed sequence at p, which does not begin with ASCII; 0 if there is none. */
static size_t sequence(const uint8_t *p, size_t left)
{
	uint8_t low = 0x80, high = 0xBF;
	size_t bytes;

	if (p[0] >= 0xC2 && p[0] <= 0xDF)
		bytes = 2;
	else if (p[0] >= 0xE0 && p[0] <= 0xEF)
		bytes = 3;
	else if (p[0] >= 0xF0 && p[0] <= 0xF4)
		bytes = 4;
	else
		return 0;
	if (left < bytes)
		return 0;
	if (p[0] == 0xE0)
		low = 0xA0;
	else if (p[0] == 0xED)
		high = 0x9F;
	else if (p[0] == 0xF0)
		low = 0x90;
	else if (p[0] == 0xF4)
		high = 0x8F;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < bytes; i++)
		if (!continues(p[i]))
			return 0;
	return bytes;
}

bool za_utf8_valid(const uint8_t *data, size_t len)
{
	size_t at = 0;

	while (at < len) {
		uint64_t eight;
		size_t bytes;

		if (len - at >= sizeof(eight)) {
			memcpy(&eight, data + at, sizeof(eight));
			if (!(eight & 0x8080808080808080ULL)) {
				at += sizeof(eight);
				continue;
			}
		}
		if (data[at] < 0x80) {
			at++;
			continue;
		}
		bytes = sequence(data + at, len - at);
		if (!bytes)
			return false;
		at += bytes;
	}
	return true;
}

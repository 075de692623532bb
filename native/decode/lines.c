/* SPDX-License-Identifier: Apache-2.0 */
/* lines.c - what can be said of lines of text without parsing them. */
#include <string.h>

#include "../za.h"

int64_t za_lines_plain(const uint8_t *data, size_t len, uint8_t first, uint8_t last)
{
	const uint8_t *end = data + len;
	int64_t lines = 0;

	while (data < end) {
		const uint8_t *stop = memchr(data, '\n', (size_t)(end - data));
		const uint8_t *next = stop ? stop + 1 : end;
		size_t length = (size_t)((stop ? stop : end) - data);

		if (length && data[length - 1] == '\r')
			length--;
		if (length) {
			if ((first && data[0] != first) || (last && data[length - 1] != last) ||
			    memchr(data, '\r', length))
				return -1;
			lines++;
		}
		data = next;
	}
	return lines;
}

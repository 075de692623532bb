/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts.c - text as parts behind which there is room.
 */
#include <stdlib.h>
#include <string.h>

#include "parts.h"

#define ON_STACK 4096U

bool za_read_parts(const uint8_t *data, size_t len, za_part_fn read, void *work)
{
	uint8_t few[ON_STACK], *copy = few;
	const uint8_t *end = NULL;
	size_t near, left;
	bool good;

	if (len > ZA_PART_SLACK)
		end = memrchr(data, '\n', len - ZA_PART_SLACK);
	near = end ? (size_t)(end + 1 - data) : 0;
	if (near && !read(work, data, near))
		return false;
	left = len - near;
	if (!left)
		return true;
	if (left + 1 + ZA_PART_SLACK > ON_STACK) {
		copy = malloc(left + 1 + ZA_PART_SLACK);
		if (!copy)
			return false;
	}
	memcpy(copy, data + near, left);
	if (copy[left - 1] != '\n')
		copy[left++] = '\n';
	memset(copy + left, 0, ZA_PART_SLACK);
	good = read(work, copy, left);
	if (copy != few)
		free(copy);
	return good;
}

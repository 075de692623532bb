/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts.h - text is read 16 and 64 bytes at a time, but never beyond its end: its last lines, which
 * are too near to it, are read from a copy that has room behind it.
 */
#ifndef ZA_DECODE_PARTS_H
#define ZA_DECODE_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZA_PART_SLACK 128U /* bytes behind a part that can be read */

/* Reads whole lines, each ended by LF; false: enough of it. */
typedef bool (*za_part_fn)(void *work, const uint8_t *data, size_t len);

/* Gives all of the text to `read`, in two parts at most. The copy's slack is zero. False: `read` has
 * said so, or no memory. */
bool za_read_parts(const uint8_t *data, size_t len, za_part_fn read, void *work);

#endif

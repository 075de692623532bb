/* SPDX-License-Identifier: Apache-2.0 */
/* records_move.c - fields of fixed size go to their columns, in either byte order. */
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "records.h"

#define SWAPPED (1U << 31) /* no field is so long */

#define MOVE(type, from, expression)                                    \
	do {                                                            \
		type *to = (type *)(void *)column->values + first;      \
                                                                        \
		for (uint32_t i = 0; i < group->n; i++) {               \
			type v;                                         \
                                                                        \
			memcpy(&v, (from) + offset, sizeof(v));         \
			v = (expression);                               \
			memcpy(to + (size_t)i * stride, &v, sizeof(v)); \
		}                                                       \
	} while (0)

/* One element of every record of a group of one layout. `first`: where the first goes, `stride`: how
 * far apart they are, in elements. `from`: where record i lies. */
#define MOVE_ANY(from)                                                                        \
	switch (field->swap ? SWAPPED + field->bytes : field->bytes) {                        \
	case 1:                                                                               \
	case SWAPPED + 1:                                                                     \
		MOVE(uint8_t, from, v);                                                       \
		return;                                                                       \
	case 2:                                                                               \
		MOVE(uint16_t, from, v);                                                      \
		return;                                                                       \
	case 4:                                                                               \
		MOVE(uint32_t, from, v);                                                      \
		return;                                                                       \
	case 8:                                                                               \
		MOVE(uint64_t, from, v);                                                      \
		return;                                                                       \
	case SWAPPED + 2:                                                                     \
		MOVE(uint16_t, from, __builtin_bswap16(v));                                   \
		return;                                                                       \
	case SWAPPED + 4:                                                                     \
		MOVE(uint32_t, from, __builtin_bswap32(v));                                   \
		return;                                                                       \
	case SWAPPED + 8:                                                                     \
		MOVE(uint64_t, from, __builtin_bswap64(v));                                   \
		return;                                                                       \
	default: /* bytes have no order */                                                    \
		if (field->bytes >= 16 && field->bytes <= 32)                                 \
			MOVE_BYTES(from, 16);                                                 \
		else if (field->bytes > 8 && field->bytes < 16)                               \
			MOVE_BYTES(from, 8);                                                  \
		else                                                                          \
			for (uint32_t i = 0; i < group->n; i++)                               \
				memcpy(column->values +                                       \
					       (first + (uint64_t)i * stride) * field->bytes, \
				       (from) + offset, field->bytes);                        \
	}

/* One to two times `part` bytes, as two parts that may overlap: no call. */
#define MOVE_BYTES(from, part)                                                              \
	do {                                                                                \
		uint8_t *to = column->values + first * field->bytes;                        \
		size_t apart = (size_t)stride * field->bytes, last = field->bytes - (part); \
                                                                                            \
		for (uint32_t i = 0; i < group->n; i++, to += apart) {                      \
			const uint8_t *at = (from) + offset;                                \
			uint8_t head[part], tail[part];                                     \
                                                                                            \
			memcpy(head, at, part);                                             \
			memcpy(tail, at + last, part);                                      \
			memcpy(to, head, part);                                             \
			memcpy(to + last, tail, part);                                      \
		}                                                                           \
	} while (0)

static void move_scattered(const struct za_record_group *group, const struct za_field *field,
			   uint32_t offset, struct za_column *column, uint64_t first,
			   uint32_t stride)
{
	MOVE_ANY(group->at[i])
}

#if defined(__x86_64__)
static inline __m128i pair_of_8(const uint8_t *from, size_t step)
{
	return _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i_u *)(const void *)from),
				  _mm_loadl_epi64((const __m128i_u *)(const void *)(from + step)));
}

static inline __m128i four_of_4(const uint8_t *from, size_t step)
{
	__m128i a = _mm_loadu_si32(from), b = _mm_loadu_si32(from + step);
	__m128i c = _mm_loadu_si32(from + 2 * step), d = _mm_loadu_si32(from + 3 * step);

	return _mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
}

/* Several records a store: stores are what limits the plain loop. Each gives how many are done. */
static uint32_t move_8(const uint8_t *from, size_t step, uint32_t n, uint8_t *to)
{
	uint32_t i = 0;

	for (; i + 4 <= n; i += 4, from += 4 * step) {
		__m128i first = pair_of_8(from, step), second = pair_of_8(from + 2 * step, step);

		_mm_storeu_si128((__m128i *)(void *)(to + 8UL * i), first);
		_mm_storeu_si128((__m128i *)(void *)(to + 8UL * i + 16), second);
	}
	return i;
}

static uint32_t move_4(const uint8_t *from, size_t step, uint32_t n, uint8_t *to)
{
	uint32_t i = 0;

	for (; i + 4 <= n; i += 4, from += 4 * step)
		_mm_storeu_si128((__m128i *)(void *)(to + 4UL * i), four_of_4(from, step));
	return i;
}

__attribute__((target("ssse3"))) static uint32_t swap_8(const uint8_t *from, size_t step,
							uint32_t n, uint8_t *to)
{
	const __m128i order = _mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
	uint32_t i = 0;

	for (; i + 4 <= n; i += 4, from += 4 * step) {
		__m128i first = pair_of_8(from, step), second = pair_of_8(from + 2 * step, step);

		_mm_storeu_si128((__m128i *)(void *)(to + 8UL * i), _mm_shuffle_epi8(first, order));
		_mm_storeu_si128((__m128i *)(void *)(to + 8UL * i + 16),
				 _mm_shuffle_epi8(second, order));
	}
	return i;
}

__attribute__((target("ssse3"))) static uint32_t swap_4(const uint8_t *from, size_t step,
							uint32_t n, uint8_t *to)
{
	const __m128i order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
	uint32_t i = 0;

	for (; i + 4 <= n; i += 4, from += 4 * step)
		_mm_storeu_si128((__m128i *)(void *)(to + 4UL * i),
				 _mm_shuffle_epi8(four_of_4(from, step), order));
	return i;
}

/* How many of the first records were moved; the rest is for the plain loop. */
static uint32_t move_wide(const struct za_field *field, const uint8_t *from, size_t step,
			  uint32_t n, uint8_t *to)
{
	if (field->bytes != 4 && field->bytes != 8)
		return 0;
	if (!field->swap)
		return field->bytes == 8 ? move_8(from, step, n, to) : move_4(from, step, n, to);
	if (!__builtin_cpu_supports("ssse3"))
		return 0;
	return field->bytes == 8 ? swap_8(from, step, n, to) : swap_4(from, step, n, to);
}
#else
static uint32_t move_wide(const struct za_field *field, const uint8_t *from, size_t step,
			  uint32_t n, uint8_t *to)
{
	(void)field, (void)from, (void)step, (void)n, (void)to;
	return 0;
}
#endif

/* Records that lie one behind the other. */
static void move_adjacent(const struct za_record_group *whole, const struct za_field *field,
			  uint32_t offset, struct za_column *column, uint64_t first,
			  uint32_t stride)
{
	const uint8_t *base = whole->at[0];
	struct {
		uint32_t n;
	} rest = {whole->n}, *group = &rest;
	size_t step = whole->step;

	if (stride == 1) {
		uint32_t done = move_wide(field, base + offset, step, whole->n,
					  column->values + first * field->bytes);

		base += done * step;
		first += done;
		rest.n -= done;
	}
	MOVE_ANY(base + i * step)
}

void za_records_move(const struct za_record_group *group, const struct za_field *field,
		     uint32_t offset, struct za_column *column, uint64_t first, uint32_t stride)
{
	if (group->step)
		move_adjacent(group, field, offset, column, first, stride);
	else
		move_scattered(group, field, offset, column, first, stride);
}

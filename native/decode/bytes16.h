/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes16.h - questions about 16 bytes at once; the answer has bit i for byte i.
 *
 * SSE2, which every x86-64 has; elsewhere byte by byte, for compilers to make what they can of it.
 */
#ifndef ZA_DECODE_BYTES16_H
#define ZA_DECODE_BYTES16_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>

typedef __m128i za_bytes16;

static inline za_bytes16 za_load16(const uint8_t *at)
{
	return _mm_loadu_si128((const __m128i *)(const void *)at);
}

static inline uint32_t za_equal16(za_bytes16 v, uint8_t byte)
{
	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8((char)byte)));
}

/* Which are at most `most`. */
static inline uint32_t za_at_most16(za_bytes16 v, uint8_t most)
{
	__m128i less = _mm_min_epu8(v, _mm_set1_epi8((char)most));

	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(less, v));
}

/* Which are ASCII digits. */
static inline uint32_t za_digits16(za_bytes16 v)
{
	return za_at_most16(_mm_sub_epi8(v, _mm_set1_epi8('0')), 9);
}

/* Which are none of ASCII. */
static inline uint32_t za_high16(za_bytes16 v)
{
	return (uint32_t)_mm_movemask_epi8(v);
}

static inline uint32_t za_same16(za_bytes16 a, za_bytes16 b)
{
	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
}
#else
typedef struct {
	uint8_t byte[16];
} za_bytes16;

#define ZA_EACH16(condition)                                \
	({                                                  \
		uint32_t bits = 0;                          \
		for (uint32_t i = 0; i < 16; i++)           \
			bits |= (uint32_t)(condition) << i; \
		bits;                                       \
	})

static inline za_bytes16 za_load16(const uint8_t *at)
{
	za_bytes16 v;

	memcpy(v.byte, at, sizeof(v.byte));
	return v;
}

static inline uint32_t za_equal16(za_bytes16 v, uint8_t byte)
{
	return ZA_EACH16(v.byte[i] == byte);
}

static inline uint32_t za_at_most16(za_bytes16 v, uint8_t most)
{
	return ZA_EACH16(v.byte[i] <= most);
}

static inline uint32_t za_digits16(za_bytes16 v)
{
	return ZA_EACH16(v.byte[i] >= '0' && v.byte[i] <= '9');
}

static inline uint32_t za_high16(za_bytes16 v)
{
	return ZA_EACH16(v.byte[i] >= 0x80);
}

static inline uint32_t za_same16(za_bytes16 a, za_bytes16 b)
{
	return ZA_EACH16(a.byte[i] == b.byte[i]);
}
#endif

/* The lowest n bits, n < 32. */
static inline uint32_t za_low_bits(uint32_t n)
{
	return (1U << n) - 1;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_delimited.c - a message is what stands before a delimiter of 1 to 8 bytes.
 *
 * Delimiters are found from left to right and do not overlap: of "aaa" split by "aa" the message
 * is empty and "a" remains.
 *
 * With blocks, a row is as many whole messages as lie together, delimiters included: what a parser
 * of text wants, and one search from the end instead of one a message.
 */
#include <errno.h>
#include <string.h>

#include "frame.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

struct scan {
	struct za_bound *bounds;
	uint32_t n, room;
	size_t start; /* of the message that is being looked for */
	size_t limit; /* of its length */
	bool over;    /* it is over the limit */
};

/* A delimiter lies at `at`. False when the scan must stop. */
static inline bool scan_found(struct scan *scan, size_t at, size_t delimiter_bytes)
{
	size_t length = at - scan->start;

	if (length > scan->limit) {
		scan->over = true;
		return false;
	}
	scan->bounds[scan->n++] =
		(struct za_bound){.start = (uint32_t)scan->start, .length = (uint32_t)length};
	scan->start = at + delimiter_bytes;
	return scan->n < scan->room;
}

static void scan_bytes(struct scan *scan, const uint8_t *data, size_t at, size_t len, uint8_t byte)
{
	while (at < len) {
		const uint8_t *hit = memchr(data + at, byte, len - at);

		if (!hit || !scan_found(scan, (size_t)(hit - data), 1))
			return;
		at = (size_t)(hit - data) + 1;
	}
}

#if defined(__x86_64__)
/* 64 bytes at a time as one bit each, so that the work goes with the messages and not with calls:
 * on lines of 100 bytes several times the speed of memchr(). Every x86-64 has SSE2. */
static inline uint64_t match64_sse2(const uint8_t *p, __m128i wanted)
{
	uint64_t mask = 0;

	for (int i = 0; i < 4; i++) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
		uint32_t bits = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, wanted));

		mask |= (uint64_t)bits << (16 * i);
	}
	return mask;
}

__attribute__((target("avx2"))) static inline uint64_t match64_avx2(const uint8_t *p,
								    __m256i wanted)
{
	__m256i low = _mm256_loadu_si256((const __m256i *)(const void *)p);
	__m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
	uint32_t low_bits = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, wanted));
	uint32_t high_bits = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, wanted));

	return low_bits | (uint64_t)high_bits << 32;
}

#define SCAN_BLOCKS(match, wanted)                                               \
	do {                                                                     \
		for (; at + 64 <= len; at += 64) {                               \
			uint64_t mask = match(data + at, wanted);                \
                                                                                 \
			for (; mask; mask &= mask - 1) {                         \
				size_t hit = at + (size_t)__builtin_ctzll(mask); \
                                                                                 \
				if (!scan_found(scan, hit, 1))                   \
					return;                                  \
			}                                                        \
		}                                                                \
		scan_bytes(scan, data, at, len, byte);                           \
	} while (0)

static void scan_one_sse2(struct scan *scan, const uint8_t *data, size_t at, size_t len,
			  uint8_t byte)
{
	__m128i wanted = _mm_set1_epi8((char)byte);

	SCAN_BLOCKS(match64_sse2, wanted);
}

__attribute__((target("avx2"))) static void scan_one_avx2(struct scan *scan, const uint8_t *data,
							  size_t at, size_t len, uint8_t byte)
{
	__m256i wanted = _mm256_set1_epi8((char)byte);

	SCAN_BLOCKS(match64_avx2, wanted);
}
#endif

static void scan_one(struct scan *scan, const uint8_t *data, size_t at, size_t len, uint8_t byte)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
		scan_one_avx2(scan, data, at, len, byte);
	else
		scan_one_sse2(scan, data, at, len, byte);
#else
	scan_bytes(scan, data, at, len, byte);
#endif
}

static void scan_many(struct scan *scan, const struct za_framing *framing, const uint8_t *data,
		      size_t at, size_t len)
{
	while (at < len) {
		const uint8_t *hit =
			memmem(data + at, len - at, framing->delimiter, framing->delimiter_bytes);

		if (!hit)
			return;
		at = (size_t)(hit - data);
		if (!scan_found(scan, at, framing->delimiter_bytes))
			return;
		at += framing->delimiter_bytes;
	}
}

/* An unfinished message of `len` bytes may end in part of a delimiter, which does not count. */
static bool over_limit(const struct za_framing *framing, size_t len)
{
	return len > (size_t)framing->max_message_bytes + framing->delimiter_bytes - 1;
}

/* Whole messages that lie together, as one row. None of them is over the limit: wherever the bytes
 * are cut into fragments, the same message breaks the framing. */
static int scan_block(const struct za_framing *framing, const uint8_t *data, size_t len,
		      struct za_bound *bounds, size_t *consumed)
{
	size_t limit = framing->max_message_bytes, at = 0;
	uint8_t byte = framing->delimiter[0];
	const uint8_t *last;

	*consumed = 0;
	while (len - at > limit) {
		/* The last delimiter that a message of the limit's length could end with. */
		last = memrchr(data + at, byte, limit + 1);
		if (!last && !at)
			return -EMSGSIZE;
		if (!last) {
			len = at;
			break;
		}
		at = (size_t)(last - data) + 1;
	}
	last = memrchr(data, byte, len);
	if (!last)
		return 0;
	*consumed = (size_t)(last - data) + 1;
	bounds[0] = (struct za_bound){.start = 0, .length = (uint32_t)*consumed};
	return 1;
}

static int delimited_scan(const struct za_framing *framing, const uint8_t *data, size_t len,
			  size_t from, struct za_bound *bounds, uint32_t room, size_t *consumed)
{
	struct scan scan = {.bounds = bounds, .room = room, .limit = framing->max_message_bytes};
	size_t overlap = framing->delimiter_bytes - 1U;
	/* A delimiter may have begun in the bytes that were scanned before. */
	size_t at = from > overlap ? from - overlap : 0;

	if (framing->blocks)
		return room ? scan_block(framing, data, len, bounds, consumed) : 0;
	*consumed = 0;
	if (framing->delimiter_bytes == 1)
		scan_one(&scan, data, at, len, framing->delimiter[0]);
	else
		scan_many(&scan, framing, data, at, len);
	*consumed = scan.start;
	if (scan.n)
		return (int)scan.n;
	return scan.over || over_limit(framing, len) ? -EMSGSIZE : 0;
}

/* The delimiter that begins in the last bytes of head and ends in next: how many bytes of next. */
static size_t across_seam(const struct za_framing *framing, const uint8_t *head, size_t head_len,
			  const uint8_t *next, size_t next_len)
{
	size_t bytes = framing->delimiter_bytes;

	/* The leftmost one: the longest part in head comes first. */
	for (size_t in_head = bytes - 1; in_head > 0; in_head--) {
		size_t in_next = bytes - in_head;

		if (in_head <= head_len && in_next <= next_len &&
		    !memcmp(head + head_len - in_head, framing->delimiter, in_head) &&
		    !memcmp(next, framing->delimiter + in_head, in_next))
			return in_next;
	}
	return 0;
}

static int delimited_extend(const struct za_framing *framing, const uint8_t *head, size_t head_len,
			    const uint8_t *next, size_t next_len, size_t *taken, bool *whole)
{
	size_t used = across_seam(framing, head, head_len, next, next_len);

	if (!used) {
		const uint8_t *hit =
			memmem(next, next_len, framing->delimiter, framing->delimiter_bytes);

		if (hit)
			used = (size_t)(hit - next) + framing->delimiter_bytes;
	}
	*whole = used > 0;
	*taken = used ? used : next_len;
	if (*whole)
		return head_len + used - framing->delimiter_bytes > framing->max_message_bytes
			       ? -EMSGSIZE
			       : 0;
	return over_limit(framing, head_len + next_len) ? -EMSGSIZE : 0;
}

static bool delimited_finish(const struct za_framing *framing, const uint8_t *head, size_t head_len,
			     struct za_bound *bound)
{
	(void)head;
	*bound = (struct za_bound){.start = 0, .length = (uint32_t)head_len};
	return framing->emit_unterminated && head_len > 0 && head_len <= framing->max_message_bytes;
}

const struct za_framing_ops za_framing_delimited = {
	.name = "delimited",
	.broken = "",
	.scan = delimited_scan,
	.extend = delimited_extend,
	.finish = delimited_finish,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lines.c - what can be said of lines of text without parsing them.
 *
 * One pass finds out what the usual text is like: ASCII, LF alone between lines, no empty lines.
 * Only what is not so is looked at again, slowly.
 */
#include <string.h>

#include "../za.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

struct look {
	size_t start; /* of the line that is being looked at */
	int64_t lines;
	bool regular; /* lines have no CR and are not empty, and begin and end as they should */
	bool high;    /* a byte is none of ASCII */
	bool quoted;
	bool behind; /* something but LF stands behind a closing brace */
};

static bool line_fits(const uint8_t *line, size_t length, uint8_t first, uint8_t last)
{
	return (!first || line[0] == first) && (!last || line[length - 1] == last);
}

/* Lines, empty ones aside; -1 if one does not fit, or a CR stands elsewhere than at its end. */
static int64_t count_lines(const uint8_t *data, size_t len, uint8_t first, uint8_t last)
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
			if (!line_fits(data, length, first, last) || memchr(data, '\r', length))
				return -1;
			lines++;
		}
		data = next;
	}
	return lines;
}

/* A regular line ends at `at`. */
static inline void end_line(struct look *look, const uint8_t *data, size_t at,
			    const struct za_text_kind *kind)
{
	size_t length = at - look->start;

	if (!length || !line_fits(data + look->start, length, kind->first, kind->last))
		look->regular = false;
	look->lines++;
	look->start = at + 1;
}

static void look_bytes(struct look *look, const uint8_t *data, size_t at, size_t len,
		       const struct za_text_kind *kind)
{
	for (; at < len; at++) {
		uint8_t byte = data[at];

		look->high |= byte >= 0x80;
		look->quoted |= kind->quote && byte == kind->quote;
		look->behind |= byte == '}' && at + 1 < len && data[at + 1] != '\n';
		if (byte == '\r')
			look->regular = false;
		else if (byte == '\n')
			end_line(look, data, at, kind);
	}
}

#if defined(__x86_64__)
static inline __m128i load(const uint8_t *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* 64 bytes at a time, as far as one byte behind them can be read; gives how far it came. */
static size_t look_blocks(struct look *look, const uint8_t *data, size_t len,
			  const struct za_text_kind *kind)
{
	const __m128i lf = _mm_set1_epi8('\n'), cr = _mm_set1_epi8('\r');
	const __m128i brace = _mm_set1_epi8('}'), quote = _mm_set1_epi8((char)kind->quote);
	__m128i any_cr = _mm_setzero_si128(), any_high = any_cr, any_quote = any_cr;
	__m128i any_behind = any_cr;
	size_t at = 0;

	for (; at + 65 <= len; at += 64) {
		uint64_t ends = 0;

		for (int i = 0; i < 4; i++) {
			__m128i v = load(data + at + 16 * i);

			any_cr = _mm_or_si128(any_cr, _mm_cmpeq_epi8(v, cr));
			any_high = _mm_or_si128(any_high, v);
			any_quote = _mm_or_si128(any_quote, _mm_cmpeq_epi8(v, quote));
			if (kind->last == '}') {
				__m128i next = _mm_cmpeq_epi8(load(data + at + 16 * i + 1), lf);
				__m128i closed = _mm_cmpeq_epi8(v, brace);

				any_behind =
					_mm_or_si128(any_behind, _mm_andnot_si128(next, closed));
			}
			ends |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, lf))
				<< (16 * i);
		}
		for (; ends; ends &= ends - 1)
			end_line(look, data, at + (size_t)__builtin_ctzll(ends), kind);
	}
	look->regular &= !_mm_movemask_epi8(any_cr);
	look->high |= _mm_movemask_epi8(any_high) != 0;
	look->quoted |= kind->quote && _mm_movemask_epi8(any_quote);
	look->behind |= _mm_movemask_epi8(any_behind) != 0;
	return at;
}
#else
static size_t look_blocks(struct look *look, const uint8_t *data, size_t len,
			  const struct za_text_kind *kind)
{
	(void)look, (void)data, (void)len, (void)kind;
	return 0;
}
#endif

/* Whether the word `null` stands behind a closing brace and JSON's white space. */
static bool null_behind(const uint8_t *data, size_t len)
{
	const uint8_t *end = data + len;

	while ((data = memchr(data, '}', (size_t)(end - data)))) {
		do
			data++;
		while (data < end &&
		       (*data == ' ' || *data == '\t' || *data == '\r' || *data == '\n'));
		if (end - data >= 4 && !memcmp(data, "null", 4))
			return true;
	}
	return false;
}

void za_text_look(const uint8_t *data, size_t len, const struct za_text_kind *kind,
		  struct za_text_look *out)
{
	struct look look = {.regular = true};

	look_bytes(&look, data, look_blocks(&look, data, len, kind), len, kind);
	if (look.start < len)
		end_line(&look, data, len, kind);
	out->lines = look.regular ? look.lines : count_lines(data, len, kind->first, kind->last);
	out->utf8 = !look.high || za_utf8_valid(data, len);
	out->quoted = look.quoted;
	/* Where lines are regular, what follows a brace and an LF is none. */
	out->null_behind = kind->first == '{' && kind->last == '}' &&
			   (look.behind || !look.regular) && null_behind(data, len);
}

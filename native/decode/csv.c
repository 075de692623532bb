/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csv.c - plain CSV to typed columns.
 *
 * Two steps for some thousand values at a time: an index of where values begin, 64 bytes of text at
 * once, and then column by column those that are wanted. So what nobody asks for costs no more than
 * being passed.
 *
 * Source: RFC 4180, but lines may end with LF alone; quotes within quotes are left to a general parser.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "columns.h"
#include "parts.h"

#define BLOCK 64U
#define INDEX 4096U /* 16 KiB: it stays in the first cache, as does the text that it is of */
#define MOST_VALUES 1024U

struct csv_work {
	const struct za_csv *csv;
	struct za_columns columns;
	size_t rows;        /* that are in the columns */
	size_t bytes, read; /* of all of the text; of it before this part */
	uint32_t high;      /* not 0: there may be more than ASCII */
	bool returns;       /* there are CRs, each in front of an LF */
	bool quotes;        /* there are quotes, each where a value begins or ends */
	bool in_quotes;     /* between two of them */
	const uint8_t *data;
	uint32_t n;     /* ends of values that are in the index */
	uint32_t lines; /* of these, by LF */
	uint32_t
		next[INDEX + 1]; /* [0] where the first value begins; [i + 1] behind the end of i */
};

/* --- the index ------------------------------------------------------------------------------- */

struct block {
	uint64_t ends, lines;
	bool odd; /* it has quotes, CRs, or more than ASCII */
};

typedef struct block (*look_fn)(const uint8_t *at, const struct za_csv *csv);

static inline struct block look(const uint8_t *at, const struct za_csv *csv)
{
	struct block block = {0};
	uint32_t odd = 0;

	for (uint32_t i = 0; i < BLOCK; i += 16) {
		za_bytes16 v = za_load16(at + i);
		uint64_t lines = za_equal16(v, '\n');

		block.lines |= lines << i;
		block.ends |= (lines | za_equal16(v, csv->delimiter)) << i;
		odd |= za_equal16(v, '\r') | za_equal16(v, csv->quote) | za_high16(v);
	}
	block.odd = odd;
	return block;
}

#if defined(__x86_64__)
#define ZA_AVX2 __attribute__((target("avx2,bmi,popcnt")))

ZA_AVX2 static inline struct block look_avx2(const uint8_t *at, const struct za_csv *csv)
{
	const __m256i lf = _mm256_set1_epi8('\n'), cr = _mm256_set1_epi8('\r');
	const __m256i delimiter = _mm256_set1_epi8((char)csv->delimiter);
	const __m256i quote = _mm256_set1_epi8((char)csv->quote);
	__m256i odd = _mm256_setzero_si256();
	struct block block = {0};

	for (uint32_t i = 0; i < BLOCK; i += 32) {
		__m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(at + i));
		__m256i lines = _mm256_cmpeq_epi8(v, lf);
		__m256i ends = _mm256_or_si256(lines, _mm256_cmpeq_epi8(v, delimiter));

		block.lines |= (uint64_t)(uint32_t)_mm256_movemask_epi8(lines) << i;
		block.ends |= (uint64_t)(uint32_t)_mm256_movemask_epi8(ends) << i;
		odd = _mm256_or_si256(odd, _mm256_or_si256(v, _mm256_cmpeq_epi8(v, cr)));
		odd = _mm256_or_si256(odd, _mm256_cmpeq_epi8(v, quote));
	}
	block.odd = _mm256_movemask_epi8(odd);
	return block;
}
#endif

/* For each bit, whether there is an odd number of bits up to it. */
static inline uint64_t odd_up_to(uint64_t bits)
{
	for (uint32_t i = 1; i < 64; i *= 2)
		bits ^= bits << i;
	return bits;
}

/* Takes ends within quotes off. A quote must begin a value, or end one: what is between two then has
 * none, doubled or not. */
static bool look_at_quotes(struct csv_work *work, struct block *block, const uint8_t *at,
			   uint64_t quotes, uint64_t returns)
{
	uint64_t within = odd_up_to(quotes) ^ (work->in_quotes ? UINT64_MAX : 0);
	uint64_t opening = quotes & within, closing = quotes & ~within;
	uint8_t before = at > work->data ? at[-1] : '\n', behind = at[BLOCK];
	bool at_begin = before == '\n' || before == work->csv->delimiter;
	bool at_end = behind == '\n' || behind == '\r' || behind == work->csv->delimiter;

	if (block->lines & within)
		return false;
	block->ends &= ~within;
	if (opening & ~(block->ends << 1 | at_begin))
		return false;
	if (closing & ~((block->ends | returns) >> 1 | (uint64_t)at_end << 63))
		return false;
	work->in_quotes = within >> 63;
	work->quotes = true;
	return true;
}

/* A block that has something unusual: false, if that is not plain. */
static bool look_closely(struct csv_work *work, struct block *block, size_t at, uint64_t inside)
{
	const uint8_t *data = work->data + at;
	uint64_t quotes = 0, returns = 0;

	for (uint32_t i = 0; i < BLOCK; i += 16) {
		za_bytes16 v = za_load16(data + i);

		returns |= (uint64_t)za_equal16(v, '\r') << i;
		quotes |= (uint64_t)za_equal16(v, work->csv->quote) << i;
		work->high |= za_high16(v);
	}
	returns &= inside;
	for (uint64_t each = returns; each; each &= each - 1)
		if (data[__builtin_ctzll(each) + 1] != '\n') /* perhaps in the next block */
			return false;
	work->returns |= returns != 0;
	quotes = work->csv->quote ? quotes & inside : 0;
	if (quotes || work->in_quotes)
		return look_at_quotes(work, block, data, quotes, returns);
	return true;
}

/* Adds values of data[at..len) until the index is full; gives how far it came, or SIZE_MAX for what
 * is not plain. */
static inline __attribute__((always_inline)) size_t index_by(struct csv_work *work, size_t at,
							     size_t len, look_fn look_at)
{
	uint32_t n = work->n;

	for (; at < len && n + BLOCK <= INDEX; at += BLOCK) {
		struct block block = look_at(work->data + at, work->csv);
		size_t bytes = len - at < BLOCK ? len - at : BLOCK;
		uint64_t inside = UINT64_MAX >> (BLOCK - bytes);

		block.lines &= inside;
		block.ends &= inside;
		if ((block.odd || work->in_quotes) && !look_closely(work, &block, at, inside))
			return SIZE_MAX;
		work->lines += (uint32_t)__builtin_popcountll(block.lines);
		for (uint64_t each = block.ends; each; each &= each - 1)
			work->next[++n] = (uint32_t)(at + (size_t)__builtin_ctzll(each) + 1);
	}
	work->n = n;
	return at;
}

#if defined(__x86_64__)
ZA_AVX2 static size_t index_avx2(struct csv_work *work, size_t at, size_t len)
{
	return index_by(work, at, len, look_avx2);
}
#endif

static size_t index_values(struct csv_work *work, size_t at, size_t len)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
	    __builtin_cpu_supports("popcnt"))
		return index_avx2(work, at, len);
#endif
	return index_by(work, at, len, look);
}

/* --- values ---------------------------------------------------------------------------------- */

static bool is_null_word(const struct za_csv *csv, const uint8_t *at, uint32_t n)
{
	for (uint32_t i = 0; i < csv->n_nulls; i++)
		if (csv->nulls[i].bytes == n && !memcmp(csv->nulls[i].text, at, n))
			return true;
	return false;
}

static inline bool is_null(const struct za_csv *csv, const uint8_t *at, uint32_t n)
{
	if (!n)
		return csv->empty_is_null;
	return csv->begins_null[*at] && is_null_word(csv, at, n);
}

static bool put_real_slowly(struct za_grown *column, size_t row, const uint8_t *at, uint32_t n)
{
	uint32_t i = *at == '-', digits = i;

	/* As JSON has them; strtod() takes much more. */
	while (i < n && at[i] >= '0' && at[i] <= '9')
		i++;
	if (i == digits)
		return false;
	if (i < n && at[i] == '.')
		for (digits = ++i; i < n && at[i] >= '0' && at[i] <= '9';)
			i++;
	if (i == digits)
		return false;
	if (i < n && (at[i] | 0x20) == 'e') {
		i++;
		if (i < n && (at[i] == '-' || at[i] == '+'))
			i++;
		for (digits = i; i < n && at[i] >= '0' && at[i] <= '9';)
			i++;
		if (i == digits)
			return false;
	}
	return i == n &&
	       za_number_slowly(at, n, column->is->bytes, column->values + row * column->is->bytes);
}

static inline bool put_real(struct za_grown *column, size_t row, const uint8_t *at, uint32_t n)
{
	struct za_decimal decimal = {.at = at + (*at == '-'), .minus = *at == '-'};
	uint32_t length = n - decimal.minus, point;

	if (!length)
		return false;
	if (length <= 16) {
		point = za_equal16(za_load16(decimal.at), '.') & za_low_bits(length);
		decimal.a = point ? (uint32_t)__builtin_ctz(point) : length;
		decimal.b = point ? length - decimal.a - 1 : 0;
		if (decimal.a && (decimal.b || !point) &&
		    za_real(&decimal, column->is->bytes, column->values + row * column->is->bytes))
			return true;
	}
	return put_real_slowly(column, row, at, n);
}

/* `kind` is a constant where this is inlined. */
static inline __attribute__((always_inline)) bool put(struct za_grown *column, size_t row,
						      const uint8_t *at, uint32_t n, uint8_t kind)
{
	const struct za_text_column *is = column->is;
	const struct za_time_form form = {is->digits, is->zone, is->no_zone};
	uint64_t value;
	int64_t time;

	switch (kind) {
	case ZA_VALUE_INT:
	case ZA_VALUE_UINT:
		if (!n || !za_integer(at, n, is->bytes, kind == ZA_VALUE_INT, &value))
			return false;
		za_put_word(column, row, value);
		return true;
	case ZA_VALUE_REAL:
		return n && put_real(column, row, at, n);
	case ZA_VALUE_BOOL:
		if (n == 4 ? memcmp(at, "true", 4) : n != 5 || memcmp(at, "false", 5))
			return false;
		za_put_bool(column, row, n == 4);
		return true;
	case ZA_VALUE_TIME:
		if (!za_time(at, n, &form, &column->day, &time))
			return false;
		memcpy(column->values + row * sizeof(time), &time, sizeof(time));
		return true;
	case ZA_VALUE_DAY:
		if (n != 10 || !za_day_of(at, &column->day))
			return false;
		za_put_word(column, row, (uint64_t)column->day.days);
		return true;
	case ZA_VALUE_TEXT:
		return za_put_text(column, row, at, n);
	default:
		return za_put_view(column, row, at, n);
	}
}

/* A column's values of `rows` rows from the index. */
static inline __attribute__((always_inline)) bool
fill_kind(struct csv_work *work, struct za_grown *column, uint32_t rows, uint8_t kind)
{
	const struct za_csv *csv = work->csv;
	const uint32_t step = csv->n_values, *next = work->next + column->is->place;
	bool last = work->returns && column->is->place == step - 1;

	for (uint32_t i = 0; i < rows; i++, next += step) {
		const uint8_t *at = work->data + next[0];
		uint32_t n = next[1] - next[0] - 1;
		bool good;

		if (last && n && at[n - 1] == '\r')
			n--;
		if (work->quotes && n && *at == csv->quote) {
			at++;
			n -= 2;
		}
		if (is_null(csv, at, n))
			good = za_put_null(column, work->rows + i);
		else
			good = put(column, work->rows + i, at, n, kind);
		if (!good)
			return false;
	}
	return true;
}

static bool fill(struct csv_work *work, struct za_grown *column, uint32_t rows)
{
	if (column->is->place == ZA_NOWHERE)
		return za_put_nulls(column, work->rows, rows);
	switch (column->is->kind) {
	case ZA_VALUE_INT:
		return fill_kind(work, column, rows, ZA_VALUE_INT);
	case ZA_VALUE_UINT:
		return fill_kind(work, column, rows, ZA_VALUE_UINT);
	case ZA_VALUE_REAL:
		return fill_kind(work, column, rows, ZA_VALUE_REAL);
	case ZA_VALUE_BOOL:
		return fill_kind(work, column, rows, ZA_VALUE_BOOL);
	case ZA_VALUE_TIME:
		return fill_kind(work, column, rows, ZA_VALUE_TIME);
	case ZA_VALUE_DAY:
		return fill_kind(work, column, rows, ZA_VALUE_DAY);
	case ZA_VALUE_TEXT:
		return fill_kind(work, column, rows, ZA_VALUE_TEXT);
	default:
		return fill_kind(work, column, rows, ZA_VALUE_VIEW);
	}
}

/* Whether the index's first rows end where lines do. */
static bool rows_are_lines(const struct csv_work *work, uint32_t rows)
{
	uint32_t step = work->csv->n_values;

	for (uint32_t i = step; i <= rows * step; i += step)
		if (work->data[work->next[i] - 1] != '\n')
			return false;
	/* Blank lines are no rows. Where rows have more values, they have shown as rows of one. */
	for (uint32_t i = 0; step == 1 && i < rows; i++) {
		const uint8_t *line = work->data + work->next[i];

		if (*line == '\n' || (*line == '\r' && line[1] == '\n'))
			return false;
	}
	return true;
}

/* All of the index's rows that are whole; it comes as far as `behind`. */
static bool fill_rows(struct csv_work *work, size_t behind)
{
	uint32_t step = work->csv->n_values, rows = work->n / step, used = rows * step;
	size_t all = work->rows + rows;

	if (!rows)
		return true;
	if (!rows_are_lines(work, rows))
		return false;
	if (za_columns_reserve(&work->columns, all, work->read + behind, work->bytes))
		return false;
	for (uint32_t i = 0; i < work->columns.n; i++)
		if (!fill(work, &work->columns.column[i], rows))
			return false;
	work->rows = all;
	work->lines -= rows;
	work->n -= used;
	memmove(work->next, work->next + used, (work->n + 1) * sizeof(*work->next));
	return true;
}

static bool read_part(void *context, const uint8_t *data, size_t len)
{
	struct csv_work *work = context;
	size_t at = 0;

	work->data = data;
	work->n = 0;
	work->lines = 0;
	work->next[0] = 0;
	while (at < len) {
		at = index_values(work, at, len);
		if (at == SIZE_MAX || !fill_rows(work, at < len ? at : len))
			return false;
		/* An LF within a row. */
		if (work->lines > work->n)
			return false;
	}
	work->read += len;
	return !work->n && !work->lines;
}

bool za_csv_plain(const struct za_csv *csv, const uint8_t *data, size_t len, struct ArrowArray *out)
{
	struct csv_work work = {.csv = csv, .bytes = len};
	bool good;

	if (!len || len > INT32_MAX || csv->n_values > MOST_VALUES)
		return false;
	/* Whether a byte order mark is a part of the first value is not for here to say. */
	if (len >= 3 && !memcmp(data, "\xEF\xBB\xBF", 3))
		return false;
	if (za_columns_init(&work.columns, csv->columns, csv->n_columns))
		return false;
	good = za_read_parts(data, len, read_part, &work) &&
	       (!work.high || za_utf8_valid(data, len)) &&
	       !za_columns_export(&work.columns, work.rows, out);
	za_columns_fini(&work.columns);
	return good;
}

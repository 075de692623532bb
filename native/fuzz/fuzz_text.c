/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_text.c - any text, as CSV and as objects, is read to columns that are valid Arrow, or refused;
 * and reading it in two parts gives what reading it as a whole gives.
 *
 * Input: options as choose() takes them, then the text, which is repeated. It lies in a buffer of its
 * size, so that whoever reads beyond it is seen to.
 */
#include <string.h>

#include "../za.h"
#include "input.h"

#define COLUMNS 6
#define KINDS 8

struct plan {
	struct za_text_column columns[COLUMNS];
	struct za_csv csv;
	struct za_ndjson ndjson;
	uint32_t repeat;
	uint16_t half;
};

static const struct za_text_word nulls[] = {
	{(const uint8_t *)"NA", 2}, {(const uint8_t *)"null", 4}, {(const uint8_t *)"-", 1}};
static const struct za_text_word names[COLUMNS] = {
	{(const uint8_t *)"a", 1}, {(const uint8_t *)"b", 1}, {(const uint8_t *)"name", 4},
	{(const uint8_t *)"", 0},  {(const uint8_t *)"c", 1}, {(const uint8_t *)"\xC3\xA9", 2}};

static void choose_column(struct input *input, struct za_text_column *column, uint32_t n_values)
{
	static const uint8_t widths[] = {1, 2, 4, 8}, digits[] = {0, 3, 6, 9};
	uint8_t kind = take(input), options = take(input);

	column->kind = kind % KINDS;
	column->place = options >> 5 == 7 ? ZA_NOWHERE : (options >> 5) % n_values;
	column->nullable = options & 1;
	column->zone = options & 2;
	column->no_zone = options & 4 || !column->zone;
	column->digits = digits[options >> 3 & 3];
	switch (column->kind) {
	case ZA_VALUE_REAL:
		column->bytes = options & 8 ? 4 : 8;
		break;
	case ZA_VALUE_DAY:
		column->bytes = 4;
		break;
	case ZA_VALUE_TIME:
		column->bytes = 8;
		break;
	case ZA_VALUE_VIEW:
		column->bytes = 16;
		break;
	default:
		column->bytes = widths[options >> 3 & 3];
	}
}

static void choose(struct input *input, struct plan *plan)
{
	uint8_t counts = take(input), options = take(input);

	plan->half = (uint16_t)(take(input) | take(input) << 8);
	plan->repeat = 1 + take(input);
	plan->csv = (struct za_csv){
		.columns = plan->columns,
		.n_columns = 1 + counts % COLUMNS,
		.n_values = 1 + (counts / COLUMNS) % 7,
		.delimiter = options & 1 ? '\t' : ',',
		.quote = options & 2 ? '"' : 0,
		.empty_is_null = options & 4,
		.n_nulls = options >> 3 & 3,
		.nulls = nulls,
	};
	for (uint32_t i = 0; i < plan->csv.n_nulls; i++)
		plan->csv.begins_null[nulls[i].text[0]] = 1;
	for (uint32_t i = 0; i < plan->csv.n_columns; i++)
		choose_column(input, &plan->columns[i], plan->csv.n_values);
	plan->ndjson = (struct za_ndjson){
		.columns = plan->columns,
		.n_columns = plan->csv.n_columns,
		.names = names,
		.ignore_others = options & 32,
	};
}

/* --- what is made is Arrow -------------------------------------------------------------------- */

static bool is_valid(const struct ArrowArray *array, int64_t row)
{
	const uint8_t *bits = array->buffers[0];

	return !bits || bits[row >> 3] >> (row & 7) & 1;
}

/* A text at a row. */
static const uint8_t *text_at(const struct ArrowArray *array, uint8_t kind, int64_t row,
			      uint32_t *bytes)
{
	int32_t view[4];

	if (kind == ZA_VALUE_TEXT) {
		const int32_t *offsets = array->buffers[1];

		CHECK(offsets[row] >= 0 && offsets[row] <= offsets[row + 1], "offsets of row %lld",
		      (long long)row);
		*bytes = (uint32_t)(offsets[row + 1] - offsets[row]);
		return (const uint8_t *)array->buffers[2] + offsets[row];
	}
	memcpy(view, (const uint8_t *)array->buffers[1] + 16 * row, sizeof(view));
	*bytes = (uint32_t)view[0];
	if (view[0] > 12) {
		const int64_t *sizes = array->buffers[array->n_buffers - 1];

		CHECK(array->n_buffers == 4 && !view[2] && view[3] >= 0 &&
			      (int64_t)view[3] + view[0] <= sizes[0],
		      "view of row %lld", (long long)row);
		CHECK(!memcmp(&view[1], (const uint8_t *)array->buffers[2] + view[3], 4),
		      "prefix of row %lld", (long long)row);
		return (const uint8_t *)array->buffers[2] + view[3];
	}
	for (uint32_t i = *bytes; i < 12; i++)
		CHECK(!((const uint8_t *)array->buffers[1])[16 * row + 4 + i],
		      "bytes behind the view of row %lld", (long long)row);
	return (const uint8_t *)array->buffers[1] + 16 * row + 4;
}

static void check_column(const struct ArrowArray *array, const struct za_text_column *is)
{
	int64_t nulls_seen = 0;
	uint32_t bytes;

	CHECK(is->nullable || !array->null_count, "nulls in a column that has none");
	for (int64_t row = 0; row < array->length; row++) {
		nulls_seen += !is_valid(array, row);
		if (is->kind == ZA_VALUE_TEXT || is->kind == ZA_VALUE_VIEW) {
			const uint8_t *text = text_at(array, is->kind, row, &bytes);

			CHECK(za_utf8_valid(text, bytes), "row %lld is not UTF-8", (long long)row);
			CHECK(is_valid(array, row) || !bytes, "a null of %u bytes", bytes);
		}
	}
	CHECK(nulls_seen == array->null_count, "%lld nulls, not %lld", (long long)nulls_seen,
	      (long long)array->null_count);
}

static void check_batch(const struct ArrowArray *batch, const struct plan *plan)
{
	CHECK(batch->n_children == plan->csv.n_columns, "%lld columns",
	      (long long)batch->n_children);
	for (int64_t i = 0; i < batch->n_children; i++) {
		CHECK(batch->children[i]->length == batch->length, "column %lld", (long long)i);
		check_column(batch->children[i], &plan->columns[i]);
	}
}

/* Whether row `a` of one batch is row `b` of another. */
static bool same_row(const struct plan *plan, const struct ArrowArray *x, int64_t a,
		     const struct ArrowArray *y, int64_t b)
{
	for (int64_t i = 0; i < x->n_children; i++) {
		const struct ArrowArray *left = x->children[i], *right = y->children[i];
		const struct za_text_column *is = &plan->columns[i];

		if (is_valid(left, a) != is_valid(right, b))
			return false;
		if (is->kind == ZA_VALUE_TEXT || is->kind == ZA_VALUE_VIEW) {
			uint32_t m, n;
			const uint8_t *s = text_at(left, is->kind, a, &m);
			const uint8_t *t = text_at(right, is->kind, b, &n);

			if (m != n || memcmp(s, t, m))
				return false;
		} else if (is->kind == ZA_VALUE_BOOL) {
			const uint8_t *s = left->buffers[1], *t = right->buffers[1];

			if ((s[a >> 3] >> (a & 7) & 1) != (t[b >> 3] >> (b & 7) & 1))
				return false;
		} else if (memcmp((const uint8_t *)left->buffers[1] + a * is->bytes,
				  (const uint8_t *)right->buffers[1] + b * is->bytes, is->bytes)) {
			return false;
		}
	}
	return true;
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool read_exactly(const struct plan *plan, bool csv, const uint8_t *data, size_t len,
			 struct ArrowArray *out)
{
	uint8_t *exact = malloc(len ? len : 1);
	bool good;

	CHECK(exact, "out of memory");
	memcpy(exact, data, len);
	good = csv ? za_csv_plain(&plan->csv, exact, len, out)
		   : za_ndjson_plain(&plan->ndjson, exact, len, out);
	free(exact);
	if (good)
		check_batch(out, plan);
	return good;
}

static void read_all(const struct plan *plan, bool csv, const uint8_t *data, size_t len)
{
	struct ArrowArray whole, parts[2];
	const uint8_t *cut =
		len ? memchr(data + plan->half % len, '\n', len - plan->half % len) : NULL;
	size_t first = cut ? (size_t)(cut + 1 - data) : len;
	bool good = read_exactly(plan, csv, data, len, &whole), goods[2];

	if (!first || first == len) {
		if (good)
			whole.release(&whole);
		return;
	}
	goods[0] = read_exactly(plan, csv, data, first, &parts[0]);
	goods[1] = read_exactly(plan, csv, data + first, len - first, &parts[1]);
	/* The other way round is not so: a byte order mark is one at the beginning only. */
	CHECK(!(goods[0] && goods[1]) || good, "refused, though both parts are not");
	if (good && goods[0] && goods[1]) {
		CHECK(whole.length == parts[0].length + parts[1].length, "%lld rows",
		      (long long)whole.length);
		for (int64_t i = 0; i < whole.length; i++) {
			bool late = i >= parts[0].length;

			CHECK(same_row(plan, &whole, i, &parts[late],
				       late ? i - parts[0].length : i),
			      "row %lld of %lld", (long long)i, (long long)whole.length);
		}
	}
	if (good)
		CHECK(goods[0], "refused, though the whole is not");
	for (int i = 0; i < 2; i++)
		if (goods[i])
			parts[i].release(&parts[i]);
	if (good)
		whole.release(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct plan plan;
	struct input input = {data, size};
	uint8_t *text;

	memset(&plan, 0, sizeof(plan));
	choose(&input, &plan);
	text = malloc(plan.repeat * input.left + 1);
	CHECK(text, "out of memory");
	for (uint32_t i = 0; i < plan.repeat; i++)
		memcpy(text + i * input.left, input.at, input.left);
	read_all(&plan, true, text, plan.repeat * input.left);
	read_all(&plan, false, text, plan.repeat * input.left);
	free(text);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ndjson.c - plain JSON objects, one a line, to typed columns.
 *
 * A feed's objects are written by one program: the same members in the same order, with the same
 * spaces. So what stood between two values in the line before is expected to stand there again, and is
 * compared 16 bytes at once; only where it does not are a member's name and what is around it read.
 *
 * Source: RFC 8259; https://github.com/ndjson/ndjson-spec.
 */
#include <stdlib.h>

#include "columns.h"
#include "json.h"
#include "parts.h"

#define MOST_COLUMNS 64U
#define MEMBERS 64U
#define EXPECTED 64U /* bytes between two values that are remembered */

/* What was between two values: the end of one, a comma, a name, a colon, spaces. */
struct expected {
	uint8_t text[EXPECTED];
	uint32_t bytes;  /* 0: unknown */
	uint32_t column; /* of the value behind it */
};

struct ndjson_work {
	const struct za_ndjson *ndjson;
	struct za_columns columns;
	size_t rows;
	size_t bytes, read; /* of all of the text; of it before this part */
	uint32_t high;      /* not 0: a byte is none of ASCII */
	uint8_t *unescaped; /* the last string that was */
	size_t room;        /* of it */
	struct expected members[MEMBERS];
};

/* --- values ---------------------------------------------------------------------------------- */

static inline bool put_real(struct za_grown *column, size_t row,
			    const struct za_json_number *number, const uint8_t *at,
			    const uint8_t *end)
{
	uint8_t *to = column->values + row * column->is->bytes;

	if (!number->exponent && za_real(&number->decimal, column->is->bytes, to))
		return true;
	return za_number_slowly(at, (uint32_t)(end - at), column->is->bytes, to);
}

/* Makes an escaped string one that is not. False: no memory. */
static bool unescape(struct ndjson_work *work, struct za_json_string *string)
{
	if (work->room < string->bytes + ZA_VALUE_SLACK) {
		free(work->unescaped);
		work->room = 2 * ((size_t)string->bytes + ZA_VALUE_SLACK);
		work->unescaped = calloc(1, work->room);
		if (!work->unescaped) {
			work->room = 0;
			return false;
		}
	}
	string->bytes = za_json_unescape(string, work->unescaped);
	string->text = work->unescaped;
	return true;
}

static inline bool put_string(struct ndjson_work *work, struct za_grown *column,
			      struct za_json_string *string)
{
	const struct za_text_column *is = column->is;
	const struct za_time_form form = {is->digits, is->zone, is->no_zone};
	int64_t time;

	if (string->escaped && !unescape(work, string))
		return false;
	switch (is->kind) {
	case ZA_VALUE_TEXT:
		return za_put_text(column, work->rows, string->text, string->bytes);
	case ZA_VALUE_VIEW:
		return za_put_view(column, work->rows, string->text, string->bytes);
	case ZA_VALUE_TIME:
		if (!za_time(string->text, string->bytes, &form, &column->day, &time))
			return false;
		memcpy(column->values + work->rows * sizeof(time), &time, sizeof(time));
		return true;
	default:
		return false;
	}
}

/* Puts a value into its column; gives what is behind it. NULL: not plain. */
static inline const uint8_t *take_value(struct ndjson_work *work, struct za_grown *column,
					const uint8_t *at)
{
	const struct za_text_column *is = column->is;
	struct za_json_number number;
	struct za_json_string string;
	const uint8_t *end;
	uint64_t value;
	uint32_t n;

	if (*at == 'n' && za_json_is(at, "null", 4))
		return za_put_null(column, work->rows) ? at + 4 : NULL;
	switch (is->kind) {
	case ZA_VALUE_INT:
	case ZA_VALUE_UINT:
		end = za_json_number_end(at, &number);
		if (!end || number.decimal.b || number.exponent ||
		    !za_integer(at, (uint32_t)(end - at), is->bytes, is->kind == ZA_VALUE_INT,
				&value))
			return NULL;
		za_put_word(column, work->rows, value);
		return end;
	case ZA_VALUE_REAL:
		end = za_json_number_end(at, &number);
		return end && put_real(column, work->rows, &number, at, end) ? end : NULL;
	case ZA_VALUE_BOOL:
		n = *at == 't' ? 4 : 5;
		if (!za_json_is(at, n == 4 ? "true" : "false", n))
			return NULL;
		za_put_bool(column, work->rows, n == 4);
		return at + n;
	default:
		end = *at == '"' ? za_json_string_end(at, &string, &work->high) : NULL;
		return end && put_string(work, column, &string) ? end : NULL;
	}
}

/* --- members ---------------------------------------------------------------------------------- */

static inline bool is_expected(const struct expected *expected, const uint8_t *at)
{
	uint32_t left = expected->bytes;
	const uint8_t *text = expected->text;

	for (; left > 16; left -= 16, at += 16, text += 16)
		if (za_same16(za_load16(at), za_load16(text)) != 0xFFFF)
			return false;
	return left && !(~za_same16(za_load16(at), za_load16(text)) & za_low_bits(left));
}

/* Reads what stands before a value, the `i`th of its object, and remembers it. NULL: not plain. */
static const uint8_t *read_name(struct ndjson_work *work, uint32_t i, const uint8_t *at)
{
	const struct za_ndjson *ndjson = work->ndjson;
	struct expected *expected = &work->members[i < MEMBERS ? i : MEMBERS - 1];
	const uint8_t *begin = at;
	struct za_json_string name;
	uint32_t column;

	at = za_json_spaces(at);
	if (*at != (i ? ',' : '{'))
		return NULL;
	at = za_json_spaces(at + 1);
	if (*at != '"' || !(at = za_json_string_end(at, &name, &work->high)) || name.escaped)
		return NULL;
	at = za_json_spaces(at);
	if (*at != ':')
		return NULL;
	at = za_json_spaces(at + 1);
	for (column = 0; column < ndjson->n_columns; column++)
		if (ndjson->names[column].bytes == name.bytes &&
		    !memcmp(ndjson->names[column].text, name.text, name.bytes))
			break;
	if (column == ndjson->n_columns && !ndjson->ignore_others)
		return NULL;
	expected->column = column < ndjson->n_columns ? column : ZA_NOWHERE;
	expected->bytes = 0;
	if (at - begin <= EXPECTED && i < MEMBERS) {
		expected->bytes = (uint32_t)(at - begin);
		memcpy(expected->text, begin, expected->bytes);
	}
	return at;
}

/* Reads an object into the row behind the last one; gives what is behind it. NULL: not plain. */
static inline const uint8_t *read_object(struct ndjson_work *work, const uint8_t *at)
{
	uint64_t seen = 0;

	for (uint32_t i = 0;; i++) {
		const struct expected *expected = &work->members[i < MEMBERS ? i : MEMBERS - 1];
		uint32_t column;

		if (i < MEMBERS && is_expected(expected, at)) {
			at = za_json_spaces(at + expected->bytes); /* there may be more of them */
		} else {
			const uint8_t *close = za_json_spaces(at);

			if (!i && *close == '{')
				close = za_json_spaces(close + 1);
			if (*close == '}' && (i || *za_json_spaces(at) == '{')) {
				at = close + 1;
				break;
			}
			at = read_name(work, i, at);
			if (!at)
				return NULL;
		}
		column = expected->column;
		if (column == ZA_NOWHERE) {
			at = za_json_value_end(at, &work->high);
		} else {
			if (seen >> column & 1)
				return NULL;
			seen |= 1ULL << column;
			at = take_value(work, &work->columns.column[column], at);
		}
		if (!at)
			return NULL;
	}
	for (uint32_t i = 0; i < work->columns.n; i++)
		if (!(seen >> i & 1) && !za_put_null(&work->columns.column[i], work->rows))
			return NULL;
	return at;
}

static bool read_part(void *context, const uint8_t *data, size_t len)
{
	struct ndjson_work *work = context;
	const uint8_t *at = data, *end = data + len;

	while (at < end) {
		at = za_json_spaces(at);
		if (at[0] == '\r' && at[1] == '\n')
			at++;
		if (*at == '\n') { /* a blank line */
			at++;
			continue;
		}
		if (work->rows == work->columns.rows &&
		    za_columns_reserve(&work->columns, work->rows + 1,
				       work->read + (size_t)(at - data), work->bytes))
			return false;
		at = read_object(work, at);
		if (!at)
			return false;
		at = za_json_spaces(at);
		if (at[0] == '\r')
			at++;
		if (*at++ != '\n')
			return false;
		work->rows++;
	}
	work->read += len;
	return true;
}

bool za_ndjson_plain(const struct za_ndjson *ndjson, const uint8_t *data, size_t len,
		     struct ArrowArray *out)
{
	struct ndjson_work work;
	bool good;

	if (!len || len > INT32_MAX || ndjson->n_columns > MOST_COLUMNS)
		return false;
	work.ndjson = ndjson;
	work.rows = work.read = work.room = 0;
	work.bytes = len;
	work.high = 0;
	work.unescaped = NULL;
	for (uint32_t i = 0; i < MEMBERS; i++)
		work.members[i].bytes = 0;
	if (za_columns_init(&work.columns, ndjson->columns, ndjson->n_columns))
		return false;
	good = za_read_parts(data, len, read_part, &work) &&
	       (!work.high || za_utf8_valid(data, len)) &&
	       !za_columns_export(&work.columns, work.rows, out);
	za_columns_fini(&work.columns);
	free(work.unescaped);
	return good;
}

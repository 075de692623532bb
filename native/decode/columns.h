/* SPDX-License-Identifier: Apache-2.0 */
/*
 * columns.h - columns that grow row by row and become an Arrow batch.
 *
 * Source of the layouts: Arrow columnar format, "Fixed-size Primitive", "Variable-size Binary" and
 * "Variable-size Binary View Layout"; Arrow C data interface, "Moving child arrays".
 */
#ifndef ZA_DECODE_COLUMNS_H
#define ZA_DECODE_COLUMNS_H

#include "../za.h"
#include "values.h"

#define ZA_VIEW_BYTES 16U
#define ZA_VIEW_INLINE 12U

struct za_grown {
	const struct za_text_column *is; /* borrowed */
	uint8_t *values;                 /* but for BOOL and TEXT one element a row */
	uint8_t *validity; /* all set where there is no row yet; NULL if not nullable */
	uint8_t *bytes;    /* of texts: TEXT all, VIEW those that are not in views */
	size_t used, room; /* of them */
	int64_t nulls;
	struct za_day day;
};

struct za_columns {
	uint32_t n;
	struct za_grown *column;
	size_t rows; /* room for so many */
};

/* 0 or -ENOMEM. `is` must outlive them. */
int za_columns_init(struct za_columns *columns, const struct za_text_column *is, uint32_t n);
/* Makes room for rows [0, rows) of all columns, and for more: as there will be in `bytes` bytes of text,
 * if they go on as in the first `read` ones. 0 or -ENOMEM. */
int za_columns_reserve(struct za_columns *columns, size_t rows, size_t read, size_t bytes);
/* Makes room for so many bytes more of texts, and 16 behind them. 0 or -ENOMEM. */
int za_column_reserve_bytes(struct za_grown *column, size_t more);
/* Rows [0, rows), in order, become `out`, which then owns them; each must have been put. 0 or -ENOMEM.
 * Nothing but za_columns_fini() may follow. */
int za_columns_export(struct za_columns *columns, size_t rows, struct ArrowArray *out);
/* Nulls at rows [row, row + n); false if there may be none. */
bool za_put_nulls(struct za_grown *column, size_t row, size_t n);
/* Frees what was not exported. */
void za_columns_fini(struct za_columns *columns);

/* Null at `row`; false if there may be none. */
static inline bool za_put_null(struct za_grown *column, size_t row)
{
	if (!column->validity)
		return false;
	column->validity[row / 8] &= (uint8_t)~(1U << row % 8);
	column->nulls++;
	switch (column->is->kind) {
	case ZA_VALUE_BOOL:
		column->values[row / 8] &= (uint8_t)~(1U << row % 8);
		break;
	case ZA_VALUE_TEXT:
		((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->used;
		break;
	default:
		memset(column->values + row * column->is->bytes, 0, column->is->bytes);
	}
	return true;
}

static inline void za_put_bool(struct za_grown *column, size_t row, bool value)
{
	uint8_t *byte = &column->values[row / 8];

	*byte = (uint8_t)((*byte & ~(1U << row % 8)) | (uint32_t)value << row % 8);
}

/* The lowest bytes of `value`, as many as the column's type has. */
static inline void za_put_word(struct za_grown *column, size_t row, uint64_t value)
{
	uint8_t *to = column->values + row * column->is->bytes;

	switch (column->is->bytes) {
	case 8:
		memcpy(to, &value, 8);
		break;
	case 4:
		memcpy(to, &value, 4);
		break;
	case 2:
		memcpy(to, &value, 2);
		break;
	default:
		*to = (uint8_t)value;
	}
}

/* A text; up to 16 bytes from `at` on are read whatever n is. False: no memory. */
static inline bool za_put_text(struct za_grown *column, size_t row, const uint8_t *at, uint32_t n)
{
	if (column->room < column->used + n + 16 && za_column_reserve_bytes(column, n))
		return false;
	if (n <= 16)
		memcpy(column->bytes + column->used, at, 16);
	else
		memcpy(column->bytes + column->used, at, n);
	column->used += n;
	((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->used;
	return true;
}

static inline bool za_put_view(struct za_grown *column, size_t row, const uint8_t *at, uint32_t n)
{
	uint8_t *view = column->values + row * ZA_VIEW_BYTES;

	memcpy(view, &n, 4);
	if (n <= ZA_VIEW_INLINE) {
		/* The bytes behind it must be zero. */
		uint64_t low = za_word(at), high = za_word(at + 8);

		low &= n < 8 ? (1ULL << 8 * n) - 1 : UINT64_MAX;
		high &= n > 8 ? (1ULL << 8 * (n - 8)) - 1 : 0;
		memcpy(view + 4, &low, 8);
		memcpy(view + 12, &high, 4);
	} else {
		int32_t place[2] = {0, (int32_t)column->used}; /* buffer and offset */

		if (column->room < column->used + n + 16 && za_column_reserve_bytes(column, n))
			return false;
		memcpy(view + 4, at, 4);
		memcpy(view + 8, place, sizeof(place));
		memcpy(column->bytes + column->used, at, n);
		column->used += n;
	}
	return true;
}

#endif

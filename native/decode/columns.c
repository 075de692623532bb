/* SPDX-License-Identifier: Apache-2.0 */
/*
 * columns.c - columns that grow row by row and become an Arrow batch.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "columns.h"

#define ALIGNED 64U
#define BUFFERS 4U /* of a column at most: validity, views, bytes, how many of these */

static size_t padded(size_t bytes)
{
	return (bytes + ALIGNED - 1) & ~(size_t)(ALIGNED - 1);
}

/* Moves `used` bytes to a buffer of at least `bytes`, aligned as Arrow likes it. */
static int grow(uint8_t **buffer, size_t used, size_t bytes)
{
	uint8_t *larger = aligned_alloc(ALIGNED, padded(bytes ? bytes : 1));

	if (!larger)
		return -ENOMEM;
	if (*buffer)
		memcpy(larger, *buffer, used);
	free(*buffer);
	*buffer = larger;
	return 0;
}

static size_t value_bytes(const struct za_text_column *is, size_t rows)
{
	switch (is->kind) {
	case ZA_VALUE_BOOL:
		return (rows + 7) / 8;
	case ZA_VALUE_TEXT:
		return sizeof(int32_t) * (rows + 1);
	default:
		return (size_t)is->bytes * rows;
	}
}

int za_columns_init(struct za_columns *columns, const struct za_text_column *is, uint32_t n)
{
	*columns =
		(struct za_columns){.n = n, .column = calloc(n ? n : 1, sizeof(struct za_grown))};
	if (!columns->column)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		columns->column[i].is = &is[i];
	return 0;
}

static int reserve_rows(struct za_grown *column, size_t before, size_t rows)
{
	const struct za_text_column *is = column->is;

	if (grow(&column->values, column->values ? value_bytes(is, before) : 0,
		 value_bytes(is, rows)))
		return -ENOMEM;
	if (is->kind == ZA_VALUE_TEXT && !before)
		memset(column->values, 0, sizeof(int32_t));
	if (is->kind == ZA_VALUE_BOOL) /* they are set bit by bit */
		memset(column->values + value_bytes(is, before), 0,
		       value_bytes(is, rows) - value_bytes(is, before));
	if (is->nullable) {
		size_t was = column->validity ? (before + 7) / 8 : 0, now = (rows + 7) / 8;

		if (grow(&column->validity, was, now))
			return -ENOMEM;
		memset(column->validity + was, 0xFF, now - was);
	}
	return 0;
}

int za_columns_reserve(struct za_columns *columns, size_t rows, size_t read, size_t bytes)
{
	size_t most = 4 * rows + 1024; /* the first rows may be unusually short */

	if (rows <= columns->rows)
		return 0;
	if (read && read < bytes) {
		double all = (double)rows * (double)bytes / (double)read * 1.05;

		rows = all < (double)most ? (size_t)all + 64 : most;
	}
	for (uint32_t i = 0; i < columns->n; i++)
		if (reserve_rows(&columns->column[i], columns->rows, rows))
			return -ENOMEM;
	columns->rows = rows;
	return 0;
}

int za_column_reserve_bytes(struct za_grown *column, size_t more)
{
	size_t needed = column->used + more + 16;

	if (needed <= column->room)
		return 0;
	if (needed < 2 * column->room)
		needed = 2 * column->room;
	if (grow(&column->bytes, column->used, needed))
		return -ENOMEM;
	column->room = needed;
	return 0;
}

bool za_put_nulls(struct za_grown *column, size_t row, size_t n)
{
	size_t end = row + n, bytes = column->is->bytes;

	if (!column->validity)
		return false;
	while (row < end && row % 8)
		(void)za_put_null(column, row++);
	if (column->is->kind == ZA_VALUE_TEXT || column->is->kind == ZA_VALUE_BOOL) {
		while (row < end)
			(void)za_put_null(column, row++);
		return true;
	}
	memset(column->validity + row / 8, 0, (end - row) / 8);
	memset(column->values + row * bytes, 0, (end - row) / 8 * 8 * bytes);
	column->nulls += (int64_t)((end - row) / 8 * 8);
	for (row += (end - row) / 8 * 8; row < end; row++)
		(void)za_put_null(column, row);
	return true;
}

void za_columns_fini(struct za_columns *columns)
{
	for (uint32_t i = 0; columns->column && i < columns->n; i++) {
		free(columns->column[i].values);
		free(columns->column[i].validity);
		free(columns->column[i].bytes);
	}
	free(columns->column);
	columns->column = NULL;
}

/* --- the batch ------------------------------------------------------------------------------- */

struct made_column {
	const void *buffers[BUFFERS];
	int64_t bytes; /* of the third, if views go into it */
};

/* Goes when the last of its arrays is released. */
struct made {
	_Atomic uint32_t shares;
	const void *none[1];
	struct za_columns columns;
	struct ArrowArray **pointers;
	struct ArrowArray *children;
	struct made_column *column;
};

static void put(struct made *made)
{
	/* Whoever lets go last must see that nobody reads any more. */
	if (atomic_fetch_sub_explicit(&made->shares, 1, memory_order_acq_rel) == 1) {
		za_columns_fini(&made->columns);
		free(made);
	}
}

static void release_child(struct ArrowArray *array)
{
	struct made *made = array->private_data;

	array->release = NULL;
	put(made);
}

static void release(struct ArrowArray *array)
{
	struct made *made = array->private_data;

	for (int64_t i = 0; i < array->n_children; i++)
		if (array->children[i]->release)
			array->children[i]->release(array->children[i]);
	array->release = NULL;
	put(made);
}

static int64_t lay_out(struct za_grown *column, struct made_column *made)
{
	static const uint8_t nothing;
	const void *bytes = column->bytes ? column->bytes : &nothing;

	made->buffers[0] = column->nulls ? column->validity : NULL;
	made->buffers[1] = column->values;
	if (column->is->kind == ZA_VALUE_TEXT) {
		made->buffers[2] = bytes;
		return 3;
	}
	if (column->is->kind != ZA_VALUE_VIEW)
		return 2;
	made->bytes = (int64_t)column->used;
	if (!column->used) {
		made->buffers[2] = &made->bytes;
		return 3;
	}
	made->buffers[2] = bytes;
	made->buffers[3] = &made->bytes;
	return 4;
}

int za_columns_export(struct za_columns *columns, size_t rows, struct ArrowArray *out)
{
	uint32_t n = columns->n;
	struct made *made =
		calloc(1, sizeof(*made) + n * (sizeof(struct ArrowArray) + sizeof(void *) +
					       sizeof(struct made_column)));

	/* Also for no rows buffers must be there. */
	if (!made || za_columns_reserve(columns, 1, 0, 0)) {
		free(made);
		return -ENOMEM;
	}
	made->children = (struct ArrowArray *)(void *)(made + 1);
	made->column = (struct made_column *)(void *)(made->children + n);
	made->pointers = (struct ArrowArray **)(void *)(made->column + n);
	atomic_init(&made->shares, n + 1);
	made->columns = *columns;
	for (uint32_t i = 0; i < n; i++) {
		made->children[i] = (struct ArrowArray){
			.length = (int64_t)rows,
			.null_count = columns->column[i].nulls,
			.n_buffers = lay_out(&columns->column[i], &made->column[i]),
			.buffers = made->column[i].buffers,
			.release = release_child,
			.private_data = made,
		};
		made->pointers[i] = &made->children[i];
	}
	columns->column = NULL;
	*out = (struct ArrowArray){
		.length = (int64_t)rows,
		.n_buffers = 1,
		.n_children = n,
		.buffers = made->none,
		.children = made->pointers,
		.release = release,
		.private_data = made,
	};
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_records.c - any records under any layouts become the columns that reading them byte by byte
 * gives, and nothing is read or written outside of them.
 *
 * Input: layouts as choose() takes them, then rows: a byte that says how long, and the bytes. Every
 * buffer is as large as it must be and no larger.
 */
#include <string.h>

#include "../decode/frame.h"
#include "input.h"

#define LAYOUTS 4
#define COLUMNS 6
#define ELEMENTS 3
#define MOST_ROWS 4000

/* What the fields of a column have in common. */
struct shape {
	uint32_t elements;
	uint8_t kind, check;
	uint32_t out_bytes;
	bool has_null;
	uint64_t null_value, below;
};

struct plan {
	struct za_records records;
	struct za_layout layouts[LAYOUTS];
	struct za_field fields[LAYOUTS][COLUMNS];
	uint32_t offsets[LAYOUTS][COLUMNS][ELEMENTS];
	struct shape shapes[COLUMNS];
	bool all_validity;
	uint8_t origins;
	uint32_t repeat, few;
};

struct row {
	uint8_t *data;
	uint32_t bytes;
};

struct table {
	struct row rows[256];
	uint32_t n_rows;
	uint64_t n; /* with repetitions */
	int64_t offset;
	uint8_t *views;
	uint32_t *connections;
	uint64_t *positions;
	int64_t *received;
	const void *payload_buffers[3 + 256];
	const void *buffers[3][2];
	struct ArrowArray arrays[4], *children[4], batch;
};

struct output {
	struct za_column columns[COLUMNS];
	struct za_origins origins;
	struct za_bad *bad;
	uint64_t count; /* records, at most */
	uint64_t nulled;
};

/* --- layouts ------------------------------------------------------------------------------- */

static struct shape choose_shape(struct input *input)
{
	static const uint16_t copied[] = {1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 64, 128, 255, 256, 300};
	uint8_t options = take(input), size = take(input);
	struct shape shape = {
		.kind = options & 3,
		.elements = 1 + (options >> 2) % ELEMENTS,
		.has_null = options >> 7,
	};

	if (shape.kind == ZA_FIELD_COPY) {
		shape.out_bytes = copied[size % (sizeof(copied) / sizeof(copied[0]))];
		shape.has_null &= shape.out_bytes <= 8;
	} else if (shape.kind == ZA_FIELD_WIDE) {
		shape.out_bytes = size & 1 ? 16 : 8;
		shape.check = size & 2 ? ZA_CHECK_BELOW : ZA_CHECK_NONE;
		shape.below = size & 4 ? 86400000000ULL : 1ULL << 63;
	} else {
		shape.has_null = false;
		shape.check =
			shape.kind == ZA_FIELD_TEXT && size & 1 ? ZA_CHECK_UTF8 : ZA_CHECK_NONE;
		if (shape.kind == ZA_FIELD_TEXT && size & 2) {
			shape.kind = ZA_FIELD_VIEW;
			shape.out_bytes = 16;
		}
	}
	for (uint32_t i = 0; shape.has_null && i < 8; i++)
		shape.null_value |= (uint64_t)take(input) << 8 * i;
	return shape;
}

static void choose_field(struct input *input, const struct shape *shape, uint32_t column,
			 uint32_t *offsets, struct za_field *field, struct za_layout *layout)
{
	uint8_t options = take(input);

	*field = (struct za_field){
		.offsets = offsets,
		.elements = shape->elements,
		.column = column,
		.kind = shape->kind,
		.check = shape->check,
		.out_bytes = shape->out_bytes,
		.swap = options & 1,
		.is_signed = options >> 1 & 1,
		.has_null = shape->has_null,
		.below = shape->below,
		.bytes = 1,
	};
	if (shape->kind == ZA_FIELD_COPY) {
		field->bytes = shape->out_bytes;
		/* Only numbers have an order. */
		field->swap &= field->bytes <= 8 && !(field->bytes & (field->bytes - 1));
	} else if (shape->kind == ZA_FIELD_WIDE)
		field->bytes = 1 + (options >> 2) % 8;
	else if (shape->kind == ZA_FIELD_TEXT)
		field->bytes = take_size(input) % 300 + 1;
	else if (shape->kind == ZA_FIELD_VIEW)
		field->bytes = 1 + (options >> 2) % 12;
	field->null_value = shape->null_value;
	if (field->bytes < 8)
		field->null_value &= (1ULL << 8 * field->bytes) - 1;
	for (uint32_t e = 0; e < field->elements; e++) {
		offsets[e] = take(input) % 64;
		if (layout->bytes < offsets[e] + field->bytes)
			layout->bytes = offsets[e] + field->bytes;
	}
}

static void choose_layout(struct input *input, struct plan *plan, uint32_t at)
{
	struct za_records *records = &plan->records;
	struct za_layout *layout = &plan->layouts[at];
	uint8_t options = take(input), has = take(input);

	layout->longer = options & 1;
	layout->bytes = 1 + (options >> 1) % 64;
	layout->fields = plan->fields[at];
	for (uint32_t i = 0; i < records->n_columns; i++)
		if (has >> i & 1 || i % records->n_layouts == at)
			choose_field(input, &plan->shapes[i], i, plan->offsets[at][i],
				     &plan->fields[at][layout->n_fields++], layout);
}

/* Records in blocks have one size, unless they may be longer than their layouts. */
static void choose_blocks(struct plan *plan)
{
	struct za_records *records = &plan->records;

	for (uint32_t i = 0; i < records->n_layouts; i++)
		if (records->block_bytes < plan->layouts[i].bytes)
			records->block_bytes = plan->layouts[i].bytes;
	for (uint32_t i = 0; i < records->n_layouts; i++)
		if (!plan->layouts[i].longer)
			plan->layouts[i].bytes = records->block_bytes;
}

static void choose(struct input *input, struct plan *plan)
{
	struct za_records *records = &plan->records;
	uint8_t options = take(input), counts = take(input), discriminator = take(input);
	uint32_t smallest;

	records->layouts = plan->layouts;
	records->n_layouts = 1 + counts % LAYOUTS;
	records->n_columns = 1 + counts / LAYOUTS % COLUMNS;
	records->null_bad_values = options & 1;
	records->skip_short = discriminator >> 7;
	plan->all_validity = options >> 1 & 1;
	plan->origins = options >> 4;
	plan->repeat = 1 + take(input);
	plan->few = take(input);
	for (uint32_t i = 0; i < records->n_columns; i++)
		plan->shapes[i] = choose_shape(input);
	for (uint32_t i = 0; i < records->n_layouts; i++)
		choose_layout(input, plan, i);
	if (options >> 2 & 1)
		choose_blocks(plan);
	smallest = plan->layouts[0].bytes;
	for (uint32_t i = 1; i < records->n_layouts; i++)
		if (smallest > plan->layouts[i].bytes)
			smallest = plan->layouts[i].bytes;
	records->discriminator = -1;
	if (records->n_layouts > 1 || options >> 3 & 1)
		records->discriminator = (int32_t)(discriminator % smallest);
	memset(records->layout_of, ZA_LAYOUT_NONE, sizeof(records->layout_of));
	records->layout_of['S'] = ZA_LAYOUT_SKIP;
	for (uint32_t i = 0; i < records->n_layouts; i++)
		records->layout_of['A' + i] = (uint8_t)i;
}

/* --- rows ---------------------------------------------------------------------------------- */

static uint8_t *exactly(uint64_t bytes)
{
	uint8_t *memory = malloc(bytes);

	CHECK(memory || !bytes, "out of memory");
	if (bytes)
		memset(memory, 0xA5, bytes);
	return memory;
}

static void take_rows(struct input *input, const struct plan *plan, struct table *table)
{
	uint32_t block = plan->records.block_bytes;

	while (input->left && table->n_rows < sizeof(table->rows) / sizeof(table->rows[0])) {
		struct row *row = &table->rows[table->n_rows++];
		uint8_t size = take(input);

		row->bytes = size < 240 ? size : (size - 239U) * 64;
		if (block)
			row->bytes = (1 + size % 16U) * block; /* none is empty */
		row->data = exactly(row->bytes);
		for (uint32_t i = 0; i < row->bytes; i++)
			row->data[i] = take(input);
	}
	table->n = (uint64_t)table->n_rows * plan->repeat;
	if (table->n > MOST_ROWS)
		table->n = table->n_rows > MOST_ROWS ? table->n_rows : MOST_ROWS;
}

static void write_view(uint8_t *view, const struct row *row, int32_t buffer)
{
	const int32_t start = 0;

	memset(view, 0, 16);
	memcpy(view, &row->bytes, 4);
	if (row->bytes)
		memcpy(view + 4, row->data, row->bytes < 12 ? row->bytes : 12);
	if (row->bytes > 12) {
		memcpy(view + 8, &buffer, 4);
		memcpy(view + 12, &start, 4);
	}
}

/* A batch as the core gives it, or what is left of one when a consumer has sliced it. */
static void build(struct table *table, int64_t offset)
{
	uint64_t all = table->n + (uint64_t)offset;

	table->offset = offset;
	table->views = exactly(16 * all);
	table->connections = (uint32_t *)(void *)exactly(4 * all);
	table->positions = (uint64_t *)(void *)exactly(8 * all);
	table->received = (int64_t *)(void *)exactly(8 * all);
	table->payload_buffers[1] = table->views;
	for (uint32_t i = 0; i < table->n_rows; i++)
		table->payload_buffers[2 + i] = table->rows[i].data;
	for (uint64_t i = 0; i < table->n; i++) {
		uint64_t at = i + (uint64_t)offset, row = i % table->n_rows;

		write_view(table->views + 16 * at, &table->rows[row], (int32_t)row);
		table->connections[at] = (uint32_t)(i / 3);
		table->positions[at] = 1000 * i;
		table->received[at] = (int64_t)i << 40;
	}
	table->buffers[0][1] = table->connections;
	table->buffers[1][1] = table->positions;
	table->buffers[2][1] = table->received;
	for (uint32_t i = 0; i < 4; i++) {
		table->arrays[i] = (struct ArrowArray){
			.length = (int64_t)table->n,
			.offset = offset,
			.n_buffers = i ? 2 : 3 + table->n_rows,
			.buffers = i ? table->buffers[i - 1] : table->payload_buffers,
		};
		table->children[i] = &table->arrays[i];
	}
	table->batch = (struct ArrowArray){
		.length = (int64_t)table->n, .n_children = 4, .children = table->children};
}

static void table_fini(struct table *table)
{
	for (uint32_t i = 0; i < table->n_rows; i++)
		free(table->rows[i].data);
	free(table->views);
	free(table->connections);
	free(table->positions);
	free(table->received);
}

/* --- columns ------------------------------------------------------------------------------- */

static uint32_t widest(const struct plan *plan, uint32_t column)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < plan->records.n_layouts; i++)
		for (uint32_t j = 0; j < plan->layouts[i].n_fields; j++)
			if (plan->fields[i][j].column == column && plan->fields[i][j].bytes > bytes)
				bytes = plan->fields[i][j].bytes;
	return bytes;
}

static bool may_be_null(const struct plan *plan, const struct shape *shape)
{
	return plan->all_validity || plan->records.n_layouts > 1 || shape->has_null ||
	       (shape->check && plan->records.null_bad_values);
}

static void allocate(const struct plan *plan, struct output *out, uint32_t room)
{
	for (uint32_t i = 0; i < plan->records.n_columns; i++) {
		const struct shape *shape = &plan->shapes[i];
		uint64_t elements = out->count * shape->elements;
		struct za_column *column = &out->columns[i];

		column->validity = may_be_null(plan, shape) ? exactly((elements + 7) / 8) : NULL;
		column->offsets = NULL;
		if (shape->kind == ZA_FIELD_TEXT) {
			column->offsets = (int32_t *)(void *)exactly(4 * (elements + 1));
			column->values = exactly(elements * widest(plan, i));
		} else if (shape->kind == ZA_FIELD_BOOL) {
			column->values = exactly((elements + 7) / 8);
		} else {
			column->values = exactly(elements * shape->out_bytes);
		}
	}
	out->origins = (struct za_origins){.nulled = &out->nulled};
	if (plan->origins & 1)
		out->origins.connections = (uint32_t *)(void *)exactly(4 * out->count);
	if (plan->origins & 2)
		out->origins.positions = (uint64_t *)(void *)exactly(8 * out->count);
	if (plan->origins & 4)
		out->origins.received = (int64_t *)(void *)exactly(8 * out->count);
	if (plan->origins & 8)
		out->origins.layouts = exactly(out->count);
	out->bad = (struct za_bad *)(void *)exactly(room * sizeof(*out->bad));
}

static void output_fini(struct output *out)
{
	for (uint32_t i = 0; i < COLUMNS; i++) {
		free(out->columns[i].values);
		free(out->columns[i].offsets);
		free(out->columns[i].validity);
	}
	free(out->origins.connections);
	free(out->origins.positions);
	free(out->origins.received);
	free(out->origins.layouts);
	free(out->bad);
}

/* --- the same, byte by byte ---------------------------------------------------------------- */

static uint64_t integer(const struct za_field *field, const uint8_t *at)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < field->bytes; i++)
		value |= (uint64_t)at[field->swap ? field->bytes - 1 - i : i] << 8 * i;
	return value;
}

static bool means_null(const struct za_field *field, const uint8_t *at)
{
	return field->has_null && integer(field, at) == field->null_value;
}

static uint32_t text_bytes(const struct za_field *field, const uint8_t *at)
{
	uint32_t bytes = field->bytes;

	while (bytes && (at[bytes - 1] == ' ' || !at[bytes - 1]))
		bytes--;
	return bytes;
}

/* As 8 bytes; what is negative is large. */
static uint64_t extended(const struct za_field *field, const uint8_t *at)
{
	uint64_t value = integer(field, at);

	if (field->is_signed && value >> (8 * field->bytes - 1))
		for (uint32_t i = field->bytes; i < 8; i++)
			value |= 255ULL << 8 * i;
	return value;
}

static uint32_t wrong_value(const struct za_field *field, const uint8_t *at)
{
	if (field->check == ZA_CHECK_UTF8 && !za_utf8_valid(at, text_bytes(field, at)))
		return ZA_BAD_UTF8;
	if (field->check == ZA_CHECK_BELOW && !means_null(field, at) &&
	    extended(field, at) >= field->below)
		return ZA_BAD_RANGE;
	return 0;
}

/* What is wrong with a record: as za_records_decode() should say. */
static uint32_t wrong_record(const struct plan *plan, const uint8_t *record, uint32_t bytes,
			     uint32_t *layout, uint32_t *field)
{
	const struct za_records *records = &plan->records;
	const struct za_layout *l;

	*layout = 0;
	if (records->discriminator >= 0 && (uint32_t)records->discriminator >= bytes) {
		*layout = records->skip_short ? ZA_LAYOUT_SKIP : 0;
		return records->skip_short ? 0 : ZA_BAD_LENGTH;
	}
	if (records->discriminator >= 0)
		*layout = records->layout_of[record[records->discriminator]];
	if (*layout == ZA_LAYOUT_SKIP)
		return 0;
	if (*layout == ZA_LAYOUT_NONE)
		return ZA_BAD_DISCRIMINATOR;
	l = &plan->layouts[*layout];
	if (l->longer ? bytes < l->bytes : bytes != l->bytes)
		return ZA_BAD_LENGTH;
	for (*field = 0; !records->null_bad_values && *field < l->n_fields; ++*field) {
		const struct za_field *f = &l->fields[*field];

		for (uint32_t e = 0; e < f->elements; e++)
			if (wrong_value(f, record + f->offsets[e]))
				return wrong_value(f, record + f->offsets[e]);
	}
	return 0;
}

struct check {
	const struct plan *plan;
	const struct output *out;
	uint64_t row, nulled;
	uint64_t nulls[COLUMNS], text[COLUMNS];
};

static bool bit(const uint8_t *bits, uint64_t at)
{
	return bits[at >> 3] >> (at & 7) & 1;
}

static void check_fixed(const struct shape *shape, const struct za_field *field,
			const uint8_t *value, const uint8_t *at, uint32_t column)
{
	uint8_t expected[300] = {0};

	if (at && shape->kind == ZA_FIELD_WIDE) {
		uint64_t low = extended(field, at);

		memcpy(expected, &low, sizeof(low));
		memset(expected + 8, field->is_signed && low >> 63 ? 255 : 0, 8);
	} else if (at && shape->kind == ZA_FIELD_VIEW) {
		expected[0] = (uint8_t)text_bytes(field, at);
		memcpy(expected + 4, at, expected[0]);
	} else if (at) {
		for (uint32_t i = 0; i < field->bytes; i++)
			expected[i] = at[field->swap ? field->bytes - 1 - i : i];
	}
	for (uint32_t i = 0; i < shape->out_bytes; i++)
		CHECK(value[i] == expected[i], "column %u: byte %u of %u is %u and not %u", column,
		      i, shape->out_bytes, value[i], expected[i]);
}

/* `at` NULL: null. */
static void check_element(struct check *c, uint32_t column, const struct za_field *field,
			  const uint8_t *at, uint64_t to)
{
	const struct za_column *out = &c->out->columns[column];
	const struct shape *shape = &c->plan->shapes[column];
	uint32_t bytes;

	c->nulls[column] += !at;
	if (out->validity)
		CHECK(bit(out->validity, to) == (at != NULL), "column %u: validity", column);
	if (shape->kind == ZA_FIELD_BOOL) {
		CHECK(bit(out->values, to) == (at && *at), "column %u: a bit", column);
	} else if (shape->kind == ZA_FIELD_TEXT) {
		bytes = at ? text_bytes(field, at) : 0;
		CHECK(out->offsets[to] == (int32_t)c->text[column] &&
			      out->offsets[to + 1] == (int32_t)(c->text[column] + bytes),
		      "column %u: a text of %u bytes from %d to %d", column, bytes,
		      out->offsets[to], out->offsets[to + 1]);
		CHECK(!bytes || !memcmp(out->values + c->text[column], at, bytes),
		      "column %u: text", column);
		c->text[column] += bytes;
	} else {
		check_fixed(shape, field, out->values + to * shape->out_bytes, at, column);
	}
}

static void check_record(struct check *c, uint32_t layout, const uint8_t *record)
{
	const struct plan *plan = c->plan;
	bool nulled = false;

	for (uint32_t column = 0; column < plan->records.n_columns; column++) {
		const struct za_field *field = NULL;
		uint32_t elements = plan->shapes[column].elements;

		for (uint32_t i = 0; i < plan->layouts[layout].n_fields; i++)
			if (plan->fields[layout][i].column == column)
				field = &plan->fields[layout][i];
		for (uint32_t e = 0; e < elements; e++) {
			const uint8_t *at = field ? record + field->offsets[e] : NULL;
			bool bad = at && plan->records.null_bad_values && wrong_value(field, at);

			nulled |= bad;
			if (bad || (at && means_null(field, at)))
				at = NULL;
			check_element(c, column, field, at, c->row * elements + e);
		}
	}
	if (c->out->origins.layouts)
		CHECK(c->out->origins.layouts[c->row] == layout, "layout %u", layout);
	c->nulled += nulled;
}

static void check_origin(const struct check *c, const struct table *table, uint64_t row,
			 uint32_t offset)
{
	const struct za_origins *origins = &c->out->origins;
	uint64_t at = row + (uint64_t)table->offset;

	if (origins->connections)
		CHECK(origins->connections[c->row] == table->connections[at], "connection");
	if (origins->positions)
		CHECK(origins->positions[c->row] == table->positions[at] + offset, "position");
	if (origins->received)
		CHECK(origins->received[c->row] == table->received[at], "received");
}

static void check_bad(const struct za_bad *bad, struct za_bad expected)
{
	CHECK(bad->row == expected.row && bad->offset == expected.offset &&
		      bad->bytes == expected.bytes && bad->reason == expected.reason,
	      "row %llu + %u: bad for %u, and not row %llu + %u for %u",
	      (unsigned long long)bad->row, bad->offset, bad->reason,
	      (unsigned long long)expected.row, expected.offset, expected.reason);
	if (bad->reason == ZA_BAD_UTF8 || bad->reason == ZA_BAD_RANGE)
		CHECK(bad->layout == expected.layout && bad->field == expected.field,
		      "field %u of layout %u, and not %u of %u", bad->field, bad->layout,
		      expected.field, expected.layout);
}

/* Reads the rows until `room` records are bad. */
static void check_all(struct check *c, const struct table *table, uint32_t n_bad, uint32_t room)
{
	const struct plan *plan = c->plan;
	uint32_t bad = 0;

	for (uint64_t i = 0; i < table->n && bad < room; i++) {
		const struct row *row = &table->rows[i % table->n_rows];
		uint32_t step = plan->records.block_bytes ? plan->records.block_bytes : row->bytes;
		uint32_t n = plan->records.block_bytes ? row->bytes / step : 1;

		for (uint32_t j = 0; j < n && bad < room; j++) {
			struct za_bad found = {.row = i, .offset = j * step, .bytes = step};
			const uint8_t *record = row->data + found.offset;

			found.reason =
				wrong_record(plan, record, step, &found.layout, &found.field);
			if (found.reason) {
				CHECK(bad < n_bad, "row %llu is bad for %u", (unsigned long long)i,
				      found.reason);
				check_bad(&c->out->bad[bad++], found);
			} else if (found.layout != ZA_LAYOUT_SKIP) {
				check_origin(c, table, i, found.offset);
				check_record(c, found.layout, record);
				c->row++;
			}
		}
	}
	CHECK(bad == n_bad, "%u records are bad, and not %u", n_bad, bad);
}

static void decode(const struct plan *plan, const struct table *table, uint32_t room)
{
	struct output out = {.count = za_records_count(&plan->records, &table->batch)};
	struct check check = {.plan = plan, .out = &out};
	uint64_t rows = UINT64_MAX;
	uint32_t bad;

	room = room < out.count ? room : (uint32_t)out.count + 1;
	allocate(plan, &out, room);
	bad = za_records_decode(&plan->records, &table->batch, out.columns, &out.origins, out.bad,
				room, &rows);
	CHECK(rows + bad <= out.count, "%llu rows and %u bad ones of %llu",
	      (unsigned long long)rows, bad, (unsigned long long)out.count);
	check_all(&check, table, bad, room);
	CHECK(check.row == rows, "%llu rows, and not %llu", (unsigned long long)rows,
	      (unsigned long long)check.row);
	CHECK(out.nulled == check.nulled, "%llu records with a null for a bad value, and not %llu",
	      (unsigned long long)out.nulled, (unsigned long long)check.nulled);
	for (uint32_t i = 0; i < plan->records.n_columns; i++) {
		const struct za_column *column = &out.columns[i];

		CHECK(!column->validity || column->nulls == check.nulls[i], "%llu nulls",
		      (unsigned long long)column->nulls);
		CHECK(plan->shapes[i].kind != ZA_FIELD_TEXT || column->bytes == check.text[i],
		      "%llu bytes of text", (unsigned long long)column->bytes);
	}
	output_fini(&out);
}

/* One layout of copies, each at one place, with blocks of it. */
static bool is_flat(const struct plan *plan)
{
	const struct za_records *records = &plan->records;

	for (uint32_t i = 0; i < records->n_columns; i++)
		if (plan->shapes[i].kind != ZA_FIELD_COPY || plan->shapes[i].elements > 1 ||
		    may_be_null(plan, &plan->shapes[i]))
			return false;
	return records->n_layouts == 1 && records->discriminator < 0 &&
	       records->block_bytes == plan->layouts[0].bytes;
}

static void decode_flat(const struct plan *plan, const struct table *table)
{
	struct output out = {.count = za_records_count(&plan->records, &table->batch)};
	struct check check = {.plan = plan, .out = &out};
	struct ArrowArray made;

	CHECK(!za_records_flat(&plan->records, &table->batch, &made), "out of memory");
	CHECK(made.n_children == plan->records.n_columns, "%lld columns",
	      (long long)made.n_children);
	for (uint32_t i = 0; i < plan->records.n_columns; i++) {
		const uint8_t *values = made.children[i]->buffers[1];

		CHECK(made.children[i]->length == made.length, "column %u", i);
		memcpy(&out.columns[i].values, &values, sizeof(values));
	}
	check_all(&check, table, 0, 1);
	CHECK((uint64_t)made.length == check.row, "%lld rows", (long long)made.length);
	made.release(&made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct plan plan;
	static struct table table;
	struct input input = {data, size};

	memset(&plan, 0, sizeof(plan));
	memset(&table, 0, sizeof(table));
	choose(&input, &plan);
	take_rows(&input, &plan, &table);
	build(&table, plan.few % 4);
	decode(&plan, &table, UINT32_MAX);
	decode(&plan, &table, plan.few / 4 % 8);
	if (is_flat(&plan))
		decode_flat(&plan, &table);
	table_fini(&table);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records.c - binary messages of fixed layout become columns.
 *
 * A few records at a time, so that they are in the first cache while each of their fields is moved
 * to its column: the loops go along columns, and memory is read once.
 *
 * Source of the columns' layout: Arrow columnar format, "Physical memory layout" (least-significant
 * bit numbering of bitmaps, offsets of variable-size binary).
 */
#include <string.h>

#include "frame.h"
#include "records.h"

#define GROUP ZA_RECORDS_GROUP
#define INLINE_BYTES 12U

struct decoding {
	const struct za_records *records;
	struct za_column *columns;
	const struct za_origins *origins;
	uint64_t rows; /* in the columns */
	struct za_record_group group;
	struct za_bad *bad;
	uint32_t n_bad, room;
	bool nulled[GROUP]; /* a bad value became null */
};

/* --- reading ------------------------------------------------------------------------------- */

static const uint8_t *payload_of(const struct ArrowArray *payload, int64_t row, uint32_t *bytes)
{
	const uint8_t *view = (const uint8_t *)payload->buffers[1] + 16 * (row + payload->offset);
	int32_t place[2];

	memcpy(bytes, view, sizeof(*bytes));
	if (*bytes <= INLINE_BYTES)
		return view + 4;
	memcpy(place, view + 8, sizeof(place));
	return (const uint8_t *)payload->buffers[2 + place[0]] + place[1];
}

/* An integer of up to 8 bytes, not sign-extended. */
static inline uint64_t read_integer(const uint8_t *at, uint32_t bytes, bool swap)
{
	uint64_t value = 0;

	memcpy(&value, at, bytes);
	return swap ? __builtin_bswap64(value) >> (64 - 8 * bytes) : value;
}

/* Made 8 bytes wide; what is negative is large. */
static inline uint64_t read_wide(const struct za_field *field, const uint8_t *at)
{
	uint64_t value = read_integer(at, field->bytes, field->swap);

	if (field->is_signed && field->bytes < 8 && value >> (8 * field->bytes - 1))
		value |= UINT64_MAX << 8 * field->bytes;
	return value;
}

static inline bool is_null(const struct za_field *field, const uint8_t *at)
{
	return field->has_null && read_integer(at, field->bytes, field->swap) == field->null_value;
}

static bool value_is_good(const struct za_field *field, const uint8_t *at)
{
	if (field->check == ZA_CHECK_UTF8)
		return za_text_is_good(at, field->bytes);
	if (field->check == ZA_CHECK_BELOW)
		return is_null(field, at) || read_wide(field, at) < field->below;
	return true;
}

/* --- columns ------------------------------------------------------------------------------- */

static inline void set_bit(uint8_t *bits, uint64_t at, bool value)
{
	uint8_t bit = (uint8_t)(1U << (at & 7));

	bits[at >> 3] = (uint8_t)((bits[at >> 3] & ~bit) | (value ? bit : 0));
}

static void write_value(const struct za_field *field, const uint8_t *at, struct za_column *column,
			uint64_t to)
{
	uint64_t wide[2];

	switch (field->kind) {
	case ZA_FIELD_BOOL:
		set_bit(column->values, to, *at != 0);
		return;
	case ZA_FIELD_VIEW:
		za_text_view(field, at, column, to);
		return;
	case ZA_FIELD_WIDE:
		wide[0] = read_wide(field, at);
		wide[1] = field->is_signed && wide[0] >> 63 ? UINT64_MAX : 0;
		memcpy(column->values + to * field->out_bytes, wide, field->out_bytes);
		return;
	default:
		if (field->swap)
			for (uint32_t i = 0; i < field->bytes; i++)
				column->values[to * field->bytes + i] = at[field->bytes - 1 - i];
		else
			memcpy(column->values + to * field->bytes, at, field->bytes);
	}
}

static void write_text(const struct za_field *field, const uint8_t *at, bool valid,
		       struct za_column *column, uint64_t to)
{
	if (valid)
		za_text_append(field, at, column, to);
	else
		column->offsets[to + 1] = (int32_t)column->bytes;
}

static void write_validity(struct za_column *column, uint64_t to, bool valid)
{
	set_bit(column->validity, to, valid);
	column->nulls += !valid;
}

/* The general way: any field, any mix of layouts, nulls. `field` NULL: this layout has no such one. */
static void write_any(struct decoding *d, const struct za_field *field, const struct za_field *like,
		      uint32_t i)
{
	struct za_column *column = &d->columns[like->column];
	const uint8_t *record = d->group.at[i];
	uint64_t row = d->rows + i;

	for (uint32_t e = 0; e < like->elements; e++) {
		uint64_t to = row * like->elements + e;
		const uint8_t *at = field ? record + field->offsets[e] : NULL;
		bool good = !field || !d->records->null_bad_values || value_is_good(field, at);
		bool valid = field && good && !is_null(field, at);

		d->nulled[i] |= !good;
		if (column->validity)
			write_validity(column, to, valid);
		if (like->kind == ZA_FIELD_TEXT)
			write_text(field, at, valid, column, to);
		else if (valid || !column->validity)
			write_value(field, at, column, to);
		else if (like->kind == ZA_FIELD_BOOL)
			set_bit(column->values, to, false);
		else /* what lies under a null is nobody's old memory */
			memset(column->values + to * like->out_bytes, 0, like->out_bytes);
	}
}

static const struct za_field *field_for(const struct za_layout *layout, uint32_t column)
{
	for (uint32_t i = 0; i < layout->n_fields; i++)
		if (layout->fields[i].column == column)
			return &layout->fields[i];
	return NULL;
}

/* A column of a group in which some record's layout may lack it. */
static void fill_mixed(struct decoding *d, const struct za_field *like)
{
	const struct za_record_group *group = &d->group;
	const struct za_field *fields[ZA_LAYOUT_NONE];

	for (uint32_t i = 0; i < d->records->n_layouts; i++)
		fields[i] = field_for(&d->records->layouts[i], like->column);
	for (uint32_t i = 0; i < group->n; i++)
		write_any(d, fields[group->layout[i]], like, i);
}

static void fill_field(struct decoding *d, const struct za_field *field)
{
	struct za_column *column = &d->columns[field->column];
	const struct za_record_group *group = &d->group;

	if (field->kind == ZA_FIELD_COPY && !column->validity) {
		for (uint32_t e = 0; e < field->elements; e++)
			za_records_move(group, field, field->offsets[e], column,
					d->rows * field->elements + e, field->elements);
		return;
	}
	if ((field->kind == ZA_FIELD_TEXT || field->kind == ZA_FIELD_VIEW) && !column->validity) {
		za_records_text(group, field, column, d->rows);
		return;
	}
	for (uint32_t i = 0; i < group->n; i++)
		write_any(d, field, field, i);
}

/* --- groups -------------------------------------------------------------------------------- */

static void fill_columns(struct decoding *d)
{
	const struct za_records *records = d->records;

	if (records->n_layouts == 1) {
		for (uint32_t i = 0; i < records->layouts[0].n_fields; i++)
			fill_field(d, &records->layouts[0].fields[i]);
		return;
	}
	for (uint32_t column = 0; column < records->n_columns; column++) {
		const struct za_field *like = NULL;

		for (uint32_t i = 0; i < records->n_layouts && !like; i++)
			like = field_for(&records->layouts[i], column);
		if (like)
			fill_mixed(d, like);
	}
}

static void flush_group(struct decoding *d)
{
	if (d->records->null_bad_values)
		memset(d->nulled, 0, sizeof(d->nulled));
	fill_columns(d);
	if (d->records->null_bad_values && d->origins->nulled)
		for (uint32_t i = 0; i < d->group.n; i++)
			*d->origins->nulled += d->nulled[i];
	if (d->origins->layouts)
		memcpy(d->origins->layouts + d->rows, d->group.layout, d->group.n);
	d->rows += d->group.n;
}

static void flush(struct decoding *d)
{
	if (d->group.n)
		flush_group(d);
	d->group.n = 0;
}

static bool add_bad(struct decoding *d, struct za_bad bad)
{
	if (d->n_bad == d->room)
		return false;
	d->bad[d->n_bad++] = bad;
	return d->n_bad < d->room;
}

/* Which layout a record has, or what is wrong with it. */
static uint32_t layout_of(const struct za_records *records, const uint8_t *record, uint32_t bytes,
			  uint8_t *layout)
{
	const struct za_layout *found;

	*layout = 0;
	if (records->discriminator >= 0) {
		if ((uint32_t)records->discriminator >= bytes) {
			*layout = ZA_LAYOUT_SKIP;
			return records->skip_short ? 0 : ZA_BAD_LENGTH;
		}
		*layout = records->layout_of[record[records->discriminator]];
		if (*layout == ZA_LAYOUT_SKIP)
			return 0;
		if (*layout == ZA_LAYOUT_NONE)
			return ZA_BAD_DISCRIMINATOR;
	}
	found = &records->layouts[*layout];
	return bytes == found->bytes || (found->longer && bytes > found->bytes) ? 0 : ZA_BAD_LENGTH;
}

/* True if some field of a layout must be looked at before a record can be taken. */
static bool has_checks(const struct za_records *records, const struct za_layout *layout)
{
	if (records->null_bad_values)
		return false;
	for (uint32_t i = 0; i < layout->n_fields; i++)
		if (layout->fields[i].check)
			return true;
	return false;
}

static uint32_t check_values(const struct za_layout *layout, const uint8_t *record, uint32_t *field)
{
	for (uint32_t i = 0; i < layout->n_fields; i++) {
		const struct za_field *f = &layout->fields[i];

		for (uint32_t e = 0; f->check && e < f->elements; e++) {
			*field = i;
			if (!value_is_good(f, record + f->offsets[e]))
				return f->check == ZA_CHECK_UTF8 ? ZA_BAD_UTF8 : ZA_BAD_RANGE;
		}
	}
	return 0;
}

struct origin {
	uint32_t connection;
	uint64_t position;
	int64_t received;
};

static void write_origin(const struct decoding *d, const struct origin *origin, uint32_t offset)
{
	const struct za_origins *out = d->origins;
	uint64_t at = d->rows + d->group.n;

	if (out->connections)
		out->connections[at] = origin->connection;
	if (out->positions)
		out->positions[at] = origin->position + offset;
	if (out->received)
		out->received[at] = origin->received;
}

/* False: there is no room for more bad records. */
static bool add_record(struct decoding *d, const uint8_t *record, uint32_t bytes, uint64_t row,
		       uint32_t offset, const struct origin *origin)
{
	const struct za_records *records = d->records;
	struct za_bad bad = {.row = row, .offset = offset, .bytes = bytes};
	uint8_t layout;

	bad.reason = layout_of(records, record, bytes, &layout);
	if (!bad.reason && layout == ZA_LAYOUT_SKIP)
		return true;
	bad.layout = layout < records->n_layouts ? layout : 0;
	if (!bad.reason && has_checks(records, &records->layouts[layout]))
		bad.reason = check_values(&records->layouts[layout], record, &bad.field);
	if (bad.reason)
		return add_bad(d, bad);
	write_origin(d, origin, offset);
	d->group.at[d->group.n] = record;
	d->group.layout[d->group.n++] = layout;
	if (d->group.n == GROUP)
		flush(d);
	return true;
}

static bool group_is_good(const struct za_record_group *group, const struct za_layout *layout)
{
	uint32_t field;

	for (uint32_t i = 0; i < group->n; i++)
		if (check_values(layout, group->at[i], &field))
			return false;
	return true;
}

/*
 * The short way: records of one layout, whose origin nobody asked for. Takes as many as are good a
 * group at a time; gives how many. What follows must go the other way.
 */
static uint32_t add_block(struct decoding *d, const uint8_t *block, uint32_t n, bool checked)
{
	uint32_t size = d->records->block_bytes, taken = 0;
	struct za_record_group *group = &d->group;

	flush(d);
	group->step = size;
	while (taken < n) {
		group->n = n - taken < GROUP ? n - taken : GROUP;
		for (uint32_t i = 0; i < group->n; i++)
			group->at[i] = block + (size_t)(taken + i) * size;
		if (checked && !group_is_good(group, &d->records->layouts[0]))
			break;
		memset(group->layout, 0, group->n);
		flush_group(d);
		taken += group->n;
	}
	group->step = 0;
	group->n = 0;
	return taken;
}

static bool plain(const struct decoding *d)
{
	const struct za_records *records = d->records;

	return records->block_bytes && records->discriminator < 0 &&
	       records->layouts[0].bytes == records->block_bytes && !d->origins->connections &&
	       !d->origins->positions && !d->origins->received;
}

uint64_t za_records_count(const struct za_records *records, const struct ArrowArray *batch)
{
	const struct ArrowArray *payload = batch->children[0];
	uint64_t n = 0;
	uint32_t bytes;

	if (!records->block_bytes)
		return (uint64_t)payload->length;
	for (int64_t row = 0; row < payload->length; row++) {
		(void)payload_of(payload, row, &bytes);
		n += bytes / records->block_bytes;
	}
	return n;
}

uint32_t za_records_decode(const struct za_records *records, const struct ArrowArray *batch,
			   struct za_column *columns, const struct za_origins *origins,
			   struct za_bad *bad, uint32_t room, uint64_t *rows)
{
	const struct ArrowArray *payload = batch->children[0];
	const uint32_t *connections = batch->children[1]->buffers[1];
	const uint64_t *positions = batch->children[2]->buffers[1];
	const int64_t *received = batch->children[3]->buffers[1];
	struct decoding d = {
		.records = records,
		.columns = columns,
		.origins = origins,
		.bad = bad,
		.room = room,
	};
	bool short_way = plain(&d), more = room > 0;
	bool checked = has_checks(records, &records->layouts[0]);

	for (uint32_t i = 0; i < records->n_columns; i++) {
		columns[i].nulls = columns[i].bytes = 0;
		if (columns[i].offsets)
			columns[i].offsets[0] = 0;
	}
	for (int64_t row = 0; row < payload->length && more; row++) {
		uint32_t bytes, step, at = 0;
		const uint8_t *data = payload_of(payload, row, &bytes);
		struct origin origin = {
			connections[row + batch->children[1]->offset],
			positions[row + batch->children[2]->offset],
			received[row + batch->children[3]->offset],
		};

		step = records->block_bytes ? records->block_bytes : bytes;
		for (; more && (at < bytes || (!step && !at)); at += step) {
			/* Where something is bad, a group one by one. */
			if (short_way && at / step % GROUP == 0)
				at += step * add_block(&d, data + at, (bytes - at) / step, checked);
			if (step > bytes - at)
				break;
			more = add_record(&d, data + at, step, (uint64_t)row, at, &origin);
			if (!step)
				break;
		}
	}
	flush(&d);
	*rows = d.rows;
	return d.n_bad;
}

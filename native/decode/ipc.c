/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc.h"

#include <errno.h>
#include <string.h>

#include "../error.h"

#define CONTINUATION 0xFFFFFFFFU
#define MOST_ROWS INT32_MAX

/* Fields of the tables in Message.fbs, by their order. */
enum { MESSAGE_VERSION, MESSAGE_HEADER_TYPE, MESSAGE_HEADER, MESSAGE_BODY_LENGTH };
enum { BATCH_LENGTH, BATCH_NODES, BATCH_BUFFERS, BATCH_COMPRESSION };
enum { DICTIONARY_ID, DICTIONARY_DATA, DICTIONARY_IS_DELTA };

/* --- flatbuffers --------------------------------------------------------------------------- */

/* The bytes of one flatbuffer; positions in it are 64 bits wide, so that sums cannot wrap. */
struct flat {
	const uint8_t *data;
	uint64_t bytes;
};

struct table {
	struct flat flat;
	uint64_t at;
	uint64_t vtable;
	uint16_t vtable_bytes, table_bytes;
};

/* Little endian, as the format says; so is every machine with io_uring that we build for. */
static bool read_bytes(struct flat flat, uint64_t at, void *out, size_t bytes)
{
	if (at > flat.bytes || flat.bytes - at < bytes)
		return false;
	memcpy(out, flat.data + at, bytes);
	return true;
}

static bool table_at(struct flat flat, uint64_t at, struct table *out)
{
	int32_t back;
	int64_t vtable;

	if (!read_bytes(flat, at, &back, sizeof(back)))
		return false;
	vtable = (int64_t)at - back;
	if (vtable < 0)
		return false;
	*out = (struct table){.flat = flat, .at = at, .vtable = (uint64_t)vtable};
	return read_bytes(flat, out->vtable, &out->vtable_bytes, 2) &&
	       read_bytes(flat, out->vtable + 2, &out->table_bytes, 2) && out->vtable_bytes >= 4;
}

/* Where a field lies. *at 0: it is absent and has its default. False: hostile. */
static bool field_at(const struct table *table, uint32_t field, uint64_t *at)
{
	uint32_t slot = 4 + 2 * field;
	uint16_t offset = 0;

	*at = 0;
	if (slot + 2 > table->vtable_bytes)
		return true;
	if (!read_bytes(table->flat, table->vtable + slot, &offset, 2))
		return false;
	if (offset)
		*at = table->at + offset;
	return true;
}

static bool read_field(const struct table *table, uint32_t field, void *out, size_t bytes)
{
	uint64_t at;

	memset(out, 0, bytes);
	return field_at(table, field, &at) && (!at || read_bytes(table->flat, at, out, bytes));
}

/* The place that a field's offset leads to. *to 0: absent. */
static bool follow(const struct table *table, uint32_t field, uint64_t *to)
{
	uint64_t at;
	uint32_t forward;

	*to = 0;
	if (!field_at(table, field, &at))
		return false;
	if (!at)
		return true;
	if (!read_bytes(table->flat, at, &forward, sizeof(forward)))
		return false;
	*to = at + forward;
	return true;
}

static bool child_table(const struct table *table, uint32_t field, struct table *out)
{
	uint64_t to;

	return follow(table, field, &to) && to && table_at(table->flat, to, out);
}

/* A vector of structs of 16 bytes: all of it lies in the flatbuffer. */
static bool vector_of_16(const struct table *table, uint32_t field, uint64_t *first, uint32_t *n)
{
	uint64_t to;

	*n = 0;
	*first = 0;
	if (!follow(table, field, &to))
		return false;
	if (!to)
		return true;
	if (!read_bytes(table->flat, to, n, sizeof(*n)))
		return false;
	*first = to + sizeof(*n);
	return (table->flat.bytes - *first) / 16 >= *n;
}

static bool message_table(struct flat flat, struct table *out)
{
	uint32_t root;

	return read_bytes(flat, 0, &root, sizeof(root)) && table_at(flat, root, out);
}

/* --- messages ------------------------------------------------------------------------------ */

int za_ipc_measure(const uint8_t *data, size_t len, uint64_t limit, size_t *need, size_t *total)
{
	uint32_t prefix[2];
	struct table message;
	int64_t body;

	*need = ZA_IPC_PREFIX_BYTES;
	if (len < ZA_IPC_PREFIX_BYTES) {
		/* The marker is bad as soon as one byte of it is. */
		for (size_t i = 0; i < len && i < 4; i++)
			if (data[i] != 0xFF)
				return -EBADMSG;
		return 0;
	}
	memcpy(prefix, data, sizeof(prefix));
	if (prefix[0] != CONTINUATION || prefix[1] > INT32_MAX)
		return -EBADMSG;
	if (prefix[1] > limit)
		return -EMSGSIZE;
	*total = ZA_IPC_PREFIX_BYTES;
	if (!prefix[1]) { /* the end of the stream */
		*need = 0;
		return 0;
	}
	*need = ZA_IPC_PREFIX_BYTES + (size_t)prefix[1];
	if (len < *need)
		return 0;
	if (!message_table((struct flat){data + ZA_IPC_PREFIX_BYTES, prefix[1]}, &message) ||
	    !read_field(&message, MESSAGE_BODY_LENGTH, &body, sizeof(body)) || body < 0)
		return -EBADMSG;
	if ((uint64_t)body > limit - prefix[1])
		return -EMSGSIZE;
	*total = *need + (size_t)body;
	*need = 0;
	return 0;
}

static int bad(struct za_error *error, const char *text)
{
	return za_fail(error, -EBADMSG, "ipc", "%s", text);
}

/* The length that a compressed buffer says it will have; -1: this one is not compressed. */
static bool uncompressed(const uint8_t *body, int64_t offset, int64_t bytes, int64_t *out)
{
	*out = 0;
	if (!bytes)
		return true;
	if (bytes < 8)
		return false;
	memcpy(out, body + offset, sizeof(*out));
	if (*out == -1)
		*out = bytes - 8;
	return *out >= 0;
}

static int check_buffers(const struct table *batch, const uint8_t *body, struct za_ipc_info *info,
			 struct za_error *error)
{
	uint64_t first;
	uint32_t n;

	if (!vector_of_16(batch, BATCH_BUFFERS, &first, &n))
		return bad(error, "the list of buffers is cut off");
	for (uint32_t i = 0; i < n; i++) {
		int64_t place[2], expanded;

		if (!read_bytes(batch->flat, first + 16ULL * i, place, sizeof(place)) ||
		    place[0] < 0 || place[1] < 0 || (uint64_t)place[0] > info->body_bytes ||
		    (uint64_t)place[1] > info->body_bytes - (uint64_t)place[0])
			return bad(error, "a buffer lies outside of the body");
		expanded = place[1];
		if (info->compressed && !uncompressed(body, place[0], place[1], &expanded))
			return bad(error, "a compressed buffer has no valid length");
		if (info->expanded_bytes + (uint64_t)expanded < info->expanded_bytes)
			return bad(error, "compressed buffers have impossible lengths");
		info->expanded_bytes += (uint64_t)expanded;
	}
	info->buffers = n;
	return 0;
}

static int check_nodes(const struct table *batch, struct za_ipc_info *info, struct za_error *error)
{
	uint64_t first;
	uint32_t n;

	if (!read_field(batch, BATCH_LENGTH, &info->rows, sizeof(info->rows)) || info->rows < 0 ||
	    info->rows > MOST_ROWS)
		return bad(error, "the number of rows is impossible");
	if (!vector_of_16(batch, BATCH_NODES, &first, &n))
		return bad(error, "the list of columns is cut off");
	for (uint32_t i = 0; i < n; i++) {
		int64_t node[2]; /* length, null_count */

		if (!read_bytes(batch->flat, first + 16ULL * i, node, sizeof(node)) ||
		    node[0] < 0 || node[1] < 0 || node[1] > node[0])
			return bad(error, "a column's length or null count is impossible");
		/* Types without buffers could claim any length for free. */
		if (node[0] > MOST_ROWS)
			return bad(error, "a column is longer than 2^31 - 1");
	}
	return 0;
}

static int check_batch(const struct table *batch, const uint8_t *body, struct za_ipc_info *info,
		       struct za_error *error)
{
	struct table compression;
	uint64_t to;
	int code;

	if (!follow(batch, BATCH_COMPRESSION, &to) ||
	    (to && !table_at(batch->flat, to, &compression)))
		return bad(error, "the compression is not readable");
	info->compressed = to != 0;
	code = check_nodes(batch, info, error);
	return code ? code : check_buffers(batch, body, info, error);
}

int za_ipc_inspect(const uint8_t *data, size_t len, struct za_ipc_info *out, struct za_error *error)
{
	struct za_ipc_info info = {0};
	struct table message, header, batch;
	size_t need, total;
	uint32_t metadata;
	int code = len ? za_ipc_measure(data, len, UINT64_MAX / 4, &need, &total) : -EBADMSG;

	if (code || need || total != len)
		return bad(error, "not one whole message");
	memcpy(&metadata, data + 4, sizeof(metadata));
	info.body_offset = ZA_IPC_PREFIX_BYTES + metadata;
	info.body_bytes = len - info.body_offset;
	if (metadata) {
		struct flat flat = {data + ZA_IPC_PREFIX_BYTES, metadata};

		if (!message_table(flat, &message) ||
		    !read_field(&message, MESSAGE_HEADER_TYPE, &info.kind, sizeof(info.kind)) ||
		    !child_table(&message, MESSAGE_HEADER, &header))
			return bad(error, "the metadata is not readable");
		if (!info.kind)
			return bad(error, "the metadata says of no kind of message");
	}
	if (info.kind == ZA_IPC_DICTIONARY &&
	    (!child_table(&header, DICTIONARY_DATA, &batch) ||
	     !read_field(&header, DICTIONARY_ID, &info.dictionary, sizeof(info.dictionary)) ||
	     !read_field(&header, DICTIONARY_IS_DELTA, &info.delta, sizeof(info.delta))))
		return bad(error, "a dictionary has no data");
	if (info.kind == ZA_IPC_DICTIONARY || info.kind == ZA_IPC_RECORD_BATCH) {
		code = check_batch(info.kind == ZA_IPC_DICTIONARY ? &batch : &header,
				   data + info.body_offset, &info, error);
		if (code)
			return code;
	}
	*out = info;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cut.h"

#include <errno.h>
#include <stdio.h>

#include "../error.h"

int za_cutter_init(struct za_cutter *cutter, const struct za_config *config, struct za_error *error)
{
	int code = za_framing_init(&cutter->framing, &config->framing, error);

	if (!code && config->has_preamble)
		code = za_framing_init(&cutter->preamble, &config->preamble, error);
	if (code)
		return code;
	if (cutter->preamble.ops &&
	    (cutter->framing.ops->whole || cutter->preamble.ops->whole || cutter->preamble.blocks))
		return za_fail(error, -EINVAL, "config",
			       "preamble: neither it nor what follows can be raw, and it is one "
			       "message");
	cutter->drop_preamble = config->drop_preamble;
	cutter->utf8 = config->payload == ZA_PAYLOAD_STRING_VIEW ||
		       config->payload == ZA_PAYLOAD_LARGE_STRING;
	return 0;
}

void za_cut_describe(const struct za_cutter *cutter, int code, uint64_t position, char *out,
		     size_t room)
{
	const struct za_framing *framing =
		cutter->preamble.ops && !position ? &cutter->preamble : &cutter->framing;
	unsigned long long at = position;

	if (code == -EMSGSIZE)
		(void)snprintf(out, room,
			       "message at position %llu is longer than max_message=%u bytes", at,
			       framing->max_message_bytes);
	else if (code == -EILSEQ)
		(void)snprintf(out, room,
			       "message at position %llu is not UTF-8, as payload_type promises",
			       at);
	else
		(void)snprintf(out, room, "bytes at position %llu break the framing: %s", at,
			       framing->ops->broken);
}

void za_cut_begin(struct za_cut *cut, struct za_conn *conn, uint64_t offset, size_t bytes,
		  struct za_gift *gift, int64_t received_ns)
{
	struct za_span *tail = &conn->tail.span;

	*cut = (struct za_cut){
		.conn = conn,
		.offset = offset,
		.bytes = bytes,
		.gift = gift,
		.at_end = !bytes,
		.received_ns = received_ns,
	};
	if (!cut->at_end && tail->bytes && tail->offset + tail->bytes == offset) {
		/* The message goes on where it stopped: no seam. Its lease is ours until the end. */
		cut->joined = *tail;
		cut->offset = tail->offset;
		cut->bytes += tail->bytes;
		cut->scanned = tail->bytes;
		tail->bytes = 0;
	}
}

static struct za_row_origin origin_of(const struct za_cut *cut, uint64_t behind)
{
	/* conn->position is behind the fragment: count back from there. */
	return (struct za_row_origin){
		.connection = cut->conn->id,
		.position = cut->conn->position - behind,
		.received_ns = cut->received_ns,
	};
}

/* Where the next message begins, or the tail's did. */
static uint64_t position_of(const struct za_cut *cut)
{
	return cut->conn->position - cut->bytes - za_tail_bytes(&cut->conn->tail);
}

/* The framing of the message that is being looked for. */
static const struct za_framing *framing_of(const struct za_cut *cut, const struct za_cutter *cutter)
{
	return cutter->preamble.ops && !position_of(cut) ? &cutter->preamble : &cutter->framing;
}

static void count_rows(struct za_cut *cut, struct za_cutter *cutter, uint32_t n)
{
	za_count(&cut->conn->rows, n);
	za_count(&cutter->area->stats.rows, n);
}

/* How many of the bounds, from the first, are what the payload type promises. */
static uint32_t valid_rows(const struct za_cutter *cutter, const uint8_t *data,
			   const struct za_bound *bounds, uint32_t n)
{
	uint32_t valid = 0;

	if (!cutter->utf8)
		return n;
	while (valid < n && za_utf8_valid(data + bounds[valid].start, bounds[valid].length))
		valid++;
	return valid;
}

/* Moves what belongs to the unfinished message from the fragment to the tail. *whole: that is all of
 * it. 0, or as za_cut_run(). */
static int continue_tail(struct za_cut *cut, struct za_cutter *cutter,
			 const struct za_framing *framing, bool *whole)
{
	struct za_tail *tail = &cut->conn->tail;
	size_t taken;

	do {
		const uint8_t *next = cutter->area->base + cut->offset;
		int code = framing->ops->extend(framing, tail->heap, tail->heap_bytes, next,
						cut->bytes, &taken, whole);

		if (!code && *whole && za_batch_full(cutter->batch))
			return -ENOSPC;
		if (!code && taken)
			code = za_tail_append(tail, cutter->area, next, taken);
		if (code)
			return code;
		cut->offset += taken;
		cut->bytes -= taken;
	} while (!*whole && taken);
	return 0;
}

/* A message that began in an earlier fragment, elsewhere in the area. */
static int cut_seam(struct za_cut *cut, struct za_cutter *cutter)
{
	const struct za_framing *framing = framing_of(cut, cutter);
	struct za_tail *tail = &cut->conn->tail;
	struct za_row_origin origin;
	struct za_bound bound;
	size_t consumed;
	bool whole;
	int n, code = za_tail_stitch(tail, cutter->area);

	if (!code)
		code = continue_tail(cut, cutter, framing, &whole);
	if (code || !whole)
		return code;
	n = framing->ops->scan(framing, tail->heap, tail->heap_bytes, 0, &bound, 1, &consumed);
	if (n < 0)
		return n;
	if (n != 1 || consumed != tail->heap_bytes)
		return -EBADMSG;
	origin = origin_of(cut, cut->bytes + tail->heap_bytes);
	if (framing != &cutter->preamble || !cutter->drop_preamble) {
		if (!valid_rows(cutter, tail->heap, &bound, 1))
			return -EILSEQ;
		code = za_batch_add_stitched(cutter->batch, &tail->heap, &bound, &origin);
		if (code)
			return code;
		count_rows(cut, cutter, 1);
	}
	za_count(&cutter->area->stats.seams, 1);
	za_tail_clear(tail, cutter->area);
	return 0;
}

/* The messages that lie whole in the area. */
static int cut_rows(struct za_cut *cut, struct za_cutter *cutter)
{
	while (cut->bytes) {
		const struct za_framing *framing = framing_of(cut, cutter);
		bool first = framing == &cutter->preamble;
		const uint8_t *data = cutter->area->base + cut->offset;
		uint32_t room = first ? 1 : za_batch_room(cutter->batch);
		struct za_row_origin origin = origin_of(cut, cut->bytes);
		size_t consumed;
		uint32_t valid;
		int n, code;

		if (za_batch_full(cutter->batch))
			return -ENOSPC;
		n = framing->ops->scan(framing, data, cut->bytes, cut->scanned, cutter->bounds,
				       room < ZA_CUT_BOUNDS ? room : ZA_CUT_BOUNDS, &consumed);
		if (n <= 0)
			return n;
		valid = valid_rows(cutter, data, cutter->bounds, (uint32_t)n);
		if (first && cutter->drop_preamble) {
			cut->offset += consumed;
			cut->bytes -= consumed;
			cut->scanned = 0;
			continue;
		}
		/* Where the bad one begins: its payload may have a header before it. */
		if (valid && valid < (uint32_t)n)
			(void)framing->ops->scan(framing, data, cut->bytes, cut->scanned,
						 cutter->bounds, valid, &consumed);
		if (valid) {
			/* Only with the last bytes: the hold covers those that are still to be cut. */
			code = za_batch_add(cutter->batch, cut->offset, consumed, cutter->bounds,
					    valid, &origin,
					    consumed == cut->bytes ? cut->gift : NULL);
			if (code)
				return code;
			count_rows(cut, cutter, valid);
			cut->offset += consumed;
			cut->bytes -= consumed;
			cut->scanned = 0;
		}
		if (valid < (uint32_t)n)
			return -EILSEQ;
	}
	return 0;
}

bool za_cut_whole(struct za_cutter *cutter, struct za_conn *conn, uint64_t offset, uint32_t bytes,
		  struct za_gift *gift, int64_t received_ns)
{
	const struct za_bound bound = {.start = 0, .length = bytes};
	const struct za_row_origin origin = {
		.connection = conn->id,
		.position = conn->position - bytes,
		.received_ns = received_ns,
	};

	if (!cutter->framing.ops->whole || !cutter->batch || za_batch_full(cutter->batch) ||
	    za_batch_add(cutter->batch, offset, bytes, &bound, 1, &origin, gift))
		return false;
	za_count(&conn->rows, 1);
	za_count(&cutter->area->stats.rows, 1);
	return true;
}

/* The stream has ended: does what is left count as a message? */
static int cut_end(struct za_cut *cut, struct za_cutter *cutter, uint32_t *lost)
{
	const struct za_framing *framing = framing_of(cut, cutter);
	struct za_tail *tail = &cut->conn->tail;
	size_t bytes = za_tail_bytes(tail);
	struct za_row_origin origin = origin_of(cut, bytes);
	struct za_bound bound;
	const uint8_t *data;
	int code;

	if (!bytes)
		return 0;
	data = tail->span.bytes ? cutter->area->base + tail->span.offset : tail->heap;
	if (!framing->ops->finish(framing, data, bytes, &bound) ||
	    (framing == &cutter->preamble && cutter->drop_preamble)) {
		*lost = (uint32_t)bytes;
		za_tail_clear(tail, cutter->area);
		return 0;
	}
	if (za_batch_full(cutter->batch))
		return -ENOSPC;
	if (!valid_rows(cutter, data, &bound, 1))
		return -EILSEQ;
	if (tail->span.bytes)
		code = za_batch_add(cutter->batch, tail->span.offset, bytes, &bound, 1, &origin,
				    NULL);
	else
		code = za_batch_add_stitched(cutter->batch, &tail->heap, &bound, &origin);
	if (code)
		return code;
	count_rows(cut, cutter, 1);
	za_tail_clear(tail, cutter->area);
	return 0;
}

static int cut_step(struct za_cut *cut, struct za_cutter *cutter, uint32_t *lost)
{
	int code;

	if (cut->at_end)
		return cut_end(cut, cutter, lost);
	if (za_tail_bytes(&cut->conn->tail)) {
		code = cut_seam(cut, cutter);
		if (code)
			return code;
	}
	code = cut_rows(cut, cutter);
	if (code)
		return code;
	if (cut->bytes)
		za_tail_keep(&cut->conn->tail, cutter->area, cut->offset, cut->bytes, cut->gift);
	return 0;
}

int za_cut_run(struct za_cut *cut, struct za_cutter *cutter, uint32_t *lost)
{
	int code;

	*lost = 0;
	code = cut_step(cut, cutter, lost);
	if (code == -ENOSPC)
		return code;
	if (code) {
		*lost = (uint32_t)(za_tail_bytes(&cut->conn->tail) + cut->bytes);
		za_tail_clear(&cut->conn->tail, cutter->area);
	}
	/* The rows and the new tail have leases of their own by now. */
	if (cut->joined.bytes)
		za_lease_drop(cutter->area, &cut->joined, 1);
	cut->conn = NULL;
	return code;
}

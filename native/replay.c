/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - the circle without a network: bytes from memory go through the same area, framing,
 * batches and leases as those of a connection.
 *
 * This file stands where the kernel and the receiver stand otherwise: it fills the chunk that is
 * offered, and decides when a batch leaves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "decode/cut.h"
#include "error.h"
#include "export/schema.h"
#include "wait.h"

#define RING_ENTRIES 2U
/* Of the area in eighths, as with `copy`: below, batches are copied out. */
#define COPY_BELOW 2U
/* One batch is filled while another is looked at: the rest of the area stays cold. */
#define NEAR_BATCHES 2ULL

struct za_replay {
	struct za_config config;
	struct za_area *area; /* a share */
	struct io_uring_buf ring[RING_ENTRIES];
	uint16_t head; /* of the ring: entries that are filled */
	struct za_cutter cutter;
	struct za_conn conn;
	struct za_cut cut;   /* in progress, if cut.conn */
	struct za_gift hold; /* the fragment's own */
	bool offered;        /* ring[head] is a chunk to be filled */
	uint32_t filled_bytes;
	bool ended;
	struct za_error error; /* code 0 while all is well */
};

int za_replay_new(const struct za_config *config, struct za_error *error, struct za_replay **out)
{
	struct za_batch_layout layout = {
		.payload = config->payload,
		.with_offsets = config->framing.kind == ZA_FRAMING_RAW,
		.max_rows = config->max_batch_rows,
		.max_bytes = config->max_batch_bytes,
	};
	int code = za_config_check(config, error);
	struct za_replay *replay;

	if (code)
		return code;
	replay = calloc(1, sizeof(*replay));
	if (!replay)
		return za_fail(error, -ENOMEM, "replay", "out of memory");
	replay->config = *config;
	replay->conn.id = 1;
	code = za_cutter_init(&replay->cutter, config, error);
	if (!code)
		code = za_area_new(config->area_bytes, config->chunk_bytes, false, error,
				   &replay->area);
	if (code) {
		free(replay);
		return code;
	}
	replay->cutter.area = replay->area;
	replay->area->pool = za_batch_pool_new(&layout);
	if (!replay->area->pool ||
	    za_buffers_attach(replay->area, (struct io_uring_buf_ring *)(void *)replay->ring,
			      RING_ENTRIES, (struct za_waker){0}) ||
	    (config->adjacent_chunks &&
	     za_buffers_prefer_adjacent(replay->area, NEAR_BATCHES * config->max_batch_bytes))) {
		za_area_put(replay->area);
		free(replay);
		return za_fail(error, -ENOMEM, "replay", "out of memory");
	}
	*out = replay;
	return 0;
}

static void drop_hold(struct za_replay *replay)
{
	if (replay->hold.available)
		za_lease_drop_chunk(replay->area, replay->hold.chunk);
	replay->hold.available = false;
}

void za_replay_free(struct za_replay *replay)
{
	if (replay->cut.conn && replay->cut.joined.bytes)
		za_lease_drop(replay->area, &replay->cut.joined, 1);
	drop_hold(replay);
	if (replay->cutter.batch)
		za_batch_discard(replay->cutter.batch);
	za_tail_fini(&replay->conn.tail, replay->area);
	za_buffers_detach(replay->area);
	za_area_put(replay->area);
	free(replay);
}

/* A chunk to fill. False: all are held, by the batch being filled at the least. */
static bool offer(struct za_replay *replay)
{
	if (replay->offered)
		return true;
	za_buffers_offer(replay->area, 1);
	if (!za_refill_level(&replay->area->refill, replay->area).offered) {
		/* An unfinished message may be what holds them. */
		if (za_tail_stitch(&replay->conn.tail, replay->area))
			return false;
		za_buffers_offer(replay->area, 1);
	}
	replay->offered = za_refill_level(&replay->area->refill, replay->area).offered > 0;
	replay->filled_bytes = 0;
	return replay->offered;
}

/* Fills the chunk on offer with what fits, as a kernel with incremental buffers does. */
static int fill(struct za_replay *replay, const uint8_t *data, size_t len, size_t *taken)
{
	struct io_uring_buf *entry = &replay->ring[replay->head & (RING_ENTRIES - 1)];
	uint32_t room = entry->len - replay->filled_bytes;
	uint32_t bytes = len < room ? (uint32_t)len : room;
	bool done = bytes == room;
	uint64_t offset;
	int code = za_buffers_filled(replay->area, entry->bid, bytes, done, &offset);

	if (code)
		return code;
	memcpy(replay->area->base + offset, data, bytes);
	replay->hold = (struct za_gift){.chunk = za_area_chunk_at(replay->area, offset),
					.available = done};
	replay->filled_bytes += bytes;
	replay->offered = !done;
	replay->head = (uint16_t)(replay->head + done);
	replay->conn.position += bytes;
	za_count(&replay->area->stats.bytes, bytes);
	za_count(&replay->area->stats.fragments, 1);
	za_cut_begin(&replay->cut, &replay->conn, offset, bytes, &replay->hold, za_realtime_ns());
	*taken = bytes;
	return 0;
}

static int fail(struct za_replay *replay, int code)
{
	replay->error.code = code;
	memcpy(replay->error.step, "framing", sizeof("framing"));
	za_cut_describe(&replay->cutter, code, replay->conn.position - replay->conn.lost_bytes,
			replay->error.detail, sizeof(replay->error.detail));
	return code;
}

/* Goes on with the cut. 0; -ENOSPC: the batch must leave first; or what broke the framing. */
static int run(struct za_replay *replay)
{
	uint32_t lost;
	int code = 0;

	if (!replay->cutter.batch)
		code = za_batch_new(replay->area, &replay->cutter.batch);
	if (code)
		return code;
	if (!replay->cut.conn)
		return 0;
	code = za_cut_run(&replay->cut, &replay->cutter, &lost);
	if (code == -ENOSPC)
		return code;
	drop_hold(replay);
	replay->conn.lost_bytes += lost;
	return code ? fail(replay, code) : 0;
}

int za_replay_feed(struct za_replay *replay, const uint8_t *data, size_t len, size_t *taken)
{
	size_t done = 0;
	int code = replay->error.code;

	if (replay->ended)
		return -ESHUTDOWN;
	while (!code) {
		size_t bytes = 0;

		code = run(replay);
		if (code || done == len || !offer(replay))
			break;
		code = fill(replay, data + done, len - done, &bytes);
		done += bytes;
	}
	*taken = done;
	/* A cut that waits for room goes on with the next call. */
	return code == -ENOSPC ? 0 : code;
}

int za_replay_end(struct za_replay *replay, uint32_t *partial)
{
	int code = replay->error.code ? replay->error.code : run(replay);

	if (!code && !replay->ended) {
		za_cut_begin(&replay->cut, &replay->conn, 0, 0, NULL, za_realtime_ns());
		replay->ended = true;
		code = run(replay);
		za_count(&replay->area->stats.partial_bytes, replay->conn.lost_bytes);
	}
	*partial = replay->conn.lost_bytes;
	return code == -ENOSPC ? -EAGAIN : code;
}

static bool must_copy(const struct za_replay *replay)
{
	struct za_refill_level level = za_refill_level(&replay->area->refill, replay->area);

	return replay->config.copy_out == ZA_COPY_OUT_ALWAYS ||
	       (replay->config.copy_out == ZA_COPY_OUT_AUTO &&
		(uint64_t)(level.free + level.offered) * 8 <
			COPY_BELOW * (uint64_t)replay->area->chunks);
}

int za_replay_next(struct za_replay *replay, bool now, struct ArrowArray *out)
{
	struct za_batch *batch = replay->cutter.batch;
	struct za_stats *stats = &replay->area->stats;
	bool waits = replay->cut.conn != NULL; /* the cut stopped for want of room */
	int code = 0;

	if (!batch || !za_batch_rows(batch) || (!now && !waits && !za_batch_full(batch)))
		return -EAGAIN;
	if (must_copy(replay))
		code = za_batch_copy_out(batch);
	if (!code)
		code = za_batch_seal(batch);
	if (code)
		return code;
	za_count(&stats->batches, 1);
	if (za_batch_is_copied(batch)) {
		za_count(&stats->copied_out_batches, 1);
		za_count(&stats->copied_out_bytes, za_batch_bytes(batch));
	} else {
		za_count(&stats->zero_copy_batches, 1);
	}
	replay->cutter.batch = NULL;
	za_batch_export(batch, out);
	return 0;
}

int za_replay_schema(struct za_replay *replay, struct ArrowSchema *out)
{
	return za_schema_export(&replay->config, replay->cutter.framing.ops->name, "replay", out);
}

void za_replay_error(struct za_replay *replay, struct za_error *out)
{
	*out = replay->error;
}

void za_replay_metrics(struct za_replay *replay, struct za_metrics *out)
{
	memset(out, 0, sizeof(*out));
	za_area_metrics(replay->area, out);
}

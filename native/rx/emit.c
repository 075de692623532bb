/* SPDX-License-Identifier: Apache-2.0 */
/* emit.c - batches leave: when, copied or not. */
#include <errno.h>

#include "receiver.h"

/* At or above this rate batches fill by themselves soon enough that waking a puller for each
 * completion would cost more than it brings. Measured over at least the window. */
#define BUSY_BYTES_PER_S 512e6
#define RATE_WINDOW_NS 200000

bool za_emit_ready(struct za_receiver *r)
{
	int code;

	if (r->cutter.batch)
		return true;
	code = za_batch_new(r->area, &r->cutter.batch);
	if (code)
		za_receiver_fail(r, code, "batch", "no memory for a batch's columns");
	return !code;
}

/* Of the area, in eighths of a chunk's count: what no batch holds. */
static uint64_t available_eighths(const struct za_receiver *r, uint64_t *bytes)
{
	struct za_refill_level level = za_refill_level(&r->area->refill, r->area);
	uint32_t available = level.free + level.offered;

	*bytes = (uint64_t)available << r->area->chunk_shift;
	return (uint64_t)available * 8;
}

static void begin_copying(struct za_receiver *r, uint64_t free_bytes)
{
	r->copying = true;
	za_receiver_event(r, ZA_EVENT_COPY_OUT_ON, 0, 0, free_bytes);
	za_gauge(&r->stats->copying_out, true);
}

/*
 * Before each batch, not only between rounds: one round may bring as much as the area has, and what is
 * handed out as it lies may be held for ever. A NIC that finds nothing free then gets nothing from its
 * peers that would make a consumer let go.
 */
static void watch_batch(struct za_receiver *r)
{
	uint64_t bytes, eighths;

	if (r->copying || r->config.copy_out != ZA_COPY_OUT_AUTO)
		return;
	eighths = available_eighths(r, &bytes);
	if (eighths < (uint64_t)r->transport.ops->copy_below * r->area->chunks)
		begin_copying(r, bytes);
}

/* Enters and leaves the state in which batches are copied out, with some room in between. Returns
 * true if so little is free that what this side holds itself must go back. */
static bool watch_level(struct za_receiver *r)
{
	const struct za_transport_ops *ops = r->transport.ops;
	uint64_t free_bytes, eighths = available_eighths(r, &free_bytes);
	uint64_t whole = r->area->chunks;
	uint64_t alloc_fails = za_read(&r->area->stats.alloc_fails);
	/* The NIC keeps more than was reckoned with. */
	bool dry = alloc_fails != r->alloc_fails;

	r->alloc_fails = alloc_fails;
	if (r->config.copy_out == ZA_COPY_OUT_AUTO) {
		if (!r->copying && (dry || eighths < ops->copy_below * whole)) {
			begin_copying(r, free_bytes);
		} else if (r->copying && !dry && eighths >= ops->copy_until * whole) {
			r->copying = false;
			za_receiver_event(r, ZA_EVENT_COPY_OUT_OFF, 0, 0, free_bytes);
			za_gauge(&r->stats->copying_out, false);
		}
	}
	return dry || eighths <= ops->sweep_at * whole;
}

/* Whether this batch must own its bytes. */
static bool must_copy(const struct za_receiver *r)
{
	return r->config.copy_out == ZA_COPY_OUT_ALWAYS || r->copying;
}

static int make_owned(struct za_receiver *r, struct za_batch *batch)
{
	int code = must_copy(r) ? za_batch_copy_out(batch) : 0;

	return code ? code : za_batch_seal(batch);
}

static void count_batch(struct za_receiver *r, const struct za_batch *batch)
{
	za_count(&r->stats->batches, 1);
	if (za_batch_is_copied(batch)) {
		za_count(&r->stats->copied_out_batches, 1);
		za_count(&r->stats->copied_out_bytes, za_batch_bytes(batch));
	} else {
		za_count(&r->stats->zero_copy_batches, 1);
	}
}

bool za_emit_flush(struct za_receiver *r)
{
	struct za_batch *batch = r->cutter.batch;
	int code;

	if (!batch || !za_batch_rows(batch))
		return true;
	watch_batch(r);
	if (za_queue_full(r->queue)) {
		/* A full batch gets no more rows, so its bytes can leave the area while it waits. */
		if (za_batch_full(batch) && must_copy(r) && !za_batch_is_copied(batch) &&
		    (code = za_batch_copy_out(batch)))
			za_receiver_fail(r, code, "batch", "no memory to copy a batch out");
		return false;
	}
	code = make_owned(r, batch);
	if (code) {
		za_receiver_fail(r, code, "batch", "no memory to hand a batch over");
		return false;
	}
	count_batch(r, batch);
	r->cutter.batch = NULL;
	/* Cannot fail: this thread is the only one that pushes, and there was room. */
	return za_queue_push(r->queue, batch);
}

void za_emit_discard(struct za_receiver *r)
{
	if (!r->cutter.batch)
		return;
	za_count_shared(&r->stats->discarded_rows, za_batch_rows(r->cutter.batch));
	za_batch_discard(r->cutter.batch);
	r->cutter.batch = NULL;
}

void za_emit_count_rate(struct za_receiver *r, uint64_t bytes)
{
	int64_t elapsed = r->now_ns - r->window_start_ns;

	if (elapsed >= RATE_WINDOW_NS) {
		r->busy = (double)r->window_bytes * 1e9 >= BUSY_BYTES_PER_S * (double)elapsed;
		r->window_start_ns = r->now_ns;
		r->window_bytes = 0;
	}
	r->window_bytes += bytes;
}

void za_emit_drained(struct za_receiver *r)
{
	struct za_batch *batch = r->cutter.batch;

	if (watch_level(r)) {
		za_receive_sweep_tails(r);
		za_emit_flush(r);
		return;
	}
	if (batch && za_batch_full(batch))
		za_emit_flush(r);
}

/* How long this batch may still wait for more rows. */
static int64_t limit_ns(struct za_receiver *r)
{
	int64_t limit = (int64_t)r->config.max_delay_ns;
	int64_t coalesce = (int64_t)r->config.coalesce_ns;

	if (!za_queue_hungry(r->queue))
		return limit;
	if (!r->busy)
		return 0;
	return coalesce < limit ? coalesce : limit;
}

int64_t za_emit_patience_ns(struct za_receiver *r)
{
	struct za_batch *batch = r->cutter.batch;
	int64_t limit, left;

	if (!batch || !za_batch_rows(batch))
		return -1;
	limit = limit_ns(r);
	if (limit) {
		left = limit - (r->sys.ops->now_ns(r->sys.ctx, CLOCK_MONOTONIC) - r->first_row_ns);
		if (left > 0)
			return left;
	}
	/* If the queue is full nobody waits for this batch; a puller who empties it will call. */
	za_emit_flush(r);
	return -1;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "scatter.h"

#include <errno.h>

#include "../decode/cut.h"

#define RING_ENTRIES 2U

struct scatter {
	struct consumer *consumer;
	uint64_t *random;
	struct za_area *area;
	struct io_uring_buf ring[RING_ENTRIES];
	uint16_t head;
	bool offered;
	uint32_t filled_bytes; /* of the chunk on offer */
	struct za_cutter cutter;
	struct za_conn conn;
	struct za_gift hold;
};

static bool set_up(struct scatter *s, const struct za_config *config)
{
	struct za_batch_layout layout = {
		.payload = config->payload,
		.with_offsets = config->framing.kind == ZA_FRAMING_RAW,
		.max_rows = config->max_batch_rows,
		.max_bytes = config->max_batch_bytes,
	};
	struct za_error error;

	if (za_cutter_init(&s->cutter, config, &error))
		return false;
	CHECK(!za_area_new(config->area_bytes, config->chunk_bytes, false, &error, &s->area), "%s",
	      error.detail);
	s->conn.id = 1;
	s->cutter.area = s->area;
	s->area->pool = za_batch_pool_new(&layout);
	CHECK(s->area->pool, "out of memory");
	CHECK(!za_buffers_attach(s->area, (struct io_uring_buf_ring *)(void *)s->ring, RING_ENTRIES,
				 (struct za_waker){0}),
	      "out of memory");
	CHECK(!za_batch_new(s->area, &s->cutter.batch), "out of memory");
	return true;
}

static void tear_down(struct scatter *s)
{
	za_batch_discard(s->cutter.batch);
	za_tail_fini(&s->conn.tail, s->area);
	za_buffers_detach(s->area);
	za_area_put(s->area);
}

static void hand_over(struct scatter *s)
{
	struct za_batch *batch = s->cutter.batch;
	struct ArrowArray out;

	if (!random_below(s->random, 3))
		CHECK(!za_batch_copy_out(batch), "out of memory");
	CHECK(!za_batch_seal(batch), "out of memory");
	za_batch_export(batch, &out);
	consumer_take(s->consumer, &out);
	CHECK(!za_batch_new(s->area, &s->cutter.batch), "out of memory");
}

static bool has_chunk(struct scatter *s)
{
	za_buffers_offer(s->area, 1);
	return za_refill_level(&s->area->refill, s->area).offered > 0;
}

/* Who may hold all chunks: the consumer, the batch in progress, an unfinished message. */
static void offer(struct scatter *s)
{
	if (s->offered)
		return;
	s->filled_bytes = 0;
	s->offered = has_chunk(s) || (consumer_release(s->consumer) && has_chunk(s));
	if (!s->offered && za_batch_rows(s->cutter.batch)) {
		hand_over(s);
		consumer_release(s->consumer);
		s->offered = has_chunk(s);
	}
	if (!s->offered) {
		CHECK(!za_tail_stitch(&s->conn.tail, s->area), "out of memory");
		s->offered = has_chunk(s);
	}
	CHECK(s->offered, "chunks are lost");
}

/* Puts a fragment behind the one before, or at the beginning of another chunk. */
static uint64_t put(struct scatter *s, const uint8_t *data, uint32_t *bytes)
{
	struct io_uring_buf *entry = &s->ring[s->head & (RING_ENTRIES - 1)];
	uint32_t room = entry->len - s->filled_bytes;
	bool done = *bytes >= room || random_below(s->random, 2);
	uint64_t offset;

	if (*bytes > room)
		*bytes = room;
	CHECK(!za_buffers_filled(s->area, entry->bid, *bytes, done, &offset), "filled");
	memcpy(s->area->base + offset, data, *bytes);
	s->hold = (struct za_gift){.chunk = za_area_chunk_at(s->area, offset), .available = done};
	s->filled_bytes += *bytes;
	s->offered = !done;
	s->head = (uint16_t)(s->head + done);
	return offset;
}

/* The next fragment, or, with no bytes, the end. */
static int cut(struct scatter *s, uint64_t offset, uint32_t bytes, struct za_gift *hold)
{
	struct consumer *c = s->consumer;
	struct za_cut cut;
	uint32_t lost;

	s->conn.position += bytes;
	za_cut_begin(&cut, &s->conn, offset, bytes, hold, 1);
	while ((c->code = za_cut_run(&cut, &s->cutter, &lost)) == -ENOSPC)
		hand_over(s);
	if (s->hold.available)
		za_lease_drop_chunk(s->area, s->hold.chunk);
	s->hold.available = false;
	c->partial = lost;
	if (c->code)
		za_cut_describe(&s->cutter, c->code, s->conn.position - lost, c->detail,
				sizeof(c->detail));
	return c->code;
}

bool scatter_run(const struct za_config *config, struct consumer *consumer, uint64_t *random)
{
	static struct scatter scatter; /* large */
	struct scatter *s = &scatter;
	size_t at = 0;
	int code = 0;

	*s = (struct scatter){.consumer = consumer, .random = random};
	if (!set_up(s, config))
		return false;
	while (!code && at < consumer->bytes) {
		uint32_t most = random_below(random, 4) ? 16 : 5000;
		uint32_t bytes = 1 + (uint32_t)random_below(random, most);
		uint64_t offset;

		if (bytes > consumer->bytes - at)
			bytes = (uint32_t)(consumer->bytes - at);
		offer(s);
		offset = put(s, consumer->stream + at, &bytes);
		at += bytes;
		code = cut(s, offset, bytes, &s->hold);
		if (za_batch_rows(s->cutter.batch) && !random_below(random, 8))
			hand_over(s);
	}
	if (!code)
		cut(s, 0, 0, NULL);
	if (za_batch_rows(s->cutter.batch))
		hand_over(s);
	tear_down(s);
	return true;
}

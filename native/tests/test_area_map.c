/* SPDX-License-Identifier: Apache-2.0 */
/* test_area_map.c - the map of an area against what is known to be held, chunk by chunk. */
#include <string.h>

#include "../source.h"
#include "../twin/twin.h"
#include "../wait.h"
#include "check.h"
#include "rows.h"

#define CHUNKS 64
#define BATCHES 5

struct bench {
	struct za_twin *twin;
	struct za_source *source;
	int fd;
	uint8_t map[CHUNKS + 1];
};

static void begin(struct bench *b, uint8_t transport)
{
	struct za_config config = {
		.area_bytes = CHUNKS * 4096,
		.chunk_bytes = 4096,
		.window_bytes = 4 * 4096,
		.max_batch_rows = 1,
		.max_batch_bytes = 4096,
		.queue_batches = 4,
		.max_connections = 1,
		.framing.max_message_bytes = 1,
		.framing.kind = ZA_FRAMING_RAW,
		.copy_out = ZA_COPY_OUT_NEVER,
		.exhausted_ns = INT64_MAX,
		.transport = transport,
	};
	struct za_twin_options options = {.seed = 1,
					  .threaded = true,
					  .whole_fragments = true,
					  .zcrx = transport != ZA_TRANSPORT_COPY};
	struct za_error error;
	struct za_sys sys;
	uint32_t id;

	b->twin = za_twin_new(&options);
	sys = za_twin_sys(b->twin);
	CHECK(!za_source_new(&config, &sys, &error, &b->source), "%s", error.detail);
	b->fd = za_twin_socket(b->twin);
	CHECK(!za_source_add(b->source, b->fd, &id), "add");
}

static uint32_t look(struct bench *b, uint8_t state)
{
	uint32_t n = 0;

	b->map[CHUNKS] = 0xaa;
	CHECK(za_source_area_map(b->source, b->map, CHUNKS) == CHUNKS, "chunks");
	CHECK(b->map[CHUNKS] == 0xaa, "written past the room");
	for (uint32_t i = 0; i < CHUNKS; i++)
		n += b->map[i] == state;
	return n;
}

static uint32_t leased(struct bench *b)
{
	return look(b, ZA_CHUNK_LEASED) + look(b, ZA_CHUNK_LEASED | ZA_CHUNK_OFFERED);
}

static uint32_t chunk_of(struct bench *b, const struct ArrowArray *batch)
{
	const uint8_t *base = b->source->receiver.area->base;

	return (uint32_t)((size_t)(row_at(batch, true, 0).data - base) / 4096);
}

/* Polls: the receiver may still be dropping its own hold on the fragment. */
static void expect_leased(struct bench *b, uint32_t wanted)
{
	int64_t deadline = za_monotonic_ns() + 20000000000;

	while (leased(b) != wanted) {
		CHECK(za_monotonic_ns() < deadline, "%u leased and not %u", leased(b), wanted);
		za_wait(&(za_u32){0}, 0, 1000000);
	}
}

static void compare_with_metrics(struct bench *b)
{
	struct za_metrics metrics;

	za_source_metrics(b->source, &metrics);
	CHECK(look(b, ZA_CHUNK_FREE) == metrics.chunks_free, "free");
	CHECK(look(b, ZA_CHUNK_LEASED) == metrics.chunks_leased, "leased");
}

static void run(uint8_t transport)
{
	struct bench b;
	struct ArrowArray held[BATCHES];
	bool out[CHUNKS] = {false};
	uint8_t piece[4096];
	uint32_t distinct = 0;

	begin(&b, transport);
	CHECK(!leased(&b), "nothing has come");
	memset(piece, 7, sizeof(piece));
	for (uint32_t i = 0; i < BATCHES; i++) {
		za_twin_send(b.twin, b.fd, piece, sizeof(piece));
		CHECK(!za_source_next(b.source, 20000000000, &held[i]), "batch %u", i);
		distinct += !out[chunk_of(&b, &held[i])];
		out[chunk_of(&b, &held[i])] = true;
	}
	CHECK(distinct > 1, "all in one chunk");
	expect_leased(&b, distinct);
	for (uint32_t i = 0; i < CHUNKS; i++)
		CHECK(!(b.map[i] & ZA_CHUNK_LEASED) == !out[i], "chunk %u is %u", i, b.map[i]);
	compare_with_metrics(&b);

	/* What is released is not shown any more, in whatever order; the source may be closed. */
	held[2].release(&held[2]);
	expect_leased(&b, distinct - 1);
	CHECK(za_source_area_map(b.source, b.map, 1) == CHUNKS, "less room");
	za_source_close(b.source);
	expect_leased(&b, distinct - 1);
	compare_with_metrics(&b);
	for (uint32_t i = 0; i < BATCHES; i++)
		if (i != 2)
			held[i].release(&held[i]);
	CHECK(look(&b, transport == ZA_TRANSPORT_COPY ? ZA_CHUNK_FREE : ZA_CHUNK_OFFERED) == CHUNKS,
	      "after all was released");
	compare_with_metrics(&b);
	za_source_put(b.source);
	za_twin_free(b.twin);
}

/* Pieces of one chunk: it is the kernel's still, and leased. */
static void run_incremental(void)
{
	struct bench b;
	struct ArrowArray batch;

	begin(&b, ZA_TRANSPORT_COPY);
	if (za_source_incremental(b.source)) {
		za_twin_send(b.twin, b.fd, "the beginning of a chunk", 24);
		CHECK(!za_source_next(b.source, 20000000000, &batch), "batch");
		expect_leased(&b, 1);
		look(&b, ZA_CHUNK_FREE);
		CHECK(b.map[chunk_of(&b, &batch)] == (ZA_CHUNK_OFFERED | ZA_CHUNK_LEASED), "both");
		batch.release(&batch);
		expect_leased(&b, 0);
		CHECK(look(&b, ZA_CHUNK_OFFERED) == 4, "the window");
	}
	za_source_put(b.source);
	za_twin_free(b.twin);
}

int main(void)
{
	run(ZA_TRANSPORT_COPY);
	run(ZA_TRANSPORT_NODEV);
	run_incremental();
	puts("the map shows what is held");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_frame.c - framing alone: messages that lie in the area already become exported batches,
 * which are released. Prints JSON. bench_frame [lines|prefixed|fixed|blocks [bytes]]
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../decode/cut.h"
#include "../wait.h"
#include "check.h"

#define CHUNK_BYTES (128U << 10)
#define CHUNKS 8 /* as many as stay in cache between the kernel's copy and the framing */

/* Messages of one size, one after the other. */
struct kind {
	const char *name;
	uint32_t bytes; /* of a message, with all that belongs to it */
	struct za_framing_config framing;
};

static const struct kind kinds[] = {
	{"lines",
	 100,
	 {.kind = ZA_FRAMING_DELIMITED,
	  .delimiter = "\n",
	  .delimiter_bytes = 1,
	  .max_message_bytes = 1U << 20}},
	{"prefixed",
	 104,
	 {.kind = ZA_FRAMING_PREFIXED,
	  .prefix = {.width = 4, .header_bytes = 4, .unit = 1, .swap = true},
	  .max_message_bytes = 1U << 20}},
	{"fixed", 64, {.kind = ZA_FRAMING_FIXED, .fixed_bytes = 64}},
	{"blocks", 64, {.kind = ZA_FRAMING_FIXED, .fixed_bytes = 64, .blocks = true}},
};

struct bench {
	const struct kind *kind;
	struct za_area *area;
	struct za_cutter cutter;
	struct za_conn conn;
	uint64_t rows;
};

static void hand_over(struct bench *b)
{
	struct ArrowArray array;

	b->rows += za_batch_rows(b->cutter.batch);
	CHECK(!za_batch_seal(b->cutter.batch), "seal");
	za_batch_export(b->cutter.batch, &array);
	array.release(&array);
	CHECK(!za_batch_new(b->area, &b->cutter.batch), "batch");
}

static void cut_chunk(struct bench *b, uint32_t chunk, uint32_t bytes)
{
	struct za_cut cut;
	uint32_t lost;
	int code;

	/* As if the kernel had filled it and passed its hold on; it comes home below. */
	atomic_store(&b->area->words[chunk], ZA_WORD_HOLD | ZA_WORD_RETURN);
	b->area->refill.buffers.free = 0;
	b->conn.position += bytes;
	za_cut_begin(&cut, &b->conn, (uint64_t)chunk * CHUNK_BYTES, bytes, NULL, 1);
	while ((code = za_cut_run(&cut, &b->cutter, &lost)) == -ENOSPC)
		hand_over(b);
	CHECK(!code, "framing");
	za_lease_drop_chunk(b->area, chunk);
}

/* Once through the area, which ends with the last message that fits. */
static uint64_t cut_area(struct bench *b)
{
	uint32_t unused = (uint32_t)(b->area->bytes % b->kind->bytes);

	for (uint32_t chunk = 0; chunk < CHUNKS; chunk++)
		cut_chunk(b, chunk, chunk == CHUNKS - 1 ? CHUNK_BYTES - unused : CHUNK_BYTES);
	return b->area->bytes - unused;
}

static void write_messages(struct bench *b)
{
	uint32_t bytes = b->kind->bytes, payload = bytes - 4;

	memset(b->area->base, 'x', b->area->bytes);
	for (uint64_t at = 0; at + bytes <= b->area->bytes; at += bytes) {
		if (b->kind->framing.kind == ZA_FRAMING_DELIMITED)
			b->area->base[at + bytes - 1] = '\n';
		if (b->kind->framing.kind == ZA_FRAMING_PREFIXED)
			for (uint32_t i = 0; i < 4; i++)
				b->area->base[at + i] = (uint8_t)(payload >> (24 - 8 * i));
	}
}

static const struct kind *kind_of(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	fprintf(stderr, "bench_frame [lines|prefixed|fixed|blocks [bytes]]\n");
	exit(2);
}

int main(int argc, char **argv)
{
	uint64_t wanted = argc > 2 ? strtoull(argv[2], NULL, 10) : 4000000000ULL;
	struct za_batch_layout layout = {
		.payload = ZA_PAYLOAD_BINARY_VIEW, .max_rows = 65536, .max_bytes = 1U << 20};
	static struct io_uring_buf ring_memory[8];
	struct io_uring_buf_ring *ring = (void *)ring_memory;
	struct bench b = {.kind = kind_of(argc > 1 ? argv[1] : kinds[0].name)};
	uint64_t bytes = 0;
	int64_t started, ended;

	CHECK(!za_area_new((uint64_t)CHUNKS * CHUNK_BYTES, CHUNK_BYTES, false, NULL, &b.area),
	      "area");
	CHECK(!za_buffers_attach(b.area, ring, 8, (struct za_waker){NULL, NULL}), "buffers");
	za_area_unpoison(b.area, 0, b.area->bytes);
	b.area->pool = za_batch_pool_new(&layout);
	b.cutter.area = b.area;
	CHECK(!za_framing_init(&b.cutter.framing, &b.kind->framing, NULL), "framing");
	CHECK(!za_batch_new(b.area, &b.cutter.batch), "batch");
	write_messages(&b);
	started = za_monotonic_ns();
	while (bytes < wanted)
		bytes += cut_area(&b);
	hand_over(&b);
	ended = za_monotonic_ns();
	if (!b.kind->framing.blocks)
		CHECK(b.rows == bytes / b.kind->bytes, "rows");
	printf("{\"bytes\": %llu, \"seconds\": %.6f, \"rows\": %llu}\n", (unsigned long long)bytes,
	       (double)(ended - started) / 1e9, (unsigned long long)(bytes / b.kind->bytes));
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_frame.c - framing alone: lines of 100 bytes that lie in the area already become exported
 * batches, which are released. Prints JSON. bench_frame [bytes]
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../decode/cut.h"
#include "../wait.h"
#include "check.h"

#define LINE_BYTES 100
#define CHUNK_BYTES (128U << 10)
#define CHUNKS 8 /* as many as stay in cache between the kernel's copy and the framing */

struct bench {
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

static void cut_chunk(struct bench *b, uint32_t chunk)
{
	struct za_cut cut;
	uint32_t lost;

	/* As if the kernel had filled it and passed its hold on; it comes home below. */
	atomic_store(&b->area->words[chunk], ZA_WORD_HOLD | ZA_WORD_RETURN);
	b->area->refill.buffers.free = 0;
	b->conn.position += CHUNK_BYTES;
	za_cut_begin(&cut, &b->conn, (uint64_t)chunk * CHUNK_BYTES, CHUNK_BYTES, NULL, 1);
	while (za_cut_run(&cut, &b->cutter, &lost))
		hand_over(b);
	za_lease_drop_chunk(b->area, chunk);
}

int main(int argc, char **argv)
{
	uint64_t wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : 4000000000ULL;
	struct za_batch_layout layout = {
		.payload = ZA_PAYLOAD_BINARY_VIEW, .max_rows = 65536, .max_bytes = 1U << 20};
	struct za_config config = {.framing.kind = ZA_FRAMING_DELIMITED,
				   .framing.delimiter = "\n",
				   .framing.delimiter_bytes = 1,
				   .framing.max_message_bytes = 1U << 20};
	static struct io_uring_buf ring_memory[8];
	struct io_uring_buf_ring *ring = (void *)ring_memory;
	struct bench b = {0};
	uint64_t bytes = 0;
	int64_t started;

	CHECK(!za_area_new((uint64_t)CHUNKS * CHUNK_BYTES, CHUNK_BYTES, false, NULL, &b.area),
	      "area");
	CHECK(!za_buffers_attach(b.area, ring, 8, (struct za_waker){NULL, NULL}), "buffers");
	za_area_unpoison(b.area, 0, b.area->bytes);
	b.area->pool = za_batch_pool_new(&layout);
	b.cutter.area = b.area;
	CHECK(!za_framing_init(&b.cutter.framing, &config.framing, NULL), "framing");
	CHECK(!za_batch_new(b.area, &b.cutter.batch), "batch");
	memset(b.area->base, 'x', b.area->bytes);
	for (uint64_t at = LINE_BYTES - 1; at < b.area->bytes; at += LINE_BYTES)
		b.area->base[at] = '\n';
	started = za_monotonic_ns();
	for (; bytes < wanted; bytes += CHUNK_BYTES)
		cut_chunk(&b, (uint32_t)(bytes / CHUNK_BYTES % CHUNKS));
	printf("{\"bytes\": %llu, \"seconds\": %.6f, \"rows\": %llu}\n", (unsigned long long)bytes,
	       (double)(za_monotonic_ns() - started) / 1e9, (unsigned long long)b.rows);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_threads.c - a source on the twin with all its threads: receiver, senders, pullers, and
 * releasers that get their batches from others. For ThreadSanitizer.
 *
 * Byte p of connection c is a function of both, so that every reader can check what it holds.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "../source.h"
#include "../twin/twin.h"
#include "../wait.h"
#include "check.h"
#include "rows.h"

#define CONNS 5
#define BYTES_EACH (1U << 20)
#define PULLERS 3
#define RELEASERS 3
#define SHELF 32

struct shelf { /* batches that were pulled and wait for somebody to release them */
	pthread_mutex_t lock;
	struct ArrowArray arrays[SHELF];
	uint32_t n;
	bool over;
};

struct run {
	struct za_twin *twin;
	struct za_source *source;
	int fds[CONNS];
	struct shelf shelf;
	za_u64 rows_bytes, pullers_left;
	bool through_stream;
};

static uint8_t byte_at(uint32_t connection, uint64_t position)
{
	return (uint8_t)((position * 31 + connection * 101) >> (position % 3));
}

static void check_batch(const struct ArrowArray *batch)
{
	for (int64_t i = 0; i < batch->length; i++) {
		struct row row = row_at(batch, true, i);

		for (uint32_t j = 0; j < row.bytes; j++)
			CHECK(row.data[j] == byte_at(row.connection, row.position + j),
			      "connection %u position %llu", row.connection,
			      (unsigned long long)row.position + j);
	}
}

static void *send_all(void *arg)
{
	struct run *run = arg;
	uint64_t sent[CONNS] = {0}, random = 42;
	uint8_t piece[3000];
	uint32_t open = CONNS;

	while (open) {
		uint32_t at = (uint32_t)(za_twin_random(&random) % CONNS);
		uint64_t bytes = 1 + za_twin_random(&random) % sizeof(piece);

		if (sent[at] == BYTES_EACH)
			continue;
		if (bytes > BYTES_EACH - sent[at])
			bytes = BYTES_EACH - sent[at];
		for (uint64_t i = 0; i < bytes; i++)
			piece[i] = byte_at(at + 1, sent[at] + i);
		sent[at] += za_twin_send(run->twin, run->fds[at], piece, bytes);
		if (sent[at] == BYTES_EACH) {
			za_twin_end(run->twin, run->fds[at]);
			open--;
		}
	}
	return NULL;
}

/* Puts a batch on the shelf, in exchange for another once it is full. */
static bool exchange(struct shelf *shelf, struct ArrowArray *array, uint64_t random)
{
	bool got = false;

	pthread_mutex_lock(&shelf->lock);
	if (shelf->n < SHELF) {
		shelf->arrays[shelf->n++] = *array;
	} else {
		struct ArrowArray other = shelf->arrays[random % SHELF];

		shelf->arrays[random % SHELF] = *array;
		*array = other;
		got = true;
	}
	pthread_mutex_unlock(&shelf->lock);
	return got;
}

static void *pull_all(void *arg)
{
	struct run *run = arg;
	struct ArrowArrayStream stream;
	uint64_t random = (uint64_t)(uintptr_t)&stream;

	CHECK(!za_source_stream(run->source, &stream), "stream");
	for (;;) {
		struct ArrowArray batch;

		CHECK(!stream.get_next(&stream, &batch), "%s", stream.get_last_error(&stream));
		if (!batch.release)
			break;
		check_batch(&batch);
		for (int64_t i = 0; i < batch.length; i++)
			atomic_fetch_add(&run->rows_bytes, row_at(&batch, true, i).bytes);
		if (exchange(&run->shelf, &batch, za_twin_random(&random))) {
			check_batch(&batch);
			batch.release(&batch);
		}
	}
	stream.release(&stream);
	atomic_fetch_sub(&run->pullers_left, 1);
	return NULL;
}

static void *release_all(void *arg)
{
	struct run *run = arg;
	struct shelf *shelf = &run->shelf;

	for (;;) {
		bool last_look = !atomic_load(&run->pullers_left);
		struct ArrowArray batch = {0};
		struct za_metrics metrics;
		uint8_t map[256];

		pthread_mutex_lock(&shelf->lock);
		if (shelf->n)
			batch = shelf->arrays[--shelf->n];
		pthread_mutex_unlock(&shelf->lock);
		if (batch.release) {
			check_batch(&batch);
			batch.release(&batch);
		} else if (last_look) {
			return NULL;
		}
		za_source_metrics(run->source, &metrics);
		CHECK(!metrics.lease_faults, "lease faults");
		CHECK(za_source_area_map(run->source, map, sizeof(map)) == metrics.chunks &&
			      metrics.chunks <= sizeof(map),
		      "map");
		for (uint64_t i = 0; i < metrics.chunks; i++)
			CHECK(map[i] <= (ZA_CHUNK_OFFERED | ZA_CHUNK_LEASED), "state %u", map[i]);
	}
}

static void run_once(uint8_t transport, uint8_t copy_out, uint32_t chunks)
{
	struct za_config config = {
		.area_bytes = chunks * 4096ULL,
		.chunk_bytes = 4096,
		.window_bytes = 4 * 4096,
		.max_batch_rows = 64,
		.max_batch_bytes = chunks * 1024,
		.max_delay_ns = 1000000,
		.coalesce_ns = 100000,
		.queue_batches = 4,
		.framing.max_message_bytes = 1,
		.max_connections = CONNS,
		.closed_history = CONNS,
		.exhausted_ns = 1000000000000,
		.copy_out = copy_out,
		.framing.kind = ZA_FRAMING_RAW,
		.transport = transport,
		.interface_index = 1,
		.refill_entries = 16, /* fewer than can be out */
	};
	struct za_twin_options options = {
		.seed = chunks,
		.threaded = true,
		.receive_buffer = 20000,
		.spurious_end = 20,
		.zcrx = transport != ZA_TRANSPORT_COPY,
		.packet_a_chunk = 300,
		.linear = 100,
	};
	struct run run = {.twin = za_twin_new(&options), .pullers_left = PULLERS};
	struct za_sys sys = za_twin_sys(run.twin);
	pthread_t threads[1 + PULLERS + RELEASERS];
	struct za_metrics metrics;
	struct za_error error;
	uint32_t n = 0, id;

	pthread_mutex_init(&run.shelf.lock, NULL);
	CHECK(!za_source_new(&config, &sys, &error, &run.source), "%s", error.detail);
	for (uint32_t i = 0; i < CONNS; i++) {
		run.fds[i] = za_twin_socket(run.twin);
		CHECK(!za_source_add(run.source, run.fds[i], &id) && id == i + 1, "add");
	}
	CHECK(!za_source_finish(run.source, 0, NULL), "finish");
	pthread_create(&threads[n++], NULL, send_all, &run);
	for (int i = 0; i < PULLERS; i++)
		pthread_create(&threads[n++], NULL, pull_all, &run);
	for (int i = 0; i < RELEASERS; i++)
		pthread_create(&threads[n++], NULL, release_all, &run);
	while (n)
		pthread_join(threads[--n], NULL);
	CHECK(run.rows_bytes == (uint64_t)CONNS * BYTES_EACH, "%llu bytes",
	      (unsigned long long)run.rows_bytes);
	za_source_close(run.source);
	za_source_metrics(run.source, &metrics);
	CHECK(metrics.chunks_free + metrics.chunks_offered == metrics.chunks &&
		      !metrics.batches_held,
	      "chunks are out");
	za_source_put(run.source);
	CHECK(!za_outstanding() && !za_live_areas(), "leases or areas are out");
	za_twin_free(run.twin);
	pthread_mutex_destroy(&run.shelf.lock);
}

/* Close races with pulling, releasing and sending. */
static void run_close_race(uint8_t transport)
{
	for (uint32_t i = 0; i < 20; i++) {
		struct za_config config = {
			.area_bytes = 32 * 4096,
			.chunk_bytes = 4096,
			.window_bytes = 4 * 4096,
			.max_batch_rows = 8,
			.max_batch_bytes = 8192,
			.queue_batches = 2,
			.framing.max_message_bytes = 1,
			.max_connections = 2,
			.framing.kind = ZA_FRAMING_RAW,
			.transport = transport,
			.interface_index = 1,
		};
		struct za_twin_options options = {
			.seed = i, .threaded = true, .zcrx = transport != ZA_TRANSPORT_COPY};
		struct run run = {.twin = za_twin_new(&options), .pullers_left = PULLERS};
		struct za_sys sys = za_twin_sys(run.twin);
		pthread_t pullers[PULLERS], releaser;
		struct za_error error;
		uint32_t id;
		uint8_t piece[4096];

		for (uint32_t p = 0; p < sizeof(piece); p++)
			piece[p] = byte_at(1, p);
		pthread_mutex_init(&run.shelf.lock, NULL);
		CHECK(!za_source_new(&config, &sys, &error, &run.source), "%s", error.detail);
		run.fds[0] = za_twin_socket(run.twin);
		CHECK(!za_source_add(run.source, run.fds[0], &id), "add");
		for (int p = 0; p < PULLERS; p++)
			pthread_create(&pullers[p], NULL, pull_all, &run);
		pthread_create(&releaser, NULL, release_all, &run);
		za_twin_send(run.twin, run.fds[0], piece, sizeof(piece));
		za_wait(&(za_u32){0}, 0, (int64_t)i * 100000);
		za_source_close(run.source);
		for (int p = 0; p < PULLERS; p++)
			pthread_join(pullers[p], NULL);
		pthread_join(releaser, NULL);
		za_source_put(run.source);
		CHECK(!za_outstanding() && !za_live_areas(), "leases or areas are out");
		za_twin_free(run.twin);
		pthread_mutex_destroy(&run.shelf.lock);
	}
}

/* A dry area and one thread that both holds and waits: the release must wake the receiver, however
 * close it falls to the moment at which that goes to sleep. */
static void run_dry(uint8_t transport)
{
	struct za_config config = {
		.area_bytes = 8 * 4096,
		.chunk_bytes = 4096,
		.window_bytes = 2 * 4096,
		.max_batch_rows = 1,
		.max_batch_bytes = 4096,
		.queue_batches = 16,
		.framing.max_message_bytes = 1,
		.max_connections = 1,
		.exhausted_ns = INT64_MAX,
		.copy_out = ZA_COPY_OUT_NEVER,
		.framing.kind = ZA_FRAMING_RAW,
		.no_incremental = 1,
		.transport = transport,
	};
	struct za_twin_options options = {.seed = 1,
					  .threaded = true,
					  .whole_fragments = true,
					  .zcrx = transport != ZA_TRANSPORT_COPY};
	struct za_twin *twin = za_twin_new(&options);
	struct za_sys sys = za_twin_sys(twin);
	struct ArrowArray held[8];
	struct za_source *source;
	struct za_error error;
	uint64_t random = 7;
	uint32_t id;
	int fd = za_twin_socket(twin);

	CHECK(!za_source_new(&config, &sys, &error, &source), "%s", error.detail);
	CHECK(!za_source_add(source, fd, &id), "add");
	for (uint32_t round = 0; round < 3000; round++) {
		uint32_t n = 0;

		for (; n < 8; n++) {
			za_twin_send(twin, fd, "longer than a view", 18);
			CHECK(!za_source_next(source, 20000000000, &held[n]), "round %u: %u of 8",
			      round, n);
		}
		za_twin_send(twin, fd, "finds no free chunk", 19);
		for (volatile uint64_t spin = za_twin_random(&random) % 4000; spin; spin--)
			;
		for (uint32_t i = 0; i < n; i++)
			held[i].release(&held[i]);
		CHECK(!za_source_next(source, 20000000000, &held[0]),
		      "round %u: the release woke nobody", round);
		held[0].release(&held[0]);
	}
	za_source_put(source);
	CHECK(!za_outstanding() && !za_live_areas(), "leases or areas are out");
	za_twin_free(twin);
}

int main(void)
{
	run_dry(ZA_TRANSPORT_COPY);
	run_dry(ZA_TRANSPORT_NODEV);
	for (uint8_t transport = ZA_TRANSPORT_COPY; transport <= ZA_TRANSPORT_NODEV; transport++) {
		/* What a NIC keeps to itself is not there for what must be copied. */
		uint32_t more = transport == ZA_TRANSPORT_ZCRX ? 160 : 0;

		run_once(transport, ZA_COPY_OUT_AUTO, more + 64);
		run_once(transport, ZA_COPY_OUT_NEVER, more + 16);
		run_once(transport, ZA_COPY_OUT_ALWAYS, more + 32);
		run_close_race(transport);
	}
	puts("all leases home from all threads");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_circle.c - what a fragment costs, from its completion to its refill entry.
 *
 * On the kernel twin, with a NIC that always has another 4 KiB:
 *   bare    a loop that reads each completion and writes its refill entry at once
 *   circle  a source: fragment, framing, batch, ArrowArray, release, refill entry
 * The difference is what this project adds. The consumer's import of the ArrowArray is not part of
 * it. Prints one JSON object a line.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../rx/receiver.h"
#include "../twin/twin.h"
#include "check.h"

#define FRAGMENT 4096U
#define CHUNKS 2048U
#define FRAGMENTS 3000000ULL
#define ROUNDS 7

/* Linked with --wrap: whatever allocates is counted. */
static uint64_t allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *at, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *at, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
	allocations++;
	return __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
	allocations++;
	return __real_calloc(n, bytes);
}

void *__wrap_realloc(void *at, size_t bytes)
{
	allocations++;
	return __real_realloc(at, bytes);
}

struct result {
	double ns; /* a fragment */
	uint64_t allocations, enters, copied_bytes;
};

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static struct za_twin *new_twin(void)
{
	const struct za_twin_options options = {
		.seed = 1, .zcrx = true, .nic_ring = 64, .endless_bytes = FRAGMENT, .steady = true};

	return za_twin_new(&options);
}

static void bare_arm(struct za_ring *ring, const struct za_zcrx_region *region, int fd)
{
	struct io_uring_sqe *sqe = za_ring_sqe(ring);

	sqe->opcode = ZA_OP_RECV_ZC;
	sqe->fd = fd;
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->file_index = region->id;
	sqe->user_data = 1;
}

static struct result run_bare(uint32_t connections)
{
	struct za_twin *twin = new_twin();
	struct za_sys sys = za_twin_sys(twin);
	struct za_zcrx_request request = {
		.area_bytes = (uint64_t)CHUNKS * FRAGMENT, .interface_index = 1, .entries = CHUNKS};
	struct za_zcrx_region region;
	struct za_ring ring;
	struct result result = {0};
	uint64_t fragments = 0;
	uint32_t next = 0;
	int fds[64];
	double begin;

	CHECK(!za_ring_init(&ring, &sys, 256, 4096, ZA_SETUP_CQE32 | ZA_SETUP_DEFER_TASKRUN, NULL),
	      "ring");
	request.area = aligned_alloc(4096, request.area_bytes);
	CHECK(!za_zcrx_register(&ring, &request, &region), "register");
	for (uint32_t i = 0; i < connections; i++) {
		fds[i] = za_twin_socket(twin);
		bare_arm(&ring, &region, fds[i]);
	}
	allocations = 0;
	begin = now_ns();
	while (fragments < FRAGMENTS) {
		struct za_completion cqe;

		(void)za_ring_enter(&ring, 1, -1);
		result.enters++;
		while (za_ring_next(&ring, &cqe)) {
			region.place.rqes[next++ & (region.place.entries - 1)].off = cqe.off;
			fragments++;
		}
		za_store_release32(region.place.tail, next);
	}
	result.ns = (now_ns() - begin) / (double)fragments;
	result.allocations = allocations;
	for (uint32_t i = 0; i < connections; i++) {
		struct io_uring_sqe *sqe = za_ring_sqe(&ring);

		sqe->opcode = IORING_OP_ASYNC_CANCEL;
		sqe->addr = 1;
	}
	(void)za_ring_enter(&ring, 0, -1);
	za_ring_fini(&ring);
	za_zcrx_region_unmap(&sys, &region);
	for (uint32_t i = 0; i < connections; i++)
		sys.ops->close_socket(sys.ctx, fds[i]);
	za_twin_free(twin);
	free(request.area);
	return result;
}

static struct result run_circle(uint32_t connections)
{
	const struct za_config config = {
		.area_bytes = (uint64_t)CHUNKS * FRAGMENT,
		.chunk_bytes = FRAGMENT,
		.max_batch_rows = 65536,
		.max_batch_bytes = 1U << 20,
		.max_delay_ns = 10000000,
		.coalesce_ns = 500000,
		.queue_batches = 64,
		.framing.max_message_bytes = 1,
		.max_connections = 64,
		.closed_history = 64,
		.exhausted_ns = 1000000000,
		.framing.kind = ZA_FRAMING_RAW,
		.transport = ZA_TRANSPORT_ZCRX,
		.interface_index = 1,
	};
	struct za_twin *twin = new_twin();
	struct za_sys sys = za_twin_sys(twin);
	static struct za_receiver receiver;
	static struct za_events events;
	static struct za_queue queue;
	struct result result;
	struct za_error error;
	uint64_t rows = 0, enters;
	uint32_t id;
	double begin;

	memset(&receiver, 0, sizeof(receiver));
	memset(&events, 0, sizeof(events));
	memset(&queue, 0, sizeof(queue));
	CHECK(!za_queue_init(&queue, config.queue_batches), "queue");
	CHECK(!za_receiver_init(&receiver, &config, &sys, &queue, &events, &error), "%s",
	      error.detail);
	CHECK(!za_events_init(&events, receiver.stats), "events");
	CHECK(!za_receiver_setup(&receiver, &error), "%s", error.detail);
	for (uint32_t i = 0; i < connections; i++)
		CHECK(!za_receiver_add(&receiver, za_twin_socket(twin), &id), "add");
	for (int i = 0; i < 100; i++) {
		struct za_batch *batch;

		za_receiver_step(&receiver);
		while (!za_queue_pull(&queue, &batch))
			za_batch_discard(batch);
	}
	allocations = 0;
	enters = za_read(&receiver.stats->enters);
	begin = now_ns();
	while (rows < FRAGMENTS) {
		struct za_batch *batch;

		za_receiver_step(&receiver);
		while (!za_queue_pull(&queue, &batch)) {
			struct ArrowArray array;

			za_batch_export(batch, &array);
			rows += (uint64_t)array.length;
			array.release(&array);
		}
	}
	result.ns = (now_ns() - begin) / (double)rows;
	result.allocations = allocations;
	result.enters = za_read(&receiver.stats->enters) - enters;
	result.copied_bytes = za_read(&receiver.stats->copied_out_bytes) +
			      za_read(&receiver.stats->stitched_bytes);
	CHECK(!result.copied_bytes, "bytes were copied");
	za_receiver_stop(&receiver, true);
	while (za_receiver_step(&receiver) != ZA_STEP_ENDED)
		;
	za_receiver_teardown(&receiver);
	za_queue_clear(&queue);
	za_queue_fini(&queue);
	za_events_fini(&events);
	za_receiver_fini(&receiver);
	za_twin_free(twin);
	return result;
}

static int by_ns(const void *a, const void *b)
{
	double x = ((const struct result *)a)->ns, y = ((const struct result *)b)->ns;

	return (x > y) - (x < y);
}

int main(void)
{
	static const uint32_t connections[] = {1, 4, 64};

	for (size_t c = 0; c < sizeof(connections) / sizeof(connections[0]); c++) {
		struct result bare[ROUNDS], circle[ROUNDS];

		for (int i = 0; i < ROUNDS; i++) {
			bare[i] = run_bare(connections[c]);
			circle[i] = run_circle(connections[c]);
		}
		qsort(bare, ROUNDS, sizeof(bare[0]), by_ns);
		qsort(circle, ROUNDS, sizeof(circle[0]), by_ns);
		printf("{\"connections\": %u, \"fragment_bytes\": %u, \"fragments\": %llu, "
		       "\"bare_ns\": %.2f, \"circle_ns\": %.2f, \"added_ns\": %.2f, "
		       "\"allocations\": %llu, \"enters\": %llu, \"bytes_copied\": %llu}\n",
		       connections[c], FRAGMENT, FRAGMENTS, bare[ROUNDS / 2].ns,
		       circle[ROUNDS / 2].ns, circle[ROUNDS / 2].ns - bare[ROUNDS / 2].ns,
		       (unsigned long long)circle[ROUNDS / 2].allocations,
		       (unsigned long long)circle[ROUNDS / 2].enters,
		       (unsigned long long)circle[ROUNDS / 2].copied_bytes);
		fflush(stdout);
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_strict.c - what must never happen is noticed: each case commits one crime in a process of
 * its own, which has to end with an abort and the right words.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../reclaim/lease.h"
#include "../rx/receiver.h"
#include "../twin/twin.h"
#include "check.h"

#define CHUNKS 8

/* A receiver that has received one fragment and lent it to `batch`. */
struct scene {
	struct za_config config;
	struct za_twin *twin;
	struct za_queue queue;
	struct za_events events;
	struct za_receiver receiver;
	struct ArrowArray batch;
	struct za_span span;
	int fd;
};

static void set_up(struct scene *s, uint8_t transport)
{
	struct za_twin_options options = {
		.seed = 1, .zcrx = transport != ZA_TRANSPORT_COPY, .whole_fragments = true};
	struct za_batch *batch;
	struct za_error error;
	struct za_sys sys;
	uint32_t id;

	s->config = (struct za_config){
		.area_bytes = CHUNKS * 4096,
		.chunk_bytes = 4096,
		.window_bytes = 2 * 4096,
		.max_batch_rows = 1,
		.max_batch_bytes = 4096,
		.queue_batches = 4,
		.framing.max_message_bytes = 1,
		.max_connections = 1,
		.framing.kind = ZA_FRAMING_RAW,
		.no_incremental = 1,
		.transport = transport,
		.interface_index = 1,
	};
	s->twin = za_twin_new(&options);
	sys = za_twin_sys(s->twin);
	CHECK(!za_queue_init(&s->queue, 4), "queue");
	CHECK(!za_receiver_init(&s->receiver, &s->config, &sys, &s->queue, &s->events, &error),
	      "%s", error.detail);
	CHECK(!za_events_init(&s->events, s->receiver.stats), "events");
	CHECK(!za_receiver_setup(&s->receiver, &error), "%s", error.detail);
	s->fd = za_twin_socket(s->twin);
	CHECK(!za_receiver_add(&s->receiver, s->fd, &id), "add");
	za_receiver_step(&s->receiver);
	CHECK(za_twin_send(s->twin, s->fd, "more than fits into a view", 26) == 26, "send");
	for (int i = 0; i < 10 && za_queue_pull(&s->queue, &batch); i++)
		za_receiver_step(&s->receiver);
	za_batch_export(batch, &s->batch);
	s->span.offset = (uint64_t)((const uint8_t *)s->batch.children[0]->buffers[2] -
				    s->receiver.area->base);
	s->span.bytes = 26;
}

static void look(struct scene *s)
{
	struct za_zcrx_ctrl ctrl = {.zcrx_id = s->receiver.transport.zcrx.region.id};

	s->receiver.sys.ops->reg(s->receiver.sys.ctx, s->receiver.ring.fd, ZA_REGISTER_ZCRX_CTRL,
				 &ctrl, 0);
}

/* An entry in the refill ring that did not come from a lease. */
static void forge(struct scene *s, uint64_t off, uint32_t pad)
{
	struct za_refill_ring *ring = &s->receiver.area->refill.ring;

	ring->rqes[ring->next & (ring->entries - 1)] = (struct za_zcrx_rqe){.off = off, .pad = pad};
	za_store_release32(ring->tail, ++ring->next);
	look(s);
}

static void lease_dropped_twice(struct scene *s)
{
	za_lease_drop(s->receiver.area, &s->span, 1);
	s->batch.release(&s->batch);
}

static void fragment_returned_twice(struct scene *s)
{
	uint64_t token = s->receiver.area->refill.ring.token;

	s->batch.release(&s->batch);
	forge(s, token | s->span.offset, 0);
}

static void fragment_never_lent(struct scene *s)
{
	uint64_t other = (s->span.offset + 4096) % (CHUNKS * 4096);

	forge(s, s->receiver.area->refill.ring.token | other, 0);
}

static void outside_of_the_area(struct scene *s)
{
	forge(s, s->receiver.area->refill.ring.token | CHUNKS * 4096, 0);
}

static void another_area(struct scene *s)
{
	forge(s, s->span.offset, 0);
}

static void padded(struct scene *s)
{
	forge(s, s->receiver.area->refill.ring.token | s->span.offset, 1);
}

static void ring_overrun(struct scene *s)
{
	struct za_refill_ring *ring = &s->receiver.area->refill.ring;

	za_store_release32(ring->tail, ring->next + ring->entries + 1);
	look(s);
}

static void buffer_offered_twice(struct scene *s)
{
	struct za_buffers *buffers = &s->receiver.area->refill.buffers;
	struct io_uring_buf *last =
		&buffers->ring->bufs[(buffers->tail - 1) & (buffers->entries - 1)];

	buffers->ring->bufs[buffers->tail & (buffers->entries - 1)] = *last;
	za_store_release16(&buffers->ring->tail, ++buffers->tail);
	za_twin_send(s->twin, s->fd, "more", 4);
	for (int i = 0; i < 10; i++)
		za_ring_enter(&s->receiver.ring, 0, 0);
}

struct crime {
	const char *name;
	void (*commit)(struct scene *s);
	uint8_t transport;
	const char *words;
};

static bool is_noticed(const struct crime *crime)
{
	char said[4096] = "";
	int out[2], status;
	ssize_t n, all = 0;
	pid_t child;

	CHECK(!pipe(out), "pipe");
	child = fork();
	if (!child) {
		static struct scene scene;

		dup2(out[1], STDERR_FILENO);
		close(out[0]);
		close(out[1]);
		set_up(&scene, crime->transport);
		crime->commit(&scene);
		_exit(0);
	}
	close(out[1]);
	while ((n = read(out[0], said + all, sizeof(said) - 1 - (size_t)all)) > 0)
		all += n;
	close(out[0]);
	CHECK(waitpid(child, &status, 0) == child, "wait");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(said, crime->words))
		return true;
	fprintf(stderr, "%s went unnoticed (status %x): %s\n", crime->name, (unsigned)status, said);
	return false;
}

int main(void)
{
	static const struct crime crimes[] = {
		{"lease dropped twice, copy", lease_dropped_twice, ZA_TRANSPORT_COPY,
		 "returned more often than lent"},
		{"lease dropped twice, zcrx", lease_dropped_twice, ZA_TRANSPORT_ZCRX,
		 "returned more often than lent"},
		{"fragment returned twice", fragment_returned_twice, ZA_TRANSPORT_ZCRX,
		 "more often than it was lent"},
		{"fragment returned twice, nodev", fragment_returned_twice, ZA_TRANSPORT_NODEV,
		 "more often than it was lent"},
		{"fragment never lent", fragment_never_lent, ZA_TRANSPORT_ZCRX,
		 "more often than it was lent"},
		{"outside of the area", outside_of_the_area, ZA_TRANSPORT_ZCRX, "not in the area"},
		{"another area", another_area, ZA_TRANSPORT_ZCRX, "not in the area"},
		{"padded", padded, ZA_TRANSPORT_ZCRX, "padding"},
		{"refill ring overrun", ring_overrun, ZA_TRANSPORT_ZCRX, "refill ring has"},
		{"buffer offered twice", buffer_offered_twice, ZA_TRANSPORT_COPY,
		 "although the kernel has it"},
	};
	bool all = true;

	for (size_t i = 0; i < sizeof(crimes) / sizeof(crimes[0]); i++)
		all &= is_noticed(&crimes[i]);
	puts(all ? "every crime was noticed" : "not all were noticed");
	return !all;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conformance.c - the twin against this machine's kernel.
 *
 * Each scenario makes the same requests of both, through the same ring code, and notes what
 * completes: results, flags, what lies in the buffers. The notes must be equal. Exits with 77
 * (skipped) where there is no io_uring, and fails instead if CI is set.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../atomics.h"
#include "../rx/ring.h"
#include "check.h"
#include "peer.h"

#define BUFFERS 4
#define BUFFER_BYTES 4096
#define DATA ((uint64_t)1)
#define CANCEL ((uint64_t)2)
#define ACCEPT ((uint64_t)3)
#define TIMEOUT ((uint64_t)4)

/* One side: a kernel, a ring on it, a socket with a peer. */
struct side {
	struct peer peer;
	struct za_sys sys;
	struct za_ring ring;
	struct io_uring_buf_ring *buffers;
	uint8_t *memory;
	uint16_t tail;
	struct notes notes;
};

static int begin(struct side *s, bool twin, bool incremental)
{
	struct za_twin_options options = {.seed = 1, .whole_fragments = true};
	struct za_buf_reg reg = {.ring_entries = BUFFERS,
				 .flags = incremental ? ZA_PBUF_RING_INC : 0};
	struct za_error error;
	int code;

	memset(s, 0, sizeof(*s));
	s->peer.twin = twin ? za_twin_new(&options) : NULL;
	s->sys = twin ? za_twin_sys(s->peer.twin) : za_sys_linux();
	code = za_ring_init(&s->ring, &s->sys, 8, 64, 0, &error);
	if (code)
		return code;
	s->buffers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s->memory = calloc(BUFFERS, BUFFER_BYTES);
	reg.ring_addr = (uint64_t)(uintptr_t)s->buffers;
	code = s->sys.ops->reg(s->sys.ctx, s->ring.fd, IORING_REGISTER_PBUF_RING, &reg, 1);
	if (code)
		return code;
	peer_open(&s->peer);
	return 0;
}

static void finish(struct side *s)
{
	za_ring_fini(&s->ring);
	s->sys.ops->close_socket(s->sys.ctx, s->peer.fd);
	munmap(s->buffers, 4096);
	free(s->memory);
	peer_close(&s->peer);
}

static void offer(struct side *s, uint16_t id)
{
	struct io_uring_buf *entry = &s->buffers->bufs[s->tail & (BUFFERS - 1)];

	entry->addr = (uint64_t)(uintptr_t)s->memory + id * BUFFER_BYTES;
	entry->len = BUFFER_BYTES;
	entry->bid = id;
	za_store_release16(&s->buffers->tail, ++s->tail);
}

static void arm(struct side *s)
{
	struct io_uring_sqe *sqe = za_ring_sqe(&s->ring);

	sqe->opcode = IORING_OP_RECV;
	sqe->fd = s->peer.fd;
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->user_data = DATA;
}

static void cancel(struct side *s, uint64_t target)
{
	struct io_uring_sqe *sqe = za_ring_sqe(&s->ring);

	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->addr = target;
	sqe->user_data = CANCEL;
}

/* Waits until `n` have completed, notes each, in the order in which they came. */
static void expect(struct side *s, uint32_t n)
{
	const uint32_t meaning = ZA_CQE_F_BUFFER | ZA_CQE_F_MORE | ZA_CQE_F_BUF_MORE;
	time_t until = time(NULL) + 20;

	while (n) {
		struct za_completion cqe;

		CHECK(time(NULL) < until, "nothing completes; so far:\n%s", s->notes.text);
		if (!za_ring_next(&s->ring, &cqe)) {
			(void)za_ring_enter(&s->ring, 1, 100000000);
			continue;
		}
		note(&s->notes, cqe.user_data == DATA ? "receive" : "other", cqe.res,
		     (long)(cqe.flags & meaning));
		if (cqe.flags & ZA_CQE_F_BUFFER)
			note(&s->notes, "buffer", (long)(cqe.flags >> IORING_CQE_BUFFER_SHIFT), 0);
		n--;
	}
}

static void note_memory(struct side *s)
{
	unsigned long sum = 0;

	for (size_t i = 0; i < BUFFERS * BUFFER_BYTES; i++)
		sum = sum * 31 + s->memory[i];
	note(&s->notes, "memory", (long)(sum & 0xFFFFFFF), 0);
}

/* --- scenarios ----------------------------------------------------------------------------- */

static void data_then_end(struct side *s)
{
	offer(s, 0);
	offer(s, 1);
	arm(s);
	peer_says(&s->peer, 100);
	expect(s, 1);
	peer_says(&s->peer, 200);
	expect(s, 1);
	peer_ends(&s->peer);
	expect(s, 1);
	note_memory(s);
}

static void more_than_a_buffer(struct side *s)
{
	for (uint16_t id = 0; id < BUFFERS; id++)
		offer(s, id);
	peer_says(&s->peer, 2 * BUFFER_BYTES + 500);
	arm(s);
	expect(s, 3);
	note_memory(s);
	cancel(s, DATA);
	expect(s, 2);
}

static void no_buffers(struct side *s)
{
	offer(s, 2);
	peer_says(&s->peer, BUFFER_BYTES + 10);
	arm(s);
	expect(s, 2); /* a buffer full, then ENOBUFS ends the request */
	offer(s, 3);
	arm(s);
	expect(s, 1); /* nothing was lost */
	note_memory(s);
	peer_ends(&s->peer);
	expect(s, 1);
}

static void cancelled(struct side *s)
{
	offer(s, 0);
	arm(s);
	(void)za_ring_enter(&s->ring, 0, -1);
	cancel(s, DATA);
	expect(s, 2);
	cancel(s, DATA); /* there is nothing any more */
	expect(s, 1);
	peer_says(&s->peer, 50);
	arm(s);
	expect(s, 1);
	cancel(s, DATA);
	expect(s, 2);
	note_memory(s);
}

static void reset(struct side *s)
{
	offer(s, 0);
	arm(s);
	peer_says(&s->peer, 10);
	expect(s, 1);
	peer_resets(&s->peer);
	expect(s, 1);
	arm(s); /* the error was reported once; then it is the end */
	expect(s, 1);
}

static void timeout(struct side *s)
{
	static struct __kernel_timespec soon = {.tv_nsec = 1000000};
	static struct __kernel_timespec late = {.tv_sec = 1000};
	struct io_uring_sqe *sqe = za_ring_sqe(&s->ring);

	sqe->opcode = IORING_OP_TIMEOUT;
	sqe->addr = (uint64_t)(uintptr_t)&soon;
	sqe->fd = -1;
	sqe->len = 1;
	sqe->user_data = TIMEOUT;
	expect(s, 1);
	sqe = za_ring_sqe(&s->ring);
	sqe->opcode = IORING_OP_TIMEOUT;
	sqe->addr = (uint64_t)(uintptr_t)&late;
	sqe->fd = -1;
	sqe->len = 1;
	sqe->user_data = TIMEOUT;
	(void)za_ring_enter(&s->ring, 0, -1);
	cancel(s, TIMEOUT);
	expect(s, 2);
}

static void small_pieces(struct side *s)
{
	offer(s, 1);
	arm(s);
	for (int i = 0; i < 5; i++) {
		peer_says(&s->peer, 1000);
		expect(s, i == 4 ? 2 : 1); /* the fifth fills the buffer and finds no other */
		if (i == 3)
			continue;
	}
	note_memory(s);
}

struct scenario {
	const char *name;
	void (*run)(struct side *s);
	bool incremental;
};

static int compare(const struct scenario *scenario)
{
	static struct side real, twin;
	int code = begin(&real, false, scenario->incremental);

	if (code) {
		printf("%s: this kernel gives %s\n", scenario->name, strerrordesc_np(-code));
		return code;
	}
	CHECK(!begin(&twin, true, scenario->incremental), "twin");
	scenario->run(&real);
	scenario->run(&twin);
	CHECK(!strcmp(real.notes.text, twin.notes.text), "%s differs\nkernel:\n%s\ntwin:\n%s",
	      scenario->name, real.notes.text, twin.notes.text);
	printf("%s: the same\n", scenario->name);
	finish(&real);
	finish(&twin);
	return 0;
}

int main(void)
{
	static const struct scenario scenarios[] = {
		{"data, then the end", data_then_end, false},
		{"data, then the end, incremental", data_then_end, true},
		{"more than a buffer", more_than_a_buffer, false},
		{"more than a buffer, incremental", more_than_a_buffer, true},
		{"no buffers", no_buffers, false},
		{"no buffers, incremental", no_buffers, true},
		{"cancelled", cancelled, false},
		{"cancelled, incremental", cancelled, true},
		{"reset", reset, false},
		{"small pieces, incremental", small_pieces, true},
		{"timeout", timeout, false},
	};

	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		int code = compare(&scenarios[i]);

		/* Before 6.12 there is nothing to compare incremental buffers with. */
		if (code && !(code == -EINVAL && scenarios[i].incremental))
			return getenv("CI") ? 1 : 77;
	}
	return 0;
}

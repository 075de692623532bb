/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conformance_zcrx.c - the twin against a kernel that has zero-copy receive without a device.
 *
 * As test_conformance.c does for `copy`: each scenario makes the same requests of both through the
 * same ring code, and notes what completes; the notes must be equal. How a kernel cuts a stream
 * into fragments is its own affair, so bytes are noted as sums and hashes.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../atomics.h"
#include "../rx/zcrx_register.h"
#include "check.h"
#include "peer.h"

#define CHUNKS 8U
#define CHUNK 4096U
#define AREA (CHUNKS * CHUNK)
#define DATA ((uint64_t)1)
#define CANCEL ((uint64_t)2)
#define EVENT ((uint64_t)6 << 56)

struct side {
	struct peer peer;
	struct za_sys sys;
	struct za_ring ring;
	struct za_zcrx_region region;
	uint8_t *area;
	uint64_t out[256]; /* completions' offsets that were not given back, the oldest first */
	uint32_t n_out;
	uint32_t next; /* of the refill ring */
	struct notes notes;
};

static void open_side(struct side *s, bool twin, uint32_t cq_entries, uint32_t flags)
{
	struct za_twin_options options = {.seed = 1,
					  .whole_fragments = true,
					  .zcrx = true,
					  .packet_a_chunk = wire.far ? 1000 : 0};
	struct za_error error;

	memset(s, 0, sizeof(*s));
	s->peer.twin = twin ? za_twin_new(&options) : NULL;
	s->sys = twin ? za_twin_sys(s->peer.twin) : za_sys_linux();
	CHECK(!za_ring_init(&s->ring, &s->sys, 4, cq_entries, flags, &error), "%s", error.detail);
	s->area = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(s->area != MAP_FAILED, "area");
}

static int begin(struct side *s, bool twin, uint32_t cq_entries)
{
	struct za_zcrx_request request = {
		.area_bytes = AREA,
		.nodev = !wire.far,
		.entries = 64,
		.with_events = true,
		.notice_data = EVENT,
		.header_bytes = 128,
	};
	time_t until = time(NULL) + 20;
	int code;

	if (wire.far) {
		request.interface_index = twin ? 1 : wire.interface_index;
		request.queue = twin ? 1 : wire.queue;
	}
	open_side(s, twin, cq_entries, ZA_SETUP_CQE32 | ZA_SETUP_DEFER_TASKRUN);
	request.area = s->area;
	do {
		code = za_zcrx_register(&s->ring, &request, &s->region);
	} while (!twin && still_bound(code, until));
	if (code)
		return code;
	peer_open(&s->peer);
	return 0;
}

static void finish(struct side *s)
{
	za_ring_fini(&s->ring);
	za_zcrx_region_unmap(&s->sys, &s->region);
	s->sys.ops->close_socket(s->sys.ctx, s->peer.fd);
	munmap(s->area, AREA);
	peer_close(&s->peer);
}

static void arm(struct side *s, uint32_t limit)
{
	struct io_uring_sqe *sqe = za_ring_sqe(&s->ring);

	sqe->opcode = ZA_OP_RECV_ZC;
	sqe->fd = s->peer.fd;
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->len = limit;
	sqe->file_index = s->region.id;
	sqe->user_data = DATA;
}

static void cancel(struct side *s)
{
	struct io_uring_sqe *sqe = za_ring_sqe(&s->ring);

	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->addr = DATA;
	sqe->user_data = CANCEL;
}

static void give_back(struct side *s, uint32_t n)
{
	const struct za_refill_ring_place *place = &s->region.place;

	for (uint32_t i = 0; i < n; i++)
		place->rqes[s->next++ & (place->entries - 1)].off = s->out[i];
	s->n_out -= n;
	memmove(s->out, s->out + n, s->n_out * sizeof(s->out[0]));
	za_store_release32(place->tail, s->next);
}

static int control(struct side *s, uint32_t op, uint32_t event)
{
	struct za_zcrx_ctrl ctrl = {.zcrx_id = s->region.id, .op = op, .event_type = event};

	return s->sys.ops->reg(s->sys.ctx, s->ring.fd, ZA_REGISTER_ZCRX_CTRL, &ctrl, 0);
}

static void flush(struct side *s)
{
	note(&s->notes, "flush", control(s, ZA_ZCRX_CTRL_FLUSH_RQ, 0), 0);
	note(&s->notes, "unread", (long)(s->next - za_load_acquire32(s->region.place.head)), 0);
}

static bool next(struct side *s, struct za_completion *out)
{
	time_t until = time(NULL) + 60;

	while (!za_ring_next(&s->ring, out)) {
		CHECK(time(NULL) < until, "nothing completes; so far:\n%s", s->notes.text);
		peer_retries(&s->peer);
		(void)za_ring_enter(&s->ring, 1, 100000000);
	}
	return true;
}

static void took(struct side *s, const struct za_completion *cqe, unsigned long *hash)
{
	const uint8_t *at = s->area + (cqe->off & ~ZA_ZCRX_AREA_MASK);

	for (int32_t i = 0; i < cqe->res; i++)
		*hash = *hash * 31 + at[i];
	/* Any byte of the chunk names it. */
	s->out[s->n_out++] = cqe->off;
}

/* Waits for so many bytes; events are not noted here, since when they come is nobody's promise. */
static void expect_bytes(struct side *s, long bytes)
{
	unsigned long hash = 0;
	long all = 0;

	while (all < bytes) {
		struct za_completion cqe;

		next(s, &cqe);
		if (cqe.user_data == EVENT)
			continue;
		CHECK(cqe.user_data == DATA && cqe.res > 0 && cqe.flags & ZA_CQE_F_MORE,
		      "%d instead of bytes; so far:\n%s", cqe.res, s->notes.text);
		took(s, &cqe, &hash);
		all += cqe.res;
	}
	note(&s->notes, "bytes", all, (long)(hash & 0xFFFFFFF));
}

static void expect_ends(struct side *s, uint32_t n)
{
	while (n) {
		struct za_completion cqe;

		next(s, &cqe);
		if (cqe.user_data == EVENT)
			continue;
		note(&s->notes, cqe.user_data == DATA ? "end" : "cancel", cqe.res,
		     (long)(cqe.flags & ZA_CQE_F_MORE));
		n--;
	}
}

/* --- scenarios ----------------------------------------------------------------------------- */

static void data_then_end(struct side *s)
{
	arm(s, 0);
	peer_says(&s->peer, 100);
	expect_bytes(s, 100);
	peer_says(&s->peer, 5000);
	expect_bytes(s, 5000);
	peer_ends(&s->peer);
	expect_ends(s, 1);
}

static void a_chunk_for_ten_bytes(struct side *s)
{
	arm(s, 0);
	for (int i = 0; i < 5; i++) {
		peer_says(&s->peer, 10);
		expect_bytes(s, 10);
		note(&s->notes, "new chunk", (long)s->n_out, 0);
	}
	cancel(s);
	expect_ends(s, 2);
}

static void dry(struct side *s)
{
	arm(s, 0);
	for (uint32_t i = 0; i < CHUNKS; i++) {
		peer_says(&s->peer, 10);
		expect_bytes(s, 10);
	}
	peer_says(&s->peer, 10);
	expect_ends(s, 1); /* ENOMEM, and nothing is lost */
	arm(s, 0);
	expect_ends(s, 1);
	give_back(s, 2);
	arm(s, 0);
	expect_ends(s, 1); /* what lies in the refill ring does not help */
	flush(s);
	arm(s, 0);
	expect_bytes(s, 10);
	peer_ends(&s->peer);
	expect_ends(s, 1);
}

static void queue_is_full(struct side *s)
{
	struct za_completion cqe;
	unsigned long hash = 0;
	long all = 0;

	peer_says(&s->peer, 6 * CHUNK);
	while (all < 6 * (long)CHUNK) {
		arm(s, 0);
		(void)za_ring_enter(&s->ring, 0, -1);
		do {
			next(s, &cqe);
			if (cqe.user_data == DATA && cqe.res > 0) {
				took(s, &cqe, &hash);
				all += cqe.res;
			}
		} while (cqe.user_data != DATA ||
			 (cqe.flags & ZA_CQE_F_MORE && all < 6 * (long)CHUNK));
		if (all < 6 * (long)CHUNK)
			CHECK(cqe.res == -ENOSPC, "%d", cqe.res);
	}
	note(&s->notes, "bytes", all, (long)(hash & 0xFFFFFFF));
	peer_ends(&s->peer);
	if (!(cqe.flags & ZA_CQE_F_MORE))
		arm(s, 0);
	expect_ends(s, 1);
}

static void limit(struct side *s)
{
	arm(s, 150);
	peer_says(&s->peer, 100);
	expect_bytes(s, 100);
	peer_says(&s->peer, 100);
	expect_bytes(s, 50);
	expect_ends(s, 1); /* 0: as at the end of the stream */
	arm(s, 0);
	expect_bytes(s, 50);
	peer_ends(&s->peer);
	expect_ends(s, 1);
	arm(s, 7);
	expect_ends(s, 1);
}

static void cancelled(struct side *s)
{
	arm(s, 0);
	(void)za_ring_enter(&s->ring, 0, -1);
	cancel(s);
	expect_ends(s, 2);
	peer_says(&s->peer, 50);
	arm(s, 0);
	expect_bytes(s, 50);
	cancel(s);
	expect_ends(s, 2);
}

static void reset(struct side *s)
{
	arm(s, 0);
	peer_says(&s->peer, 10);
	expect_bytes(s, 10);
	peer_resets(&s->peer);
	expect_ends(s, 1);
	arm(s, 0); /* the error was reported once; then it is the end */
	expect_ends(s, 1);
}

static void events(struct side *s)
{
	struct za_completion cqe;
	uint32_t told = 0;

	arm(s, 0);
	for (int i = 0; i < 3; i++) {
		peer_says(&s->peer, 100);
		for (long all = 0; all < 100;) {
			next(s, &cqe);
			if (cqe.user_data == EVENT)
				told++;
			else
				all += cqe.res;
		}
	}
	while (!told) {
		next(s, &cqe);
		told += cqe.user_data == EVENT;
	}
	note(&s->notes, "event", cqe.user_data == EVENT ? cqe.res : ZA_ZCRX_EVENT_COPY, (long)told);
	note(&s->notes, "arm copy", control(s, ZA_ZCRX_CTRL_ARM_EVENT, ZA_ZCRX_EVENT_COPY), 0);
	note(&s->notes, "arm again", control(s, ZA_ZCRX_CTRL_ARM_EVENT, ZA_ZCRX_EVENT_COPY), 0);
	note(&s->notes, "arm unknown", control(s, ZA_ZCRX_CTRL_ARM_EVENT, 77), 0);
	note(&s->notes, "unknown control", control(s, 99, 0), 0);
	note(&s->notes, "copied", (long)s->region.stats->copy_bytes, 0);
	cancel(s);
	expect_ends(s, 2);
}

/* A NIC without a chunk drops the packet and the kernel says so; it comes again when there is one. */
static void nic_is_dry(struct side *s)
{
	struct za_completion cqe;
	unsigned long hash = 0;

	arm(s, 0);
	for (uint32_t i = 0; i < CHUNKS; i++) {
		peer_says(&s->peer, 10);
		expect_bytes(s, 10);
	}
	peer_says(&s->peer, 10);
	do {
		next(s, &cqe);
	} while (cqe.user_data != EVENT || cqe.res != ZA_ZCRX_EVENT_ALLOC_FAIL);
	note(&s->notes, "event", cqe.res, 0);
	give_back(s, 3);
	expect_bytes(s, 10);
	note(&s->notes, "copied", (long)s->region.stats->copy_bytes, 0);
	give_back(s, s->n_out);
	peer_says(&s->peer, 3 * CHUNK);
	for (long all = 0; all < 3 * (long)CHUNK;) {
		next(s, &cqe);
		if (cqe.user_data == EVENT)
			continue;
		took(s, &cqe, &hash);
		all += cqe.res;
		give_back(s, s->n_out);
	}
	note(&s->notes, "bytes", 3 * CHUNK, (long)(hash & 0xFFFFFFF));
	peer_ends(&s->peer);
	expect_ends(s, 1);
}

enum { EVERYWHERE, WITHOUT_NIC, WITH_NIC };

struct scenario {
	const char *name;
	void (*run)(struct side *s);
	uint32_t cq_entries;
	int where;
};

static int compare(const struct scenario *scenario)
{
	static struct side real, twin;
	int code = begin(&real, false, scenario->cq_entries);

	if (code) {
		printf("%s: this kernel gives %s\n", scenario->name, strerrordesc_np(-code));
		return code;
	}
	CHECK(!begin(&twin, true, scenario->cq_entries), "twin");
	scenario->run(&real);
	scenario->run(&twin);
	CHECK(!strcmp(real.notes.text, twin.notes.text), "%s differs\nkernel:\n%s\ntwin:\n%s",
	      scenario->name, real.notes.text, twin.notes.text);
	printf("%s: the same\n", scenario->name);
	finish(&real);
	finish(&twin);
	return 0;
}

/* --- refusals ------------------------------------------------------------------------------ */

struct refusal {
	const char *name;
	uint32_t ring_flags;
	uint64_t area_bytes;
	uint32_t area_shift, entries, interface, queue, rx_buf_len, flags;
};

static int ask(const struct refusal *r, bool twin)
{
	struct side s;
	struct za_region_desc desc = {.size = 8192, .flags = ZA_REGION_USER};
	struct za_zcrx_area_reg area;
	struct za_zcrx_ifq_reg reg = {
		.if_idx = r->interface,
		.if_rxq = r->queue,
		.rq_entries = r->entries,
		.flags = r->flags,
		.area_ptr = (uint64_t)(uintptr_t)&area,
		.region_ptr = (uint64_t)(uintptr_t)&desc,
		.rx_buf_len = r->rx_buf_len,
	};
	int code;

	open_side(&s, twin, 8, r->ring_flags);
	area = (struct za_zcrx_area_reg){.addr = (uint64_t)(uintptr_t)s.area + r->area_shift,
					 .len = r->area_bytes};
	desc.user_addr = (uint64_t)(uintptr_t)mmap(NULL, 8192, PROT_READ | PROT_WRITE,
						   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	code = s.sys.ops->reg(s.sys.ctx, s.ring.fd, ZA_REGISTER_ZCRX_IFQ, &reg, 1);
	za_ring_fini(&s.ring);
	munmap(s.area, AREA);
	munmap((void *)(uintptr_t)desc.user_addr, 8192);
	if (twin)
		za_twin_free(s.peer.twin);
	return code;
}

static void compare_refusals(void)
{
	const uint32_t good = ZA_SETUP_CQE32 | ZA_SETUP_DEFER_TASKRUN;
	const struct refusal refusals[] = {
		{"accepted", good, AREA, 0, 64, 0, 0, 0, ZA_ZCRX_REG_NODEV},
		{"small completions", ZA_SETUP_DEFER_TASKRUN, AREA, 0, 64, 0, 0, 0,
		 ZA_ZCRX_REG_NODEV},
		{"no refill entries", good, AREA, 0, 0, 0, 0, 0, ZA_ZCRX_REG_NODEV},
		{"refill ring larger than its memory", good, AREA, 0, 32768, 0, 0, 0,
		 ZA_ZCRX_REG_NODEV},
		{"area not aligned", good, CHUNK, 100, 64, 0, 0, 0, ZA_ZCRX_REG_NODEV},
		{"length not aligned", good, 5000, 0, 64, 0, 0, 0, ZA_ZCRX_REG_NODEV},
		{"a queue without a device", good, AREA, 0, 64, 0, 3, 0, ZA_ZCRX_REG_NODEV},
		{"a device without a device", good, AREA, 0, 64, 1, 0, 0, ZA_ZCRX_REG_NODEV},
		{"large chunks without a device", good, AREA, 0, 64, 0, 0, 8192, ZA_ZCRX_REG_NODEV},
		{"unknown flags", good, AREA, 0, 64, 0, 0, 0, 1U << 20},
		{"unknown interface", good, AREA, 0, 64, 0x7FFFFFFF, 0, 0, 0},
	};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		int kernel = ask(&refusals[i], false), twin = ask(&refusals[i], true);

		CHECK(kernel == twin, "%s: the kernel gives %d, the twin %d", refusals[i].name,
		      kernel, twin);
		printf("%s: both give %d\n", refusals[i].name, kernel);
	}
}

/* test_conformance_zcrx [INTERFACE QUEUE ADDRESS NAMESPACE]: without them, without a NIC. */
int main(int argc, char **argv)
{
	static const struct scenario scenarios[] = {
		{"data, then the end", data_then_end, 64, EVERYWHERE},
		{"a chunk for ten bytes", a_chunk_for_ten_bytes, 64, EVERYWHERE},
		{"dry area", dry, 64, WITHOUT_NIC},
		{"dry NIC", nic_is_dry, 64, WITH_NIC},
		{"full completion queue", queue_is_full, 4, EVERYWHERE},
		{"read limit", limit, 64, EVERYWHERE},
		{"cancelled", cancelled, 64, EVERYWHERE},
		{"reset", reset, 64, EVERYWHERE},
		{"events", events, 64, WITHOUT_NIC},
	};

	setbuf(stdout, NULL);
	if (argc == 5)
		use_wire(argv + 1);
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		if (scenarios[i].where != (wire.far ? WITHOUT_NIC : WITH_NIC) &&
		    compare(&scenarios[i]))
			return 77;
	if (!wire.far)
		compare_refusals();
	return 0;
}

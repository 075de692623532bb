/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_zcrx.c - the NIC puts payloads into the area, and the kernel says where.
 *
 * `zcrx` binds a queue of a NIC; `nodev` is the same interface without one: the kernel copies into
 * the area. What the kernel does in either case, and why we ask for it in this way: docs/zcrx.md.
 *
 * A fragment comes with a hold of its own. The chunk stays the kernel's as well: more fragments may
 * come into it while others of it are read.
 *
 * Source: io_uring/zcrx.c, io_uring/net.c (io_recvzc), Linux 7.2.
 */
#include <errno.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../error.h"
#include "probe.h"
#include "transport.h"
#include "zcrx_register.h"

#define MAX_REFILL_ENTRIES 32768U
#define LOOK_AGAIN_NS 10000000LL
#define OWING_NS 1000000LL
#define CROWDED_STEPS 64

/* --- registering --------------------------------------------------------------------------- */

static const char *refusal(int code, bool nodev)
{
	switch (code) {
	case -EPERM:
		return "zero-copy receive needs CAP_NET_ADMIN in the initial user namespace";
	case -EINVAL:
		return nodev ? "the kernel knows no registration without a device"
			     : "header/data split is not on, hds-thresh is not 0, or this kernel "
			       "has no zero-copy receive";
	case -ENODEV:
		return "no such interface in this network namespace";
	case -EOPNOTSUPP:
		return nodev ? "the kernel has no zero-copy receive, or not without a device"
			     : "the driver of this interface cannot give a queue's memory to a "
			       "program";
	case -ERANGE:
		return "the interface has no such receive queue";
	case -EEXIST:
		return "the queue is bound already, or an XDP program is attached";
	case -EBUSY:
		return "the queue is in use by AF_XDP, or leased";
	case -ENOMEM:
		return "the area counts as locked memory and is over the limit, or memory is out";
	case -EFAULT:
		return "the area cannot be pinned for writing";
	default:
		return "the kernel refuses the registration";
	}
}

static int register_area(struct za_transport *t, const struct za_config *config,
			 const struct za_features *features, uint32_t rx_buf_len,
			 struct za_zcrx_region *region)
{
	uint32_t chunk_bytes = rx_buf_len ? rx_buf_len : (uint32_t)sysconf(_SC_PAGESIZE);
	uint64_t chunks = t->area->bytes / chunk_bytes;
	struct za_zcrx_request request = {
		.area = t->area->base,
		.area_bytes = t->area->bytes,
		.nodev = config->transport == ZA_TRANSPORT_NODEV,
		.interface_index = config->interface_index,
		.queue = config->queue,
		.entries = config->refill_entries,
		.rx_buf_len = rx_buf_len,
		.kernel_memory = config->kernel_refill_memory,
		.with_events = features->zcrx_features & ZA_ZCRX_FEATURE_EVENT &&
			       features->refill_header_bytes,
		.notice_data = ZA_NOTICE_DATA,
		.header_bytes = features->refill_header_bytes,
	};

	if (!request.entries)
		request.entries =
			chunks < MAX_REFILL_ENTRIES ? (uint32_t)chunks : MAX_REFILL_ENTRIES;
	return za_zcrx_register(t->ring, &request, region);
}

/* The chunk that was asked for, or else a page. */
static int register_chunks(struct za_transport *t, const struct za_config *config,
			   const struct za_features *features, struct za_zcrx_region *region)
{
	uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
	int code = -EOPNOTSUPP;

	if (config->chunk_bytes > page && config->transport == ZA_TRANSPORT_ZCRX &&
	    features->zcrx_features & ZA_ZCRX_FEATURE_RX_PAGE_SIZE)
		code = register_area(t, config, features, config->chunk_bytes, region);
	/* The driver does not do that, or the memory does not lie together in such pieces. */
	if (code == -EOPNOTSUPP || code == -ERANGE || code == -EINVAL) {
		code = za_area_rechunk(t->area, page);
		if (!code)
			code = register_area(t, config, features, 0, region);
	}
	return code;
}

static int busy_poll(struct za_transport *t, const struct za_config *config)
{
	struct za_napi napi = {
		.busy_poll_to = config->busy_poll_us,
		.prefer_busy_poll = config->prefer_busy_poll,
	};

	if (!config->busy_poll_us)
		return 0;
	return t->ring->sys.ops->reg(t->ring->sys.ctx, t->ring->fd, ZA_REGISTER_NAPI, &napi, 1);
}

static void keep(struct za_transport *t, const struct za_zcrx_region *region,
		 const struct za_features *features)
{
	t->zcrx = (struct za_transport_zcrx){
		.region = *region,
		.can_flush = features->zcrx_ctrl_opcodes > ZA_ZCRX_CTRL_FLUSH_RQ,
		.can_arm = features->zcrx_ctrl_opcodes > ZA_ZCRX_CTRL_ARM_EVENT,
	};
}

static int zcrx_start(struct za_transport *t, const struct za_config *config, struct za_waker waker,
		      struct za_error *error)
{
	struct za_features features = {0};
	struct za_zcrx_region region;
	int code;

	za_features_query(&t->ring->sys, &features);
	t->turn_bytes = config->turn_bytes;
	/* The kernel writes to these pages for as long as they are registered. A child's copy would
	 * cost as much memory again, and pinned pages are copied at the fork itself. */
	if (madvise(t->area->base, t->area->bytes, MADV_DONTFORK))
		return za_fail(error, -errno, "area", "MADV_DONTFORK is refused");
	code = register_chunks(t, config, &features, &region);
	if (code)
		return za_fail(error, code, "zcrx", "%s",
			       refusal(code, config->transport == ZA_TRANSPORT_NODEV));
	keep(t, &region, &features);
	code = busy_poll(t, config);
	if (code)
		za_fail(error, code, "napi", "busy polling is refused");
	else if ((code = za_refill_ring_attach(t->area, &region.place, waker)))
		za_fail(error, code, "refill ring", "out of memory");
	if (code)
		za_zcrx_region_unmap(&t->ring->sys, &t->zcrx.region);
	return code;
}

/* The ring is closed: the kernel has stopped to write, and takes its fragments back by itself. */
static void zcrx_stop(struct za_transport *t)
{
	za_refill_ring_detach(t->area);
	za_zcrx_region_unmap(&t->ring->sys, &t->zcrx.region);
}

/* --- receiving ----------------------------------------------------------------------------- */

static void zcrx_arm(struct za_transport *t, struct io_uring_sqe *sqe, int fd)
{
	sqe->opcode = ZA_OP_RECV_ZC;
	sqe->fd = fd;
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->len = t->turn_bytes;
	sqe->file_index = t->zcrx.region.id; /* zcrx_ifq_idx in newer headers */
}

static enum za_receive_state end_of(struct za_transport *t, int32_t res)
{
	switch (res) {
	case 0:
		return ZA_RECEIVE_EOF;
	case -ENOMEM: /* no chunk to copy into; nothing is lost */
		t->zcrx.dry = true;
		t->zcrx.dry_since_ns = t->ring->sys.ops->now_ns(t->ring->sys.ctx, CLOCK_MONOTONIC);
		return ZA_RECEIVE_NOBUFS;
	case -ECANCELED:
		return ZA_RECEIVE_CANCELLED;
	case -ENOSPC: /* the completion queue was full; nothing is lost */
		t->zcrx.crowded = CROWDED_STEPS;
		return ZA_RECEIVE_AGAIN;
	case -EINTR:
	case -EAGAIN:
		return ZA_RECEIVE_AGAIN;
	default:
		return ZA_RECEIVE_ERROR;
	}
}

static int zcrx_complete(struct za_transport *t, const struct za_completion *completion,
			 struct za_fragment *fragment)
{
	int code;

	if (!(completion->flags & ZA_CQE_F_MORE)) {
		*fragment = (struct za_fragment){.state = end_of(t, completion->res)};
		if (fragment->state == ZA_RECEIVE_ERROR)
			fragment->error = completion->res;
		return completion->res > 0 ? -EPROTO : 0;
	}
	if (completion->res <= 0)
		return -EPROTO;
	t->zcrx.nic_dry = false;
	fragment->bytes = (uint32_t)completion->res;
	fragment->state = ZA_RECEIVE_ARMED;
	fragment->error = 0;
	code = za_refill_ring_arrived(t->area, completion->off, fragment->bytes, &fragment->offset);
	fragment->hold = (struct za_gift){.chunk = za_area_chunk_at(t->area, fragment->offset),
					  .available = !code};
	return code;
}

static const char *zcrx_explain(int error)
{
	switch (error) {
	case -EFAULT:
		return "the bytes lie in another queue's memory: the flow is steered to another "
		       "queue than the source is bound to";
	case -EPROTONOSUPPORT:
		return "zero-copy receive takes plain TCP only (no kTLS, no MPTCP)";
	default:
		return NULL;
	}
}

/* --- chunks -------------------------------------------------------------------------------- */

static int control(struct za_transport *t, struct za_zcrx_ctrl *ctrl)
{
	ctrl->zcrx_id = t->zcrx.region.id;
	return t->ring->sys.ops->reg(t->ring->sys.ctx, t->ring->fd, ZA_REGISTER_ZCRX_CTRL, ctrl, 0);
}

/* Has the kernel read the refill ring. It does so by itself only when a NIC asks for memory; where
 * it copies, it takes chunks from its free list alone. */
static bool flush(struct za_transport *t)
{
	struct za_zcrx_ctrl ctrl = {.op = ZA_ZCRX_CTRL_FLUSH_RQ};

	if (!t->zcrx.can_flush || control(t, &ctrl))
		return false;
	za_count(&t->area->stats.flushes, 1);
	return true;
}

static bool looked_long_ago(struct za_transport *t)
{
	int64_t now = t->ring->sys.ops->now_ns(t->ring->sys.ctx, CLOCK_MONOTONIC);

	return now - t->zcrx.dry_since_ns >= LOOK_AGAIN_NS;
}

static void zcrx_replenish(struct za_transport *t)
{
	uint32_t unread, owing;

	if (t->zcrx.crowded)
		t->zcrx.crowded--;
	za_refill_ring_settle(t->area, &unread, &owing);
	if (t->zcrx.dry ? unread && (t->zcrx.can_flush || looked_long_ago(t)) : owing) {
		bool flushed;

		/* A small ring is emptied and filled again until nothing waits for room in it. */
		do {
			flushed = flush(t);
			za_refill_ring_settle(t->area, &unread, &owing);
		} while (flushed && owing);
		if (flushed && unread)
			flush(t);
		t->zcrx.dry = false;
	}
	t->zcrx.owing = owing;
	za_gauge(&t->area->stats.returns_pending, owing);
	if (t->zcrx.region.stats)
		za_gauge(&t->area->stats.kernel_copied_bytes,
			 __atomic_load_n(&t->zcrx.region.stats->copy_bytes, __ATOMIC_RELAXED));
}

static uint32_t zcrx_room(struct za_transport *t)
{
	uint32_t chunks;

	if (t->zcrx.dry)
		return 0;
	chunks = za_refill_level(&t->area->refill, t->area).offered;
	/* While last completions wait for room in a full queue, every receive that is armed ends
	 * with one more of them and without a byte. So few at a time, until it was quiet for a
	 * while; else more connections than the queue has entries would never get anywhere. */
	if (t->zcrx.crowded && chunks > t->ring->cq_entries / 4)
		chunks = t->ring->cq_entries / 4;
	return chunks ? chunks : 1;
}

/* The peers send again what the NIC has dropped, so that a chunk that is returned ends it. An older
 * kernel does not tell; there it is guessed from what the batches hold. */
static bool nic_starved(struct za_transport *t)
{
	uint64_t eighths = (uint64_t)za_refill_level(&t->area->refill, t->area).offered * 8;

	if (t->ops == &za_transport_nodev)
		return false;
	if (!t->zcrx.region.stats)
		return eighths <= 2 * (uint64_t)t->area->chunks;
	if (eighths > t->ops->dry_at * (uint64_t)t->area->chunks)
		t->zcrx.nic_dry = false;
	return t->zcrx.nic_dry;
}

static bool zcrx_starved(struct za_transport *t)
{
	if (nic_starved(t))
		return true;
	if (!t->zcrx.dry || (!za_refill_ring_starved(t->area) && t->zcrx.can_flush))
		return false;
	/* Not every chunk is out: a NIC may hold the rest, and let go of them without a word. */
	if (!looked_long_ago(t) || !za_refill_level(&t->area->refill, t->area).offered)
		return true;
	t->zcrx.dry = false;
	return false;
}

static int64_t zcrx_patience_ns(struct za_transport *t)
{
	if (t->zcrx.owing)
		return OWING_NS;
	return t->zcrx.dry ? LOOK_AGAIN_NS : -1;
}

static void zcrx_notice(struct za_transport *t, int32_t what)
{
	struct za_zcrx_ctrl ctrl = {.op = ZA_ZCRX_CTRL_ARM_EVENT, .event_type = (uint32_t)what};

	if (what == ZA_ZCRX_EVENT_ALLOC_FAIL) {
		za_count(&t->area->stats.alloc_fails, 1);
		t->zcrx.nic_dry = true;
	} else if (what == ZA_ZCRX_EVENT_COPY) {
		za_count(&t->area->stats.copy_events, 1);
	}
	/* Each is told once until it is armed again. */
	if (t->zcrx.can_arm)
		(void)control(t, &ctrl);
}

/* What lies in sockets and in a NIC's rings is available to nobody and cannot be seen: a quarter of
 * the area is for the first (share.c), one for the second. */
#define ZCRX_OPS(its_name, below, until, sweep, dry)                   \
	{                                                              \
		.name = its_name,                                      \
		.copy_below = below,                                   \
		.copy_until = until,                                   \
		.sweep_at = sweep,                                     \
		.dry_at = dry,                                         \
		.ring_flags = ZA_SETUP_CQE32 | ZA_SETUP_DEFER_TASKRUN, \
		.start = zcrx_start,                                   \
		.arm = zcrx_arm,                                       \
		.complete = zcrx_complete,                             \
		.replenish = zcrx_replenish,                           \
		.room = zcrx_room,                                     \
		.starved = zcrx_starved,                               \
		.patience_ns = zcrx_patience_ns,                       \
		.notice = zcrx_notice,                                 \
		.explain = zcrx_explain,                               \
		.stop = zcrx_stop,                                     \
	}

const struct za_transport_ops za_transport_zcrx = ZCRX_OPS("zcrx", 4, 5, 3, 5);
const struct za_transport_ops za_transport_nodev = ZCRX_OPS("nodev", 2, 4, 1, 0);

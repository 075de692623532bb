/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_copy.c - the kernel copies once, from its socket buffers into the area.
 *
 * Multishot receives (6.0) take their memory from a provided-buffer ring whose buffers are chunks
 * of the area. From 6.12 the kernel can fill a buffer piece by piece (IOU_PBUF_RING_INC), so that
 * a chunk is used to its last byte however small the messages are; before, every completion uses
 * up a chunk.
 *
 * Source: io_uring_register(2), io_uring_prep_recv_multishot(3), io_uring/kbuf.c.
 */
#include <errno.h>
#include <sys/mman.h>

#include "../error.h"
#include "transport.h"

#define BUFFER_GROUP 0
#define NEAR_BYTES (16U << 20) /* of chunks in the order of their addresses: about a third cache */

static size_t buffers_bytes(const struct za_transport *transport)
{
	return transport->copy.entries * sizeof(struct io_uring_buf);
}

static int register_buffers(struct za_transport *transport, bool incremental)
{
	struct za_buf_reg reg = {
		.ring_addr = (uint64_t)(uintptr_t)transport->copy.buffers,
		.ring_entries = transport->copy.entries,
		.bgid = BUFFER_GROUP,
		.flags = incremental ? ZA_PBUF_RING_INC : 0,
	};

	return transport->ring->sys.ops->reg(transport->ring->sys.ctx, transport->ring->fd,
					     IORING_REGISTER_PBUF_RING, &reg, 1);
}

static void copy_stop(struct za_transport *transport)
{
	if (!transport->copy.buffers)
		return;
	za_buffers_detach(transport->area);
	munmap(transport->copy.buffers, buffers_bytes(transport));
	transport->copy.buffers = NULL;
}

static int copy_start(struct za_transport *transport, const struct za_config *config,
		      struct za_waker waker, struct za_error *error)
{
	int code;

	transport->copy.window = config->window_bytes / config->chunk_bytes;
	transport->copy.entries = 1;
	while (transport->copy.entries < transport->copy.window)
		transport->copy.entries *= 2;
	transport->copy.buffers = mmap(NULL, buffers_bytes(transport), PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (transport->copy.buffers == MAP_FAILED) {
		transport->copy.buffers = NULL;
		return za_fail(error, -errno, "buffer ring", "no memory for the buffer ring");
	}
	transport->copy.incremental = !config->no_incremental;
	code = register_buffers(transport, transport->copy.incremental);
	if (code == -EINVAL && transport->copy.incremental) {
		transport->copy.incremental = false;
		code = register_buffers(transport, false);
	}
	if (code)
		za_fail(error, code, "io_uring_register",
			"the kernel refuses a buffer ring of %u entries", transport->copy.entries);
	else if ((code = za_buffers_attach(transport->area, transport->copy.buffers,
					   transport->copy.entries, waker)))
		za_fail(error, code, "buffer ring", "out of memory");
	else if (config->adjacent_chunks &&
		 (code = za_buffers_prefer_adjacent(transport->area, NEAR_BYTES)))
		za_fail(error, code, "buffer ring", "out of memory");
	if (code) {
		munmap(transport->copy.buffers, buffers_bytes(transport));
		transport->copy.buffers = NULL;
	}
	return code;
}

static void copy_arm(struct za_transport *transport, struct io_uring_sqe *sqe, int fd)
{
	(void)transport;
	sqe->opcode = IORING_OP_RECV;
	sqe->fd = fd;
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->buf_group = BUFFER_GROUP;
}

static enum za_receive_state state_of(const struct za_completion *cqe)
{
	if (cqe->flags & ZA_CQE_F_MORE)
		return ZA_RECEIVE_ARMED;
	switch (cqe->res) {
	case 0:
		return ZA_RECEIVE_EOF;
	case -ENOBUFS:
		return ZA_RECEIVE_NOBUFS;
	case -ECANCELED:
		return ZA_RECEIVE_CANCELLED;
	case -EINTR:
	case -EAGAIN:
		return ZA_RECEIVE_AGAIN;
	default:
		/* The last completion of a receive may carry bytes: it ended for the kernel's own
		 * reasons (a full completion queue) and loses nothing. */
		return cqe->res > 0 ? ZA_RECEIVE_AGAIN : ZA_RECEIVE_ERROR;
	}
}

static int copy_complete(struct za_transport *transport, const struct za_completion *cqe,
			 struct za_fragment *fragment)
{
	uint32_t bytes = cqe->res > 0 ? (uint32_t)cqe->res : 0;
	bool named = cqe->flags & ZA_CQE_F_BUFFER;
	bool done;
	int code;

	*fragment = (struct za_fragment){.bytes = bytes, .state = state_of(cqe)};
	if (fragment->state == ZA_RECEIVE_ERROR)
		fragment->error = cqe->res;
	if (!named)
		return bytes ? -EPROTO : 0;
	/* An incremental buffer is used up when the kernel says no more will come into it, and
	 * never by a completion without bytes; a plain one by whatever names it. */
	done = transport->copy.incremental ? bytes && !(cqe->flags & ZA_CQE_F_BUF_MORE) : true;
	code = za_buffers_filled(transport->area, cqe->flags >> IORING_CQE_BUFFER_SHIFT, bytes,
				 done, &fragment->offset);
	fragment->hold =
		(struct za_gift){.chunk = za_area_chunk_at(transport->area, fragment->offset),
				 .available = done && !code};
	return code;
}

static void copy_replenish(struct za_transport *transport)
{
	za_buffers_offer(transport->area, transport->copy.window);
}

/* Every receive takes a buffer when it starts. */
static uint32_t copy_room(struct za_transport *transport)
{
	return za_refill_level(&transport->area->refill, transport->area).offered;
}

static bool copy_starved(struct za_transport *transport)
{
	return za_buffers_starved(transport->area);
}

const struct za_transport_ops za_transport_copy = {
	.name = "copy",
	.copy_below = 2,
	.copy_until = 4,
	.sweep_at = 1,
	.start = copy_start,
	.arm = copy_arm,
	.complete = copy_complete,
	.replenish = copy_replenish,
	.room = copy_room,
	.starved = copy_starved,
	.stop = copy_stop,
};

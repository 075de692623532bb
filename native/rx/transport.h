/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.h - how bytes get into the area.
 *
 * A transport submits receives on the receiver's ring, reads their completions and keeps the
 * kernel supplied with chunks. What differs between transports is behind this table; the receiver
 * knows nothing of buffer rings or NIC queues.
 *
 * Thread: every call is the receiver thread's.
 */
#ifndef ZA_RX_TRANSPORT_H
#define ZA_RX_TRANSPORT_H

#include "area.h"
#include "fragment.h"
#include "ring.h"

struct za_transport {
	const struct za_transport_ops *ops;
	struct za_area *area; /* borrowed: the receiver's share covers it */
	struct za_ring *ring; /* borrowed */
	struct io_uring_buf_ring
		*buffers; /* copy: the buffer ring, its memory shared with the kernel */
	uint32_t buffers_entries;
	uint32_t window;  /* chunks */
	bool incremental; /* copy: the kernel fills a buffer piece by piece */
};

struct za_transport_ops {
	const char *name;
	/* IORING_SETUP_* that the ring must have. */
	uint32_t ring_flags;
	/* Registers the area, or what stands for it, with the ring. */
	int (*start)(struct za_transport *transport, const struct za_config *config,
		     struct za_waker waker, struct za_error *error);
	/* Fills an SQE that receives from fd until the stream ends. */
	void (*arm)(struct za_transport *transport, struct io_uring_sqe *sqe, int fd);
	/* Reads a completion of such an SQE. -EPROTO if the kernel says what it cannot. */
	int (*complete)(struct za_transport *transport, const struct io_uring_cqe *cqe,
			struct za_fragment *fragment);
	/* Gives the kernel chunks to fill; before every wait. */
	void (*replenish)(struct za_transport *transport);
	/* True if nothing can arrive until somebody returns a chunk; that return then wakes. */
	bool (*starved)(struct za_transport *transport);
	/* After all receives have ended and the ring is closed: the kernel's holds are dropped. */
	void (*stop)(struct za_transport *transport);
};

extern const struct za_transport_ops za_transport_copy;

#endif

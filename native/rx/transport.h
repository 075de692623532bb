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
#include "zcrx_register.h"

/* copy: a provided-buffer ring of a window of chunks. */
struct za_transport_copy {
	struct io_uring_buf_ring *buffers; /* its memory is shared with the kernel */
	uint32_t entries;
	uint32_t window;  /* chunks */
	bool incremental; /* the kernel fills a buffer piece by piece */
};

/* zcrx, nodev: a registered area and a refill ring. */
struct za_transport_zcrx {
	struct za_zcrx_region region;
	bool can_flush, can_arm; /* FLUSH_RQ, ARM_EVENT */
	bool dry; /* a receive ended for want of a chunk, and nothing was done about it */
	int64_t dry_since_ns; /* CLOCK_MONOTONIC */
	bool nic_dry;         /* the NIC found no chunk, and nothing has come since */
	uint32_t crowded;     /* steps to go carefully: the completion queue was full */
	uint32_t owing;       /* chunks whose returns wait for room in the refill ring */
};

struct za_transport {
	const struct za_transport_ops *ops;
	struct za_area *area; /* borrowed: the receiver's share covers it */
	struct za_ring *ring; /* borrowed */
	uint32_t turn_bytes;  /* a receive ends after that many, to be armed again; 0: no limit */
	struct za_transport_copy copy;
	struct za_transport_zcrx zcrx;
};

struct za_transport_ops {
	const char *name;
	/* IORING_SETUP_* that the ring must have. */
	uint32_t ring_flags;
	/* In eighths of the area: with so little available, batches are copied out; until there is
	 * so much again; unfinished messages leave the area; and the area may be dry. */
	uint8_t copy_below, copy_until, sweep_at, dry_at;
	/* Registers the area, or what stands for it, with the ring. */
	int (*start)(struct za_transport *transport, const struct za_config *config,
		     struct za_waker waker, struct za_error *error);
	/* Fills an SQE that receives from fd until the stream ends. */
	void (*arm)(struct za_transport *transport, struct io_uring_sqe *sqe, int fd);
	/* Reads a completion of such an SQE. -EPROTO if the kernel says what it cannot. */
	int (*complete)(struct za_transport *transport, const struct za_completion *completion,
			struct za_fragment *fragment);
	/* Gives the kernel chunks to fill; before every wait. */
	void (*replenish)(struct za_transport *transport);
	/* How many receives may be armed now: more would come back for want of a chunk. */
	uint32_t (*room)(struct za_transport *transport);
	/* True if receives that ended for want of a chunk must wait for somebody to return one; that
	 * return then wakes. */
	bool (*starved)(struct za_transport *transport);
	/* When to look at it again although nobody has woken us; -1: no need. NULL is the same. */
	int64_t (*patience_ns)(struct za_transport *transport);
	/* A completion that belongs to no request of ours (ZA_REQUEST_NOTICE). NULL if none comes. */
	void (*notice)(struct za_transport *transport, int32_t what);
	/* What an error of a receive means, if that is more than its name; else NULL. */
	const char *(*explain)(int error);
	/* After all receives have ended and the ring is closed: the kernel's holds are dropped. */
	void (*stop)(struct za_transport *transport);
};

/* user_data of completions for notice(). */
#define ZA_NOTICE_DATA ((uint64_t)6 << 56)

extern const struct za_transport_ops za_transport_copy;
extern const struct za_transport_ops za_transport_zcrx;  /* a queue of a NIC */
extern const struct za_transport_ops za_transport_nodev; /* the same without a NIC */

#endif

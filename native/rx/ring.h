/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - one io_uring: submission, waiting, reaping.
 *
 * Thread: all of it belongs to the thread that called za_ring_init() (SINGLE_ISSUER).
 * Source of the ABI: io_uring_setup(2), io_uring_enter(2), <linux/io_uring.h>.
 */
#ifndef ZA_RX_RING_H
#define ZA_RX_RING_H

#include <stdbool.h>

#include "../za.h"
#include "sys.h"

struct za_ring {
	struct za_sys sys;
	int fd;
	uint32_t flags; /* IORING_SETUP_* that the kernel took */

	uint32_t *sq_head, *sq_tail, *sq_array;
	uint32_t sq_mask, sq_entries;
	uint32_t sq_next; /* our tail; the kernel sees it at the next submit */
	struct io_uring_sqe *sqes;

	uint32_t *cq_head, *cq_tail;
	uint32_t cq_mask, cq_entries;
	struct io_uring_cqe *cqes;

	void *ring_map, *sqe_map;
	size_t ring_map_bytes, sqe_map_bytes;
};

/* Sets up with the best flags that the kernel takes: DEFER_TASKRUN (6.1), else COOP_TASKRUN.
 * `extra_flags` are IORING_SETUP_* that the transport cannot do without. */
int za_ring_init(struct za_ring *ring, const struct za_sys *sys, uint32_t sq_entries,
		 uint32_t cq_entries, uint32_t extra_flags, struct za_error *error);
void za_ring_fini(struct za_ring *ring);

/* A cleared SQE, or NULL when the kernel does not take the ones that are waiting. Borrowed until
 * the next submit or wait. */
struct io_uring_sqe *za_ring_sqe(struct za_ring *ring);
/* Submits what is waiting and, if min_complete, waits: 0; -ETIME; -EINTR; else a broken ring. */
int za_ring_enter(struct za_ring *ring, uint32_t min_complete, int64_t timeout_ns);

/* The next completion, or NULL. Borrowed until za_ring_seen(). */
struct io_uring_cqe *za_ring_peek(struct za_ring *ring);
void za_ring_seen(struct za_ring *ring);

#endif

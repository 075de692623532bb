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

#include "../atomics.h"
#include "../uapi/zcrx.h"
#include "../za.h"
#include "sys.h"

/* A completion, taken out of the ring. */
struct za_completion {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
	uint64_t off; /* rings of 32-byte completions: the first half of what follows */
};

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
	uint32_t cq_next;   /* our head; the kernel sees it with za_ring_seen() */
	uint32_t cqe_shift; /* log2 of a completion's bytes: 4, with ZA_SETUP_CQE32 5 */
	uint8_t *cqes;

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

/* Whether something has completed. */
static inline bool za_ring_ready(const struct za_ring *ring)
{
	/* Acquire pairs with the kernel's store of the tail: the entries are complete. */
	return ring->cq_next != za_load_acquire32(ring->cq_tail);
}

/* Takes the next completion out, if there is one. */
static inline bool za_ring_next(struct za_ring *ring, struct za_completion *out)
{
	const struct io_uring_cqe *cqe;

	if (!za_ring_ready(ring))
		return false;
	cqe = (const void *)(ring->cqes +
			     ((size_t)(ring->cq_next & ring->cq_mask) << ring->cqe_shift));
	out->user_data = cqe->user_data;
	out->res = cqe->res;
	out->flags = cqe->flags;
	out->off = ring->cqe_shift == 5 ? ((const struct za_zcrx_cqe *)(cqe + 1))->off : 0;
	/* Release: we are done with the entry before the kernel may overwrite it. */
	za_store_release32(ring->cq_head, ++ring->cq_next);
	return true;
}

#endif

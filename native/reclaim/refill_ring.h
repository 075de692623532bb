/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refill_ring.h - `zcrx`, `nodev`: the kernel counts the fragments that it has lent of each chunk,
 * and takes them back from a ring in shared memory, one entry for each completion that it made.
 *
 * Any thread writes entries, under the lock; the kernel reads them when the NIC asks for memory, or
 * when it is told to (FLUSH_RQ). There can be more fragments out than the ring has entries: what
 * does not fit is counted for its chunk and written later, so nothing is lost and nothing grows.
 *
 * A return too many would take a fragment away from somebody who still reads it, and the kernel
 * would not notice: so the number of entries is never computed here, it comes from the chunk's word,
 * where each completion has put it.
 *
 * Source: io_uring/zcrx.c (io_zcrx_ring_refill, zcrx_flush_rq), Linux 7.2; struct
 * io_uring_zcrx_rqe.
 */
#ifndef ZA_RECLAIM_REFILL_RING_H
#define ZA_RECLAIM_REFILL_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "../atomics.h"
#include "../uapi/zcrx.h"
#include "waker.h"

struct za_area;

struct za_refill_ring {
	/* under the lock of the refill */
	uint32_t *head;           /* the kernel's; NULL when there is no ring (any more) */
	uint32_t *tail;           /* ours */
	struct za_zcrx_rqe *rqes; /* entries, a power of two */
	uint32_t entries;
	uint32_t next;      /* our tail */
	uint32_t seen_head; /* the kernel's head when we last looked */
	uint64_t token;     /* of the area */
	uint32_t *owed;     /* by chunk: entries that did not fit */
	uint32_t *owing;    /* the chunks that have such */
	uint32_t n_owing;
	uint64_t came_back; /* chunks whose last hold was dropped, since the beginning */
	/* the receiver thread writes */
	za_u64 went_out; /* chunks that a first fragment arrived in */
};

/* Where the ring is, from the registration's reply. */
struct za_refill_ring_place {
	uint32_t *head, *tail;
	struct za_zcrx_rqe *rqes;
	uint32_t entries;
	uint64_t token;
};

void za_refill_ring_fini(struct za_refill_ring *ring);

/* Receiver thread. The place stays valid until detached. 0 or -ENOMEM. */
int za_refill_ring_attach(struct za_area *area, const struct za_refill_ring_place *place,
			  struct za_waker waker);
/* Receiver thread, after the io_uring is closed: the kernel has taken everything back by itself.
 * From here on returned chunks are only counted. */
void za_refill_ring_detach(struct za_area *area);
/* Receiver thread. `bytes` arrived at `offset` (the completion's, with the area's id): the caller
 * gets a hold on the chunk, and the chunk owes one return more. Gives the offset in the area.
 * -EPROTO if the kernel names what is not in the area. */
int za_refill_ring_arrived(struct za_area *area, uint64_t off, uint32_t bytes, uint64_t *offset);
/* Receiver thread. Writes what did not fit before. Gives how many entries the kernel has not read
 * yet, and how many chunks still owe some. */
void za_refill_ring_settle(struct za_area *area, uint32_t *unread, uint32_t *owing);
/* Receiver thread. Whether nothing can go on until somebody returns a chunk: true if the kernel has
 * read all there is. Then the next return wakes. */
bool za_refill_ring_starved(struct za_area *area);

#endif

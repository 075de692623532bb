/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refill.h - where chunks return: the stack of free ones and the kernel's buffer ring.
 *
 * Free chunks form a stack, so that the last one returned is the first one offered and the bytes
 * in flight stay in cache. Only a small window of them is in the kernel's hands at a time.
 *
 * One short lock covers the stack. Releasing threads push and leave; only the receiver thread
 * moves chunks from the stack to the ring (it alone writes the ring's tail and the slots), and it
 * is woken only when the kernel has none left to fill.
 *
 * Source of the buffer ring: struct io_uring_buf_ring in <linux/io_uring.h>,
 * io_uring_register(2) IORING_REGISTER_PBUF_RING, IOU_PBUF_RING_INC.
 */
#ifndef ZA_RECLAIM_REFILL_H
#define ZA_RECLAIM_REFILL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "../uapi.h"

struct za_area;

/* Wakes the receiver thread; any thread, never blocks. */
struct za_waker {
	void (*wake)(void *arg);
	void *arg;
};

/* A place in the buffer ring. Its index is the buffer id that completions name. */
struct za_refill_slot {
	uint32_t chunk;
	uint32_t filled_bytes; /* incremental buffers: where the next bytes go */
	bool offered;
};

struct za_refill {
	pthread_mutex_t lock;
	/* under the lock */
	uint32_t *stack; /* free chunks, the hottest on top */
	uint32_t free;
	uint32_t offered;      /* in the kernel's hands */
	bool starved;          /* the receiver waits for a chunk: the next return wakes it */
	struct za_waker waker; /* .wake is NULL when there is no receiver */
	/* the receiver thread's */
	struct io_uring_buf_ring *ring; /* borrowed from the transport while attached */
	struct za_refill_slot *slots;
	uint32_t entries;
	uint16_t tail;
};

struct za_refill_level {
	uint32_t free, offered;
};

/* All chunks start free. */
int za_refill_init(struct za_refill *refill, uint32_t chunks);
void za_refill_fini(struct za_refill *refill);

/* Receiver thread. `ring` has `entries` (a power of two) and stays valid until detached. */
int za_refill_attach(struct za_refill *refill, struct io_uring_buf_ring *ring, uint32_t entries,
		     struct za_waker waker);
/* Receiver thread, after the kernel has let go of the ring: drops the kernel's holds. From here
 * on returned chunks only pile up on the stack. */
void za_refill_detach(struct za_refill *refill, struct za_area *area);
/* Receiver thread. Offers the hottest free chunks until `window` are in the kernel's hands. */
void za_refill_offer(struct za_refill *refill, struct za_area *area, uint32_t window);
/* Receiver thread. The kernel put `bytes` into buffer `id`; `done`: and will put no more there.
 * Gives the area offset of the bytes. With `done` the kernel's hold passes to the caller.
 * -EPROTO if the kernel names a buffer that it was not offered. */
int za_refill_filled(struct za_refill *refill, struct za_area *area, uint32_t id, uint32_t bytes,
		     bool done, uint64_t *offset);
/* Receiver thread. True if nothing is offered and nothing is free; then the next return wakes. */
bool za_refill_starved(struct za_refill *refill);
/* Any thread, no GIL: gives back chunks whose last hold was dropped. */
void za_refill_give(struct za_refill *refill, struct za_area *area, const uint32_t *chunks,
		    uint32_t n);
/* Any thread. */
struct za_refill_level za_refill_level(struct za_refill *refill);

#endif

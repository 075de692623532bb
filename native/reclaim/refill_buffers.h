/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refill_buffers.h - `copy`: free chunks form a stack, so that the last one returned is the first
 * one offered and the bytes in flight stay in cache. Only a small window of them is in the kernel's
 * hands at a time, in a provided-buffer ring.
 *
 * Where messages are long, that they lie together is worth more than cache: then chunks are offered
 * in the order of their addresses as far as they are free.
 *
 * Releasing threads push onto the stack; only the receiver thread moves chunks from there to the
 * ring (it alone writes the ring's tail and the slots).
 *
 * Source of the buffer ring: struct io_uring_buf_ring in <linux/io_uring.h>,
 * io_uring_register(2) IORING_REGISTER_PBUF_RING, IOU_PBUF_RING_INC.
 */
#ifndef ZA_RECLAIM_REFILL_BUFFERS_H
#define ZA_RECLAIM_REFILL_BUFFERS_H

#include <stdbool.h>
#include <stdint.h>

#include "../uapi/io_uring.h"
#include "waker.h"

struct za_area;

/* A place in the buffer ring. Its index is the buffer id that completions name. */
struct za_buffer_slot {
	/* the receiver thread's */
	uint32_t filled_bytes; /* incremental buffers: where the next bytes go */
	/* the receiver thread writes them under the lock of the refill, for za_refill_map() */
	uint32_t chunk;
	bool offered;
};

struct za_buffers {
	/* under the lock of the refill */
	uint32_t *stack; /* free chunks, the hottest on top */
	uint32_t *place; /* of each chunk in the stack, if it is free; with `adjacent` */
	uint32_t free;
	uint32_t offered; /* in the kernel's hands */
	/* the receiver thread's */
	struct io_uring_buf_ring *ring; /* borrowed from the transport while attached */
	struct za_buffer_slot *slots;
	uint32_t entries;
	uint16_t tail;
	bool adjacent;        /* they are offered in the order of their addresses */
	uint32_t near_chunks; /* so many of them, if nobody holds the first */
	uint32_t last;        /* offered */
};

void za_buffers_fini(struct za_buffers *buffers);

/* Receiver thread, after attaching: see above. 0 or -ENOMEM. */
int za_buffers_prefer_adjacent(struct za_area *area, uint64_t near_bytes);
/* Receiver thread. `ring` has `entries` (a power of two) and stays valid until detached. All chunks
 * are free. 0 or -ENOMEM. */
int za_buffers_attach(struct za_area *area, struct io_uring_buf_ring *ring, uint32_t entries,
		      struct za_waker waker);
/* Receiver thread, after the kernel has let go of the ring: drops the kernel's holds. From here
 * on returned chunks only pile up on the stack. */
void za_buffers_detach(struct za_area *area);
/* Receiver thread. Offers the hottest free chunks until `window` are in the kernel's hands. */
void za_buffers_offer(struct za_area *area, uint32_t window);
/* Receiver thread. The kernel put `bytes` into buffer `id`; `done`: and will put no more there.
 * Gives the area offset of the bytes. With `done` the kernel's hold passes to the caller.
 * -EPROTO if the kernel names a buffer that it was not offered. */
int za_buffers_filled(struct za_area *area, uint32_t id, uint32_t bytes, bool done,
		      uint64_t *offset);
/* Receiver thread. True if nothing is offered and nothing is free; then the next return wakes. */
bool za_buffers_starved(struct za_area *area);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refill.h - where chunks return, from any thread.
 *
 *   refill.c          the door: one short lock, and who is woken
 *   refill_buffers.c  `copy`: a stack of free chunks and the kernel's provided-buffer ring
 *   refill_ring.c     `zcrx`, `nodev`: the kernel's refill ring, and what did not fit into it
 *
 * Releasing threads take the lock, write and leave. They wake the receiver thread only if that has
 * said that it can do nothing without a chunk.
 */
#ifndef ZA_RECLAIM_REFILL_H
#define ZA_RECLAIM_REFILL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "refill_buffers.h"
#include "refill_ring.h"
#include "waker.h"

struct za_area;
struct za_refill;

/* A chunk whose last hold was dropped, and how many returns the kernel is owed for it. */
struct za_return {
	uint32_t chunk;
	uint32_t returns;
};

struct za_refill_level {
	uint32_t free;    /* in nobody's hands */
	uint32_t offered; /* in the kernel's */
};

/* What differs by transport. All are called under the lock. */
struct za_refill_ops {
	void (*give)(struct za_refill *refill, struct za_area *area,
		     const struct za_return *returns, uint32_t n);
	struct za_refill_level (*level)(const struct za_refill *refill, const struct za_area *area);
	/* Corrects a map that says of each chunk whether it is held at all: the kernel is not a
	 * holder that counts as a lease. */
	void (*map)(const struct za_refill *refill, const struct za_area *area, uint8_t *out,
		    size_t room);
};

struct za_refill {
	pthread_mutex_t lock;
	/* under the lock */
	const struct za_refill_ops *ops; /* NULL until a transport is attached */
	bool starved;              /* the receiver waits for a chunk: the next return wakes it */
	struct za_waker waker;     /* .wake is NULL when there is no receiver */
	struct za_buffers buffers; /* one of these two, see ops */
	struct za_refill_ring ring;
};

int za_refill_init(struct za_refill *refill);
void za_refill_fini(struct za_refill *refill);

/* Any thread, no GIL: gives back chunks whose last hold was dropped. */
void za_refill_give(struct za_refill *refill, struct za_area *area, const struct za_return *returns,
		    uint32_t n);
/* Any thread. */
struct za_refill_level za_refill_level(struct za_refill *refill, const struct za_area *area);
/* Any thread, by za_area_map(). */
void za_refill_map(struct za_refill *refill, const struct za_area *area, uint8_t *out, size_t room);

/* Receiver thread, by the transports. */
void za_refill_attach(struct za_refill *refill, const struct za_refill_ops *ops,
		      struct za_waker waker);
void za_refill_detach(struct za_refill *refill);

#endif

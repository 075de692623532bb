/* SPDX-License-Identifier: Apache-2.0 */
/*
 * atomics.h - the orderings this project uses, and who pairs with whom.
 *
 *   writer                                    reader
 *   ring.c      release store of the SQ tail    kernel, before it reads SQEs
 *   kernel      release store of the CQ tail    ring.c acquire load, before it reads CQEs
 *   ring.c      release store of the CQ head    kernel, before it overwrites CQEs
 *   refill_buffers.c  release store of the      kernel, before it reads a buffer's address
 *               buffer ring's tail
 *   refill_ring.c  release store of the refill  kernel, before it reads the entries
 *               ring's tail
 *   kernel      release store of the refill     refill_ring.c acquire load, before it overwrites
 *               ring's head                     entries
 *   lease.c     acq_rel drop of a chunk's hold  lease.c, the drop that reaches zero: every read of
 *                                               the chunk by any holder happens before it is offered
 *   receiver.c  seq_cst store of `asleep`, then receiver.c za_receiver_wake(): publishes work, then
 *               a look at what could wake it    seq_cst exchange of `asleep` (Dekker: one of the two
 *                                               sees the other)
 *   stats.h     relaxed                         anybody who reads counters: each is right by itself,
 *                                               not against the others
 */
#ifndef ZA_ATOMICS_H
#define ZA_ATOMICS_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t za_u64;
typedef _Atomic uint32_t za_u32;

/* The rings are memory shared with the kernel, declared without _Atomic by its headers. */
static inline uint32_t za_load_acquire32(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline uint32_t za_load_relaxed32(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void za_store_release32(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline void za_store_release16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - counters. They live in the area, since releasing a batch counts too and may come
 * after the source is gone.
 */
#ifndef ZA_STATS_H
#define ZA_STATS_H

#include "atomics.h"

struct za_stats {
	/* written by the receiver thread alone: za_count() */
	za_u64 bytes, fragments, rows, batches;
	za_u64 seams, stitched_bytes;
	za_u64 copied_out_bytes, copied_out_batches, zero_copy_batches;
	za_u64 partial_bytes;
	za_u64 stalls, stalled_ns, starved, rearms, nobufs, cancelled, enters;
	za_u64 accepted, refused, accept_errors, framing_errors;
	za_u64 connections, paused, copying_out;
	za_u64 flushes, alloc_fails, copy_events;    /* zcrx */
	za_u64 returns_pending, kernel_copied_bytes; /* zcrx, gauges */
	/* written by any thread: za_count_shared() */
	za_u64 wakes, events_lost, discarded_rows, lease_faults;
	za_u64 batches_held;
};

/* Single writer: a plain add that readers never see torn, without a locked instruction. */
static inline void za_count(za_u64 *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline void za_gauge(za_u64 *gauge, uint64_t value)
{
	atomic_store_explicit(gauge, value, memory_order_relaxed);
}

static inline void za_count_shared(za_u64 *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t za_read(const za_u64 *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <errno.h>
#include <string.h>

#include "../atomics.h"
#include "../error.h"

static void ring_locate(struct za_ring *ring, const struct io_uring_params *params)
{
	uint8_t *base = ring->ring_map;

	ring->sq_head = (uint32_t *)(base + params->sq_off.head);
	ring->sq_tail = (uint32_t *)(base + params->sq_off.tail);
	ring->sq_array = (uint32_t *)(base + params->sq_off.array);
	ring->sq_entries = params->sq_entries;
	ring->sq_mask = params->sq_entries - 1;
	ring->sqes = ring->sqe_map;
	ring->cq_head = (uint32_t *)(base + params->cq_off.head);
	ring->cq_tail = (uint32_t *)(base + params->cq_off.tail);
	ring->cqes = base + params->cq_off.cqes;
	ring->cqe_shift = params->flags & ZA_SETUP_CQE32 ? 5 : 4;
	ring->cq_next = za_load_relaxed32(ring->cq_head);
	ring->cq_entries = params->cq_entries;
	ring->cq_mask = params->cq_entries - 1;
	/* Entry i of the array is always SQE i: written once, so a submit is one tail store. */
	for (uint32_t i = 0; i < ring->sq_entries; i++)
		ring->sq_array[i] = i;
}

static int ring_map(struct za_ring *ring, const struct io_uring_params *params)
{
	size_t sq_bytes = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
	size_t cqe_bytes = params->flags & ZA_SETUP_CQE32 ? 32 : 16;
	size_t cq_bytes = params->cq_off.cqes + params->cq_entries * cqe_bytes;

	/* One mapping for both rings (IORING_FEAT_SINGLE_MMAP, 5.4). */
	ring->ring_map_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
	ring->sqe_map_bytes = params->sq_entries * sizeof(struct io_uring_sqe);
	ring->ring_map = ring->sys.ops->map(ring->sys.ctx, ring->fd, ring->ring_map_bytes,
					    IORING_OFF_SQ_RING);
	if (!ring->ring_map)
		return -ENOMEM;
	ring->sqe_map =
		ring->sys.ops->map(ring->sys.ctx, ring->fd, ring->sqe_map_bytes, IORING_OFF_SQES);
	return ring->sqe_map ? 0 : -ENOMEM;
}

static int ring_setup(struct za_ring *ring, uint32_t sq_entries, uint32_t cq_entries,
		      uint32_t extra_flags, struct io_uring_params *params)
{
	static const uint32_t wanted[] = {
		ZA_SETUP_SINGLE_ISSUER | ZA_SETUP_DEFER_TASKRUN,
		ZA_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
	};
	int fd = -EINVAL;

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]) && fd == -EINVAL; i++) {
		if (extra_flags & ZA_SETUP_DEFER_TASKRUN & ~wanted[i])
			continue;
		memset(params, 0, sizeof(*params));
		params->flags = wanted[i] | extra_flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
		params->cq_entries = cq_entries;
		fd = ring->sys.ops->setup(ring->sys.ctx, sq_entries, params);
	}
	return fd;
}

int za_ring_init(struct za_ring *ring, const struct za_sys *sys, uint32_t sq_entries,
		 uint32_t cq_entries, uint32_t extra_flags, struct za_error *error)
{
	struct io_uring_params params;
	int code;

	memset(ring, 0, sizeof(*ring));
	ring->sys = *sys;
	ring->fd = ring_setup(ring, sq_entries, cq_entries, extra_flags, &params);
	if (ring->fd < 0)
		return za_fail(error, ring->fd, "io_uring_setup",
			       "the kernel refuses to set up an io_uring");
	ring->flags = params.flags;
	code = ring_map(ring, &params);
	if (code) {
		za_ring_fini(ring);
		return za_fail(error, code, "io_uring_mmap", "the rings cannot be mapped");
	}
	ring_locate(ring, &params);
	return 0;
}

void za_ring_fini(struct za_ring *ring)
{
	if (ring->sqe_map)
		ring->sys.ops->unmap(ring->sys.ctx, ring->sqe_map, ring->sqe_map_bytes);
	if (ring->ring_map)
		ring->sys.ops->unmap(ring->sys.ctx, ring->ring_map, ring->ring_map_bytes);
	if (ring->fd >= 0)
		ring->sys.ops->close(ring->sys.ctx, ring->fd);
	ring->ring_map = NULL;
	ring->sqe_map = NULL;
	ring->fd = -1;
}

struct io_uring_sqe *za_ring_sqe(struct za_ring *ring)
{
	struct io_uring_sqe *sqe;

	/* Acquire pairs with the kernel's store of the head: it has read the SQE we overwrite. */
	if (ring->sq_next - za_load_acquire32(ring->sq_head) == ring->sq_entries) {
		(void)za_ring_enter(ring, 0, -1);
		if (ring->sq_next - za_load_acquire32(ring->sq_head) == ring->sq_entries)
			return NULL;
	}
	sqe = &ring->sqes[ring->sq_next++ & ring->sq_mask];
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

int za_ring_enter(struct za_ring *ring, uint32_t min_complete, int64_t timeout_ns)
{
	uint32_t to_submit = ring->sq_next - za_load_relaxed32(ring->sq_head);
	int n;

	/* Release: the kernel sees the SQEs before the tail that covers them. */
	za_store_release32(ring->sq_tail, ring->sq_next);
	/* GETEVENTS even when nothing is waited for: DEFER_TASKRUN completes only here, and it
	 * brings back completions that did not fit (IORING_FEAT_NODROP). */
	n = ring->sys.ops->enter(ring->sys.ctx, ring->fd, to_submit, min_complete,
				 IORING_ENTER_GETEVENTS, timeout_ns);
	/* EAGAIN and EBUSY: the kernel is short of memory or of CQ room; reaping helps. */
	if (n >= 0 || n == -EAGAIN || n == -EBUSY)
		return 0;
	return n;
}

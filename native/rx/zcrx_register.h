/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zcrx_register.h - one registration of an area with a NIC queue, or with none.
 *
 * Thread: the ring's own.
 * Source: IORING_REGISTER_ZCRX_IFQ, io_register_zcrx() in io_uring/zcrx.c, Linux 7.2.
 */
#ifndef ZA_RX_ZCRX_REGISTER_H
#define ZA_RX_ZCRX_REGISTER_H

#include "../reclaim/refill_ring.h"
#include "ring.h"

struct za_zcrx_request {
	void *area; /* page-aligned, page-multiple */
	uint64_t area_bytes;
	bool nodev;
	uint32_t interface_index, queue; /* without nodev */
	uint32_t entries;                /* of the refill ring, rounded up by the kernel */
	uint32_t rx_buf_len;             /* 0: a page */
	bool kernel_memory;              /* for the refill ring */
	bool with_events;                /* and statistics; the kernel has ZCRX_FEATURE_EVENT */
	uint64_t notice_data;            /* user_data of events' completions */
	uint32_t header_bytes; /* of the refill ring; 0 if not known, then without events */
};

/* What is registered. The kernel lets go of it when the io_uring is closed. */
struct za_zcrx_region {
	uint32_t id;
	uint8_t *memory; /* of the refill ring */
	size_t bytes;
	bool kernel_memory;
	struct za_refill_ring_place place;
	const struct za_zcrx_stats *stats; /* NULL without events */
};

/* 0 or -errno; then nothing is registered and nothing is left behind. */
int za_zcrx_register(struct za_ring *ring, const struct za_zcrx_request *request,
		     struct za_zcrx_region *out);
/* After the ring is closed (or before, if it is the kernel's memory). */
void za_zcrx_region_unmap(const struct za_sys *sys, struct za_zcrx_region *region);

#endif

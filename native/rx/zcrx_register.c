/* SPDX-License-Identifier: Apache-2.0 */
#include "zcrx_register.h"

#include <errno.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096ULL
/* Room for the header of the refill ring where the kernel does not say how long it is: 64 bytes up
 * to 7.2, 128 from 7.3 on. */
#define HEADER_ROOM PAGE_BYTES

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

static uint32_t power_of_two(uint32_t n)
{
	uint32_t p = 1;

	while (p < n)
		p *= 2;
	return p;
}

static uint64_t stats_offset(const struct za_zcrx_request *request)
{
	return round_up(request->header_bytes + (uint64_t)power_of_two(request->entries) *
							sizeof(struct za_zcrx_rqe),
			64);
}

static int make_region(const struct za_zcrx_request *request, struct za_zcrx_region *region)
{
	uint64_t entries = power_of_two(request->entries) * sizeof(struct za_zcrx_rqe);

	region->bytes = round_up(HEADER_ROOM + entries + sizeof(struct za_zcrx_stats), PAGE_BYTES);
	region->kernel_memory = request->kernel_memory;
	if (request->kernel_memory)
		return 0;
	region->memory = mmap(NULL, region->bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (region->memory != MAP_FAILED)
		/* The kernel writes to these pages: a forked child must not make them move. */
		return madvise(region->memory, region->bytes, MADV_DONTFORK) ? -errno : 0;
	region->memory = NULL;
	return -errno;
}

void za_zcrx_region_unmap(const struct za_sys *sys, struct za_zcrx_region *region)
{
	if (region->memory && region->kernel_memory)
		sys->ops->unmap(sys->ctx, region->memory, region->bytes);
	else if (region->memory)
		munmap(region->memory, region->bytes);
	region->memory = NULL;
	region->stats = NULL;
}

static int map_region(struct za_ring *ring, const struct za_region_desc *desc,
		      struct za_zcrx_region *region)
{
	if (!region->kernel_memory)
		return 0;
	region->memory =
		ring->sys.ops->map(ring->sys.ctx, ring->fd, region->bytes, desc->mmap_offset);
	return region->memory ? 0 : -ENOMEM;
}

static void locate(struct za_zcrx_region *region, const struct za_zcrx_ifq_reg *reply,
		   const struct za_zcrx_area_reg *area)
{
	region->id = reply->zcrx_id;
	region->place = (struct za_refill_ring_place){
		.head = (uint32_t *)(void *)(region->memory + reply->offsets.head),
		.tail = (uint32_t *)(void *)(region->memory + reply->offsets.tail),
		.rqes = (struct za_zcrx_rqe *)(void *)(region->memory + reply->offsets.rqes),
		.entries = reply->rq_entries,
		.token = area->rq_area_token,
	};
}

int za_zcrx_register(struct za_ring *ring, const struct za_zcrx_request *request,
		     struct za_zcrx_region *out)
{
	struct za_zcrx_region region = {0};
	int code = make_region(request, &region);
	struct za_region_desc desc = {
		.user_addr = (uint64_t)(uintptr_t)region.memory,
		.size = region.bytes,
		.flags = request->kernel_memory ? 0 : ZA_REGION_USER,
	};
	struct za_zcrx_area_reg area = {
		.addr = (uint64_t)(uintptr_t)request->area,
		.len = request->area_bytes,
	};
	struct za_zcrx_event_desc events = {
		.user_data = request->notice_data,
		.type_mask = 1U << ZA_ZCRX_EVENT_ALLOC_FAIL | 1U << ZA_ZCRX_EVENT_COPY,
		.flags = ZA_ZCRX_EVENT_DESC_FLAG_STATS,
		.stats_offset = stats_offset(request),
	};
	struct za_zcrx_ifq_reg reg = {
		.if_idx = request->nodev ? 0 : request->interface_index,
		.if_rxq = request->nodev ? 0 : request->queue,
		.rq_entries = request->entries,
		.flags = request->nodev ? ZA_ZCRX_REG_NODEV : 0,
		.area_ptr = (uint64_t)(uintptr_t)&area,
		.region_ptr = (uint64_t)(uintptr_t)&desc,
		.rx_buf_len = request->rx_buf_len,
		.event_desc = request->with_events ? (uint64_t)(uintptr_t)&events : 0,
	};

	if (!code)
		code = ring->sys.ops->reg(ring->sys.ctx, ring->fd, ZA_REGISTER_ZCRX_IFQ, &reg, 1);
	if (!code)
		code = map_region(ring, &desc, &region);
	if (code) {
		za_zcrx_region_unmap(&ring->sys, &region);
		return code;
	}
	locate(&region, &reg, &area);
	if (request->with_events)
		region.stats = (const void *)(region.memory + events.stats_offset);
	*out = region;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "area.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "../error.h"
#include "../export/batch.h"

#define HUGE_BYTES (2ULL << 20)

/* Address space that begins at a multiple of a huge page, so that the kernel can use such. */
static void *map_aligned(uint64_t bytes)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint8_t *wide = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
	uint8_t *base;

	if (wide == MAP_FAILED)
		return NULL;
	base = (uint8_t *)(((uintptr_t)wide + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	if (base != wide)
		munmap(wide, (size_t)(base - wide));
	munmap(base + bytes, (size_t)(wide + HUGE_BYTES - base));
	return base;
}

static int area_map(struct za_area *area, bool huge_pages, struct za_error *error)
{
	if (huge_pages && area->bytes % HUGE_BYTES)
		return za_fail(error, -EINVAL, "config",
			       "area.size=%llu must be a multiple of 2 MiB with huge pages",
			       (unsigned long long)area->bytes);
	/* Not populated: chunks are taken last-returned-first, so a feed that is read as it comes
	 * touches only as many pages as are in flight. */
	if (huge_pages) {
		area->base = mmap(NULL, area->bytes, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		if (area->base == MAP_FAILED)
			area->base = NULL;
	} else {
		area->base = map_aligned(area->bytes);
	}
	if (!area->base)
		return za_fail(error, -errno, huge_pages ? "huge pages" : "area",
			       "%llu bytes of memory cannot be mapped",
			       (unsigned long long)area->bytes);
	/* Fewer TLB misses where the machine allows it; no harm where it does not. */
	if (!huge_pages)
		(void)madvise(area->base, area->bytes, MADV_HUGEPAGE);
	za_area_poison(area, 0, area->bytes);
	return 0;
}

static void area_free(struct za_area *area)
{
	za_batch_pool_free(area->pool);
	za_refill_fini(&area->refill);
	if (area->owner.page)
		za_owner_fini(&area->owner);
	if (area->base) {
		za_area_unpoison(area, 0, area->bytes);
		munmap(area->base, area->bytes);
	}
	free(area->words);
	free(area);
}

int za_area_rechunk(struct za_area *area, uint32_t chunk_bytes)
{
	uint32_t chunks = (uint32_t)(area->bytes / chunk_bytes);
	za_u64 *words = calloc(chunks, sizeof(*words));

	if (!words)
		return -ENOMEM;
	free(area->words);
	area->words = words;
	area->chunks = chunks;
	area->chunk_shift = (uint32_t)__builtin_ctz(chunk_bytes);
	return 0;
}

int za_area_new(uint64_t bytes, uint32_t chunk_bytes, bool huge_pages, struct za_error *error,
		struct za_area **out)
{
	struct za_area *area = calloc(1, sizeof(*area));
	int code;

	if (!area)
		return za_fail(error, -ENOMEM, "area", "out of memory");
	atomic_init(&area->shares, 1);
	area->bytes = bytes;
	code = za_refill_init(&area->refill);
	if (!code)
		code = za_area_rechunk(area, chunk_bytes);
	if (!code)
		code = za_owner_init(&area->owner);
	if (code) {
		za_fail(error, code, "area", "no memory for the bookkeeping of %u chunks",
			area->chunks);
	} else {
		code = area_map(area, huge_pages, error);
	}
	if (code) {
		area_free(area);
		return code;
	}
	za_process_areas(1);
	*out = area;
	return 0;
}

struct za_area *za_area_take(struct za_area *area)
{
	atomic_fetch_add_explicit(&area->shares, 1, memory_order_relaxed);
	return area;
}

void za_area_put(struct za_area *area)
{
	/* acq_rel: everything that any owner did with the area happens before it is unmapped. */
	if (atomic_fetch_sub_explicit(&area->shares, 1, memory_order_acq_rel) != 1)
		return;
	za_process_areas(-1);
	area_free(area);
}

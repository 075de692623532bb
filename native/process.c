/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "atomics.h"
#include "za.h"

/* The only file-scope state of the core: each of these is a fact about the process. */
static atomic_bool exiting;
static atomic_int interrupt_fd = -1;
static za_u32 interrupts;
static za_u64 holds_lent;
static za_u64 live_areas;

void za_exiting(void)
{
	atomic_store(&exiting, true);
}

bool za_process_exiting(void)
{
	return atomic_load_explicit(&exiting, memory_order_relaxed);
}

void za_interrupt_fd(int fd)
{
	atomic_store(&interrupt_fd, fd);
}

uint32_t za_process_interrupts(void)
{
	int fd = atomic_load(&interrupt_fd);
	uint8_t numbers[64];
	ssize_t n;

	/* Whoever reads a byte counts it for everybody. */
	while (fd >= 0 && (n = read(fd, numbers, sizeof(numbers))) > 0)
		for (ssize_t i = 0; i < n; i++)
			if (numbers[i] == SIGINT)
				atomic_fetch_add(&interrupts, 1);
	return atomic_load(&interrupts);
}

void za_process_lent(uint64_t holds)
{
	atomic_fetch_add_explicit(&holds_lent, holds, memory_order_relaxed);
}

void za_process_returned(uint64_t holds)
{
	atomic_fetch_sub_explicit(&holds_lent, holds, memory_order_relaxed);
}

void za_process_areas(int delta)
{
	atomic_fetch_add_explicit(&live_areas, (uint64_t)(int64_t)delta, memory_order_relaxed);
}

uint64_t za_outstanding(void)
{
	return atomic_load(&holds_lent);
}

uint64_t za_live_areas(void)
{
	return atomic_load(&live_areas);
}

int za_owner_init(struct za_owner *owner)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *page =
		mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return -errno;
	if (madvise(page, page_bytes, MADV_WIPEONFORK)) {
		int error = -errno;

		munmap(page, page_bytes);
		return error;
	}
	*page = 1;
	owner->page = page;
	return 0;
}

void za_owner_fini(struct za_owner *owner)
{
	munmap((void *)(uintptr_t)owner->page, (size_t)sysconf(_SC_PAGESIZE));
	owner->page = NULL;
}

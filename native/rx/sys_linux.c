/* SPDX-License-Identifier: Apache-2.0 */
/* sys_linux.c - the system-call boundary, answered by the real kernel. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "sys.h"

static int linux_setup(void *ctx, uint32_t entries, struct io_uring_params *params)
{
	long fd = syscall(__NR_io_uring_setup, entries, params);

	(void)ctx;
	return fd < 0 ? -errno : (int)fd;
}

static int linux_enter(void *ctx, int ring_fd, uint32_t to_submit, uint32_t min_complete,
		       uint32_t flags, int64_t timeout_ns)
{
	struct __kernel_timespec ts;
	struct io_uring_getevents_arg arg;
	long n;

	(void)ctx;
	memset(&arg, 0, sizeof(arg));
	if (timeout_ns >= 0) {
		ts.tv_sec = timeout_ns / 1000000000;
		ts.tv_nsec = timeout_ns % 1000000000;
		arg.ts = (uint64_t)(uintptr_t)&ts;
	}
	n = syscall(__NR_io_uring_enter, ring_fd, to_submit, min_complete,
		    flags | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
	return n < 0 ? -errno : (int)n;
}

static int linux_reg(void *ctx, int ring_fd, uint32_t opcode, void *arg, uint32_t nr_args)
{
	long n = syscall(__NR_io_uring_register, ring_fd, opcode, arg, nr_args);

	(void)ctx;
	return n < 0 ? -errno : (int)n;
}

static void *linux_map(void *ctx, int ring_fd, size_t len, uint64_t offset)
{
	void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring_fd,
			  (off_t)offset);

	(void)ctx;
	return addr == MAP_FAILED ? NULL : addr;
}

static void linux_unmap(void *ctx, void *addr, size_t len)
{
	(void)ctx;
	munmap(addr, len);
}

static int linux_waker(void *ctx)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)ctx;
	return fd < 0 ? -errno : fd;
}

static void linux_wake(void *ctx, int waker_fd)
{
	uint64_t one = 1;
	ssize_t n;

	(void)ctx;
	/* Fails only when the counter is at its top, and then the receiver is awake anyway. */
	n = write(waker_fd, &one, sizeof(one));
	(void)n;
}

static void linux_close_socket(void *ctx, int fd)
{
	(void)ctx;
	shutdown(fd, SHUT_RDWR);
	close(fd);
}

static void linux_bound_socket(void *ctx, int fd, uint32_t bytes)
{
	int half = (int)(bytes / 2); /* the kernel doubles it: socket(7) */

	(void)ctx;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &half, sizeof(half)))
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof(half));
}

static void linux_close(void *ctx, int fd)
{
	(void)ctx;
	close(fd);
}

static void linux_names(void *ctx, int fd, struct sockaddr_storage *local,
			struct sockaddr_storage *peer)
{
	socklen_t len = sizeof(*local);

	(void)ctx;
	if (getsockname(fd, (struct sockaddr *)local, &len))
		local->ss_family = 0;
	len = sizeof(*peer);
	if (getpeername(fd, (struct sockaddr *)peer, &len))
		peer->ss_family = 0;
}

static int64_t linux_now_ns(void *ctx, int clock_id)
{
	struct timespec ts;

	(void)ctx;
	clock_gettime(clock_id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct za_sys za_sys_linux(void)
{
	static const struct za_sys_ops ops = {
		.setup = linux_setup,
		.enter = linux_enter,
		.reg = linux_reg,
		.map = linux_map,
		.unmap = linux_unmap,
		.waker = linux_waker,
		.wake = linux_wake,
		.close_socket = linux_close_socket,
		.bound_socket = linux_bound_socket,
		.close = linux_close,
		.names = linux_names,
		.now_ns = linux_now_ns,
	};

	return (struct za_sys){.ops = &ops, .ctx = NULL};
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys.h - the system-call boundary.
 *
 * Everything the receiver asks of the kernel goes through this table; nothing else in native/
 * makes a system call on a ring or on a connection. It is the only place where the kernel can be
 * replaced: rx/sys_linux.c passes the calls on, twin/ answers them from memory.
 *
 * Every call returns a value >= 0, or -errno; none touches errno.
 * Threads: all calls come from the receiver thread, but wake() (any thread) and now_ns() (any).
 */
#ifndef ZA_RX_SYS_H
#define ZA_RX_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "../uapi/io_uring.h"

struct za_sys_ops {
	/* io_uring_setup(2): returns the ring's fd, O_CLOEXEC. */
	int (*setup)(void *ctx, uint32_t entries, struct io_uring_params *params);
	/* io_uring_enter(2) with IORING_ENTER_EXT_ARG: returns the number of SQEs consumed.
	 * timeout_ns < 0 waits without limit; a wait that times out gives -ETIME. */
	int (*enter)(void *ctx, int ring_fd, uint32_t to_submit, uint32_t min_complete,
		     uint32_t flags, int64_t timeout_ns);
	/* io_uring_register(2). */
	int (*reg)(void *ctx, int ring_fd, uint32_t opcode, void *arg, uint32_t nr_args);
	/* mmap(2) of a ring region (offset IORING_OFF_*): NULL when it failed. */
	void *(*map)(void *ctx, int ring_fd, size_t len, uint64_t offset);
	void (*unmap)(void *ctx, void *addr, size_t len);
	/* A counter fd that IORING_OP_READ (8 bytes) waits on; wake() adds one to it. eventfd(2). */
	int (*waker)(void *ctx);
	void (*wake)(void *ctx, int waker_fd); /* any thread, async-signal-safe, never blocks */
	/* shutdown(2) both ways, then close(2): the peer sees the end even if a forked child still
	 * holds a copy of the descriptor. */
	void (*close_socket)(void *ctx, int fd);
	/* At most so many bytes may wait in the socket, with what the kernel needs to keep them:
	 * SO_RCVBUFFORCE where allowed, else SO_RCVBUF. */
	void (*bound_socket)(void *ctx, int fd, uint32_t bytes);
	void (*close)(void *ctx, int fd); /* a ring, a waker or a listener */
	/* getsockname(2) and getpeername(2); a name that cannot be had is left with ss_family 0. */
	void (*names)(void *ctx, int fd, struct sockaddr_storage *local,
		      struct sockaddr_storage *peer);
	/* clock_gettime(2) of CLOCK_MONOTONIC or CLOCK_REALTIME, in nanoseconds. */
	int64_t (*now_ns)(void *ctx, int clock_id);
};

struct za_sys {
	const struct za_sys_ops *ops;
	void *ctx; /* owned by whoever made the table; NULL for Linux */
};

/* The real kernel. Static, needs no freeing. */
struct za_sys za_sys_linux(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twin.h - the kernel twin: io_uring in memory, behind the system-call boundary (rx/sys.h).
 *
 * It keeps the kernel's rules as far as the `copy` transport uses them - submission and completion
 * rings with overflow, multishot accept and receive, provided-buffer rings with plain and
 * incremental buffers, cancel, timeouts, a waker - and stops the program on what the kernel would
 * silently accept: memory offered twice, a descriptor closed twice, a receive armed twice.
 * What happens when (sizes of fragments, spurious ends, order of sockets) comes from a seed.
 *
 * Stepped: a wait with nothing to wait for gives -ETIME at once, or advances the twin's clock to
 * the next timeout. One thread; every run of a seed is the same.
 * Threaded: waits block. The receiver thread enters, other threads send, release and wake.
 *
 * Source of the rules: Linux 6.18 io_uring/net.c (io_recv), io_uring/kbuf.c, io_uring/io_uring.c
 * (io_cqe_overflow), io_uring_enter(2). Checked against a real kernel: tests/test_conformance.c.
 */
#ifndef ZA_TWIN_H
#define ZA_TWIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../rx/sys.h"

struct za_twin;

struct za_twin_options {
	uint64_t seed;
	bool threaded;
	bool no_incremental;     /* a kernel before 6.12 */
	bool no_defer_taskrun;   /* a kernel before 6.1 */
	int setup_error;         /* -errno that io_uring_setup() gives; 0: none */
	uint32_t cq_entries;     /* at most; 0: what is asked for */
	uint32_t receive_buffer; /* of a socket, bytes; 0: 256 KiB */
	bool whole_fragments;    /* a receive takes all that fits; else the seed says how much */
	uint32_t max_fragment;   /* bytes a receive takes at most; 0: what fits */
	/* of 1000 receives, so many: */
	uint32_t spurious_nobufs; /* end with ENOBUFS although there is a buffer */
	uint32_t spurious_end;    /* end after their bytes, as when the CQ is full */
	/* of 1000 enters, so many give -EINTR */
	uint32_t spurious_eintr;
	uint32_t
		failing_cancels; /* of 1000 cancels, so many find their request in between and fail */
	uint32_t accept_failures; /* first accepts that give -EMFILE */
	/* zero-copy receive */
	bool zcrx;                /* sockets keep what they receive as a NIC and a kernel do */
	bool old_zcrx;            /* 6.15: no query, no nodev, no events, no flush, pages only */
	uint32_t max_chunk_bytes; /* rx_buf_len that the NIC can do; 0: a page */
	uint32_t nic_ring;        /* chunks that the NIC keeps for what may come */
	uint32_t linear;          /* of 1000 packets, so many must be copied */
	uint32_t packet_a_chunk;  /* of 1000 packets, so many leave the rest of a chunk unused */
	bool steady;              /* every enter does all that it can */
	uint32_t endless_bytes;   /* every socket has always so many bytes more, in a chunk each */
	/* Called before bytes are written to a buffer: the test's chance to object. */
	void (*before_write)(void *arg, const void *at, size_t bytes);
	void *arg;
};

struct za_twin_counts {
	uint64_t received, bytes, nobufs, cancelled, overflows, interrupted;
	uint32_t buffers_held; /* offered and not used up */
	uint32_t open_sockets;
	uint64_t drops;         /* packets that the NIC had no memory for */
	uint64_t lent_at_close; /* completions that were out when the ring was closed */
};

struct za_twin *za_twin_new(const struct za_twin_options *options);
/* Stops the program if a socket, waker or ring is still open. */
void za_twin_free(struct za_twin *twin);
struct za_sys za_twin_sys(struct za_twin *twin);

/* A listening socket; a connected one; one that waits to be accepted. Descriptors from 1000 on. */
int za_twin_listener(struct za_twin *twin);
int za_twin_socket(struct za_twin *twin);
int za_twin_connect(struct za_twin *twin, int listener);

/* The peer's side, by the socket's descriptor on this side. */
/* How many bytes the socket took; 0 when its receive buffer is full or this side closed it. */
size_t za_twin_send(struct za_twin *twin, int fd, const void *data, size_t bytes);
void za_twin_end(struct za_twin *twin, int fd);
/* What was not received yet is lost, as with TCP; returns how many bytes. */
size_t za_twin_reset(struct za_twin *twin, int fd, int error);
bool za_twin_is_open(struct za_twin *twin, int fd);

/* Zero-copy receive: how many completions of each chunk the program has, by the kernel's count:
 * lent, and neither in the refill ring nor still in the completion queue. */
void za_twin_lent(struct za_twin *twin, uint32_t *lent, uint32_t chunks);
/* What za_sys_ops.bound_socket() was last given for a socket; 0: nothing. */
uint32_t za_twin_bound(struct za_twin *twin, int fd);

void za_twin_advance(struct za_twin *twin, int64_t ns);
struct za_twin_counts za_twin_counts(struct za_twin *twin);
/* The twin's randomness, for the test that drives it. */
uint64_t za_twin_random(uint64_t *state);

#endif

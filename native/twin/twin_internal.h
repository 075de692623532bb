/* SPDX-License-Identifier: Apache-2.0 */
/* twin_internal.h - what the files of the twin share. */
#ifndef ZA_TWIN_INTERNAL_H
#define ZA_TWIN_INTERNAL_H

#include <pthread.h>

#include "twin.h"
#include "twin_zcrx.h"

#define TWIN_FIRST_FD 1000
#define TWIN_MAX_FDS 4096
#define TWIN_ZCRX_ID 3U
#define TWIN_OFF_ZCRX 0x30000000ULL
#define RECEIVES_IN_A_ROW 32 /* MULTISHOT_MAX_RETRY of io_uring/net.c */

enum twin_kind { TWIN_NONE, TWIN_RING, TWIN_LISTENER, TWIN_SOCKET, TWIN_WAKER };

struct twin_file {
	enum twin_kind kind;
	bool closed_here; /* kept until the test has looked */
	/* socket */
	uint8_t *bytes; /* received by the kernel, not by the program: a ring */
	uint32_t capacity, head, n;
	struct twin_fragment *fragments; /* the same for zero-copy receive, instead of bytes */
	uint32_t truesize;               /* memory that they take */
	uint32_t bound;                  /* za_sys_ops.bound_socket; 0: never called */
	bool ended;
	int error; /* -errno that the next receive gives */
	/* listener: who waits */
	int waiting[TWIN_MAX_FDS];
	uint32_t waiting_n;
	uint64_t counter; /* waker */
};

struct twin_request {
	struct twin_request *next;
	uint8_t opcode;
	int fd;
	uint64_t user_data, addr;
	int64_t due_ns; /* timeout */
	uint32_t in_a_row;
	uint32_t limit, left; /* RECV_ZC: of bytes; limit 0: none */
	bool tried;           /* it has looked at its socket since it was armed */
};

struct twin_big_cqe {
	struct io_uring_cqe cqe;
	uint64_t off, pad; /* rings with CQE32 have these too */
};

struct twin_cqe {
	struct twin_cqe *next;
	struct twin_big_cqe cqe;
};

struct za_twin {
	struct za_twin_options options;
	pthread_mutex_t lock;
	pthread_cond_t news;
	uint64_t random;
	int64_t clock_ns;
	struct twin_file *files[TWIN_MAX_FDS];
	int next_fd;
	uint32_t accept_failures;

	/* the one ring */
	int ring_fd; /* -1: none */
	uint8_t *ring_map;
	size_t ring_map_bytes;
	struct io_uring_sqe *sqes;
	size_t sqes_bytes;
	uint32_t maps;
	struct io_uring_params params;
	struct twin_request *first, *last;
	struct twin_cqe *overflow, *overflow_last;

	/* the one buffer ring */
	struct io_uring_buf_ring *buffers;
	uint32_t buffer_entries;
	bool incremental;
	uint16_t buffer_head, buffer_seen; /* consumed; checked when offered */

	struct twin_zcrx zcrx;
	uint8_t *refill_map; /* its memory, if it is the kernel's and mapped */
	struct za_twin_counts counts;
};

/* A rule is broken that the kernel would not notice. */
void twin_stop(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
struct twin_file *twin_file(struct za_twin *twin, int fd, enum twin_kind kind);
int twin_open(struct za_twin *twin, enum twin_kind kind);
bool twin_chance(struct za_twin *twin, uint32_t per_mille);
uint64_t twin_below(struct za_twin *twin, uint64_t limit);

/* twin_buffers.c */
int twin_register_buffers(struct za_twin *twin, const struct za_buf_reg *reg);
/* Looks at what was offered since the last time. */
void twin_check_offers(struct za_twin *twin);
bool twin_has_buffer(struct za_twin *twin);
/* Moves up to `limit` bytes of the socket to the buffer at the head. Returns how many; CQE flags. */
uint32_t twin_fill(struct za_twin *twin, struct twin_file *socket, uint32_t limit, uint32_t *flags);

static inline uint32_t twin_power_of_two(uint32_t at_least)
{
	uint32_t p = 1;

	while (p < at_least)
		p *= 2;
	return p;
}

static inline size_t twin_cqe_bytes(const struct za_twin *t)
{
	return t->params.flags & ZA_SETUP_CQE32 ? 32 : 16;
}

/* twin_work.c */
/* Does what can be done; true if anything was. */
bool twin_work(struct za_twin *twin);
void twin_post(struct za_twin *twin, uint64_t user_data, int32_t res, uint32_t flags);
bool twin_flush_overflow(struct za_twin *twin);
uint32_t twin_cq_ready(struct za_twin *twin);
bool twin_cq_post(struct za_twin *twin, const struct twin_big_cqe *cqe);
/* Ends a request with a last completion, which is never lost. Always true. */
bool twin_complete(struct za_twin *twin, struct twin_request *request, int32_t res, uint32_t flags);
/* Lets the others go first. */
void twin_to_the_end(struct za_twin *twin, struct twin_request *request);
/* Takes what lies in the completion queue off `lent`. */
void twin_each_unreaped(struct za_twin *twin, uint32_t *lent);
void twin_zcrx_count_unreaped(struct za_twin *twin, const struct io_uring_cqe *cqe, uint32_t *lent);
void twin_cancel(struct za_twin *twin, uint64_t user_data, uint64_t target);
/* When the next timeout is due; INT64_MAX if none. */
int64_t twin_next_due(struct za_twin *twin);
int64_t twin_now(struct za_twin *twin);

extern const struct za_sys_ops twin_sys_ops;

#endif

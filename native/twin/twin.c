/* SPDX-License-Identifier: Apache-2.0 */
/* twin.c - the twin's system calls, and the peer's side of its sockets. */
#include "twin.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "twin_internal.h"

#define EPOCH_NS 1700000000000000000LL
#define KNOWN_SETUP_FLAGS                                                       \
	(IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN | \
	 ZA_SETUP_SINGLE_ISSUER | ZA_SETUP_DEFER_TASKRUN | ZA_SETUP_CQE32)

void twin_stop(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("kernel twin: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	abort();
}

uint64_t za_twin_random(uint64_t *state)
{
	/* splitmix64 (Steele, Lea, Flood 2014) */
	uint64_t z = (*state += 0x9E3779B97F4A7C15ULL);

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
	return z ^ (z >> 31);
}

uint64_t twin_below(struct za_twin *t, uint64_t limit)
{
	return za_twin_random(&t->random) % limit;
}

bool twin_chance(struct za_twin *t, uint32_t per_mille)
{
	return per_mille && twin_below(t, 1000) < per_mille;
}

struct twin_file *twin_file(struct za_twin *t, int fd, enum twin_kind kind)
{
	int at = fd - TWIN_FIRST_FD;
	struct twin_file *file = at >= 0 && at < TWIN_MAX_FDS ? t->files[at] : NULL;

	if (!file || file->closed_here || (kind && file->kind != kind))
		twin_stop("descriptor %d is closed or of the wrong kind", fd);
	return file;
}

int twin_open(struct za_twin *t, enum twin_kind kind)
{
	struct twin_file *file = calloc(1, sizeof(*file));

	if (t->next_fd == TWIN_MAX_FDS)
		twin_stop("out of descriptors");
	file->kind = kind;
	t->files[t->next_fd] = file;
	return TWIN_FIRST_FD + t->next_fd++;
}

/* --- system calls -------------------------------------------------------------------------- */

static void lay_out(struct za_twin *t, struct io_uring_params *p)
{
	p->sq_off = (struct io_sqring_offsets){
		.head = 0, .tail = 64, .ring_mask = 128, .ring_entries = 132, .flags = 136};
	p->cq_off = (struct io_cqring_offsets){
		.head = 192, .tail = 256, .ring_mask = 320, .ring_entries = 324, .cqes = 384};
	p->sq_off.array = p->cq_off.cqes + p->cq_entries * (p->flags & ZA_SETUP_CQE32 ? 32U : 16U);
	t->ring_map_bytes = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
	t->sqes_bytes = p->sq_entries * sizeof(struct io_uring_sqe);
	t->ring_map = aligned_alloc(64, (t->ring_map_bytes + 63) & ~63UL);
	memset(t->ring_map, 0, t->ring_map_bytes);
	t->sqes = calloc(p->sq_entries, sizeof(struct io_uring_sqe));
}

static int twin_setup(void *ctx, uint32_t entries, struct io_uring_params *p)
{
	struct za_twin *t = ctx;
	int fd;

	if (t->options.setup_error)
		return t->options.setup_error;
	if (p->flags & ~KNOWN_SETUP_FLAGS ||
	    (t->options.no_defer_taskrun && p->flags & ZA_SETUP_DEFER_TASKRUN) || !entries)
		return -EINVAL;
	p->sq_entries = twin_power_of_two(entries);
	p->cq_entries =
		twin_power_of_two(p->flags & IORING_SETUP_CQSIZE ? p->cq_entries : 2 * entries);
	if (t->options.cq_entries && p->cq_entries > t->options.cq_entries)
		p->cq_entries = t->options.cq_entries;
	p->features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
	pthread_mutex_lock(&t->lock);
	lay_out(t, p);
	t->params = *p;
	fd = t->ring_fd = twin_open(t, TWIN_RING);
	pthread_mutex_unlock(&t->lock);
	return fd;
}

static void *twin_map(void *ctx, int ring_fd, size_t len, uint64_t offset)
{
	struct za_twin *t = ctx;

	(void)ring_fd;
	if (offset == IORING_OFF_SQ_RING && len <= t->ring_map_bytes) {
		t->maps++;
		return t->ring_map;
	}
	if (offset == TWIN_OFF_ZCRX && t->zcrx.region_is_mine)
		return t->refill_map = t->zcrx.region;
	if (offset == IORING_OFF_SQES && len <= t->sqes_bytes) {
		t->maps++;
		return t->sqes;
	}
	return NULL;
}

static void twin_unmap(void *ctx, void *addr, size_t len)
{
	struct za_twin *t = ctx;

	(void)len;
	if (t->refill_map && addr == t->refill_map) {
		/* A mapping outlives the ring, as the kernel's do. */
		free(t->refill_map);
		t->refill_map = NULL;
		return;
	}
	if (addr != t->ring_map && addr != (void *)t->sqes)
		twin_stop("unmapping what was not mapped");
	t->maps--;
}

static int twin_reg(void *ctx, int ring_fd, uint32_t opcode, void *arg, uint32_t nr_args)
{
	struct za_twin *t = ctx;
	int code = -EINVAL;

	pthread_mutex_lock(&t->lock);
	if (opcode == ZA_REGISTER_QUERY)
		code = ring_fd == -1 && !nr_args ? twin_zcrx_query(t, arg) : -EINVAL;
	else
		twin_file(t, ring_fd, TWIN_RING);
	if (opcode == IORING_REGISTER_PBUF_RING && nr_args == 1)
		code = twin_register_buffers(t, arg);
	if (opcode == ZA_REGISTER_ZCRX_IFQ && nr_args == 1 && t->options.zcrx)
		code = twin_zcrx_register(t, arg);
	if (opcode == ZA_REGISTER_ZCRX_CTRL && !nr_args && !t->options.old_zcrx)
		code = twin_zcrx_control(t, arg);
	pthread_mutex_unlock(&t->lock);
	return code;
}

static void check_receive(struct za_twin *t, const struct io_uring_sqe *sqe)
{
	twin_file(t, sqe->fd, TWIN_SOCKET);
	if (!(sqe->ioprio & IORING_RECV_MULTISHOT))
		twin_stop("a receive that is not multishot");
	if (sqe->opcode == IORING_OP_RECV && (!(sqe->flags & IOSQE_BUFFER_SELECT) || sqe->len))
		twin_stop("a receive without a provided buffer");
	if (sqe->opcode == ZA_OP_RECV_ZC &&
	    (!t->zcrx.registered || sqe->file_index != TWIN_ZCRX_ID))
		twin_stop("a receive into an area that is not registered");
	for (struct twin_request *at = t->first; at; at = at->next)
		if (at->opcode == sqe->opcode && at->fd == sqe->fd)
			twin_stop("a second receive is armed on descriptor %d", sqe->fd);
}

static void submit(struct za_twin *t, const struct io_uring_sqe *sqe)
{
	struct twin_request *request;

	if (sqe->opcode == IORING_OP_ASYNC_CANCEL) {
		twin_cancel(t, sqe->user_data, sqe->addr);
		return;
	}
	if (sqe->opcode == IORING_OP_RECV || sqe->opcode == ZA_OP_RECV_ZC)
		check_receive(t, sqe);
	else if (sqe->opcode == IORING_OP_ACCEPT)
		twin_file(t, sqe->fd, TWIN_LISTENER);
	else if (sqe->opcode == IORING_OP_READ)
		twin_file(t, sqe->fd, TWIN_WAKER);
	else if (sqe->opcode != IORING_OP_TIMEOUT)
		twin_stop("opcode %u is not modelled", sqe->opcode);
	request = calloc(1, sizeof(*request));
	request->opcode = sqe->opcode;
	request->fd = sqe->fd;
	request->user_data = sqe->user_data;
	request->addr = sqe->addr;
	request->limit = request->left = sqe->len;
	if (sqe->opcode == IORING_OP_TIMEOUT) {
		const struct __kernel_timespec *ts = (void *)(uintptr_t)sqe->addr;

		request->due_ns = twin_now(t) + ts->tv_sec * 1000000000 + ts->tv_nsec;
	}
	if (t->last)
		t->last->next = request;
	else
		t->first = request;
	t->last = request;
}

static uint32_t consume(struct za_twin *t, uint32_t to_submit)
{
	uint32_t *head = (void *)(t->ring_map + t->params.sq_off.head);
	uint32_t *array = (void *)(t->ring_map + t->params.sq_off.array);
	uint32_t tail = __atomic_load_n((uint32_t *)(void *)(t->ring_map + t->params.sq_off.tail),
					__ATOMIC_ACQUIRE);
	uint32_t done = 0;

	if (tail - *head > t->params.sq_entries)
		twin_stop("more SQEs than the ring has entries");
	for (; done < to_submit && *head != tail; done++) {
		uint32_t at = array[*head & (t->params.sq_entries - 1)];

		submit(t, &t->sqes[at]);
		__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	}
	return done;
}

/* Threaded: sleeps until somebody has news, or a timeout is due. */
static void sleep_for_news(struct za_twin *t, int64_t deadline)
{
	int64_t due = twin_next_due(t);
	struct timespec until;

	if (deadline < due)
		due = deadline;
	if (due == INT64_MAX) {
		pthread_cond_wait(&t->news, &t->lock);
		return;
	}
	until.tv_sec = due / 1000000000;
	until.tv_nsec = due % 1000000000;
	pthread_cond_timedwait(&t->news, &t->lock, &until);
}

static int wait_for(struct za_twin *t, uint32_t min_complete, int64_t timeout_ns)
{
	int64_t deadline = timeout_ns < 0 ? INT64_MAX : twin_now(t) + timeout_ns;

	while (twin_cq_ready(t) < min_complete) {
		int64_t due = twin_next_due(t);

		if (twin_flush_overflow(t) || twin_work(t))
			continue;
		if (t->options.threaded) {
			if (twin_now(t) >= deadline)
				return -ETIME;
			sleep_for_news(t, deadline);
		} else if (due < deadline) {
			t->clock_ns = due > t->clock_ns ? due : t->clock_ns;
		} else {
			/* Nothing will come by itself: the driver must do something. */
			t->clock_ns = deadline == INT64_MAX ? t->clock_ns : deadline;
			return -ETIME;
		}
	}
	return 0;
}

static int twin_enter(void *ctx, int ring_fd, uint32_t to_submit, uint32_t min_complete,
		      uint32_t flags, int64_t timeout_ns)
{
	struct za_twin *t = ctx;
	uint64_t steps;
	uint32_t done;
	int code = 0;

	pthread_mutex_lock(&t->lock);
	twin_file(t, ring_fd, TWIN_RING);
	if (!(flags & IORING_ENTER_GETEVENTS))
		twin_stop("an enter that does not run deferred work");
	done = consume(t, to_submit);
	if (!done && twin_chance(t, t->options.spurious_eintr)) {
		t->counts.interrupted++;
		pthread_mutex_unlock(&t->lock);
		return -EINTR;
	}
	twin_flush_overflow(t);
	steps = t->options.steady ? 32 : t->options.threaded ? 1000 : twin_below(t, 40);
	while (steps-- && twin_work(t))
		;
	if (min_complete)
		code = wait_for(t, min_complete, timeout_ns);
	pthread_mutex_unlock(&t->lock);
	return done ? (int)done : code;
}

static int twin_waker(void *ctx)
{
	struct za_twin *t = ctx;
	int fd;

	pthread_mutex_lock(&t->lock);
	fd = twin_open(t, TWIN_WAKER);
	pthread_mutex_unlock(&t->lock);
	return fd;
}

static void twin_wake(void *ctx, int fd)
{
	struct za_twin *t = ctx;

	pthread_mutex_lock(&t->lock);
	twin_file(t, fd, TWIN_WAKER)->counter++;
	pthread_cond_broadcast(&t->news);
	pthread_mutex_unlock(&t->lock);
}

static void close_ring(struct za_twin *t)
{
	if (t->maps)
		twin_stop("the ring is closed while %u of its regions are mapped", t->maps);
	while (t->first) {
		struct twin_request *request = t->first;

		if (request->opcode == IORING_OP_RECV || request->opcode == ZA_OP_RECV_ZC)
			twin_stop("the ring is closed with a receive armed");
		t->first = request->next;
		free(request);
	}
	t->last = NULL;
	while (t->overflow) {
		struct twin_cqe *waiting = t->overflow;

		t->overflow = waiting->next;
		free(waiting);
	}
	t->overflow_last = NULL;
	twin_zcrx_close(t);
	free(t->ring_map);
	free(t->sqes);
	t->ring_map = NULL;
	t->sqes = NULL;
	t->buffers = NULL;
	t->counts.buffers_held = 0;
	t->ring_fd = -1;
}

static void close_file(void *ctx, int fd)
{
	struct za_twin *t = ctx;
	struct twin_file *file;

	pthread_mutex_lock(&t->lock);
	file = twin_file(t, fd, TWIN_NONE);
	for (struct twin_request *at = t->first; at; at = at->next)
		if (at->fd == fd && (at->opcode == IORING_OP_RECV || at->opcode == ZA_OP_RECV_ZC))
			twin_stop("descriptor %d is closed with a receive armed", fd);
	if (file->kind == TWIN_RING)
		close_ring(t);
	if (file->kind == TWIN_SOCKET)
		t->counts.open_sockets--;
	/* Who waited at a listener that closes is reset, as by the kernel. */
	for (uint32_t i = 0; i < file->waiting_n; i++) {
		struct twin_file *waiting = t->files[file->waiting[i] - TWIN_FIRST_FD];

		free(waiting->bytes);
		waiting->bytes = NULL;
		waiting->closed_here = true;
		t->counts.open_sockets--;
	}
	file->closed_here = true;
	twin_zcrx_purge(t, file);
	free(file->bytes);
	file->bytes = NULL;
	file->n = 0;
	pthread_mutex_unlock(&t->lock);
}

static void twin_bound_socket(void *ctx, int fd, uint32_t bytes)
{
	struct za_twin *t = ctx;

	pthread_mutex_lock(&t->lock);
	twin_file(t, fd, TWIN_SOCKET)->bound = bytes;
	pthread_mutex_unlock(&t->lock);
}

uint32_t za_twin_bound(struct za_twin *t, int fd)
{
	uint32_t bytes;

	pthread_mutex_lock(&t->lock);
	bytes = t->files[fd - TWIN_FIRST_FD]->bound;
	pthread_mutex_unlock(&t->lock);
	return bytes;
}

static void name(struct sockaddr_storage *out, int port)
{
	struct sockaddr_in *v4 = (void *)out;

	memset(out, 0, sizeof(*out));
	v4->sin_family = AF_INET;
	v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	v4->sin_port = htons((uint16_t)port);
}

static void twin_names(void *ctx, int fd, struct sockaddr_storage *local,
		       struct sockaddr_storage *peer)
{
	(void)ctx;
	name(local, 9000);
	name(peer, 10000 + fd);
}

static int64_t twin_now_ns(void *ctx, int clock_id)
{
	struct za_twin *t = ctx;
	int64_t now;

	pthread_mutex_lock(&t->lock);
	now = twin_now(t);
	pthread_mutex_unlock(&t->lock);
	return clock_id == CLOCK_REALTIME ? EPOCH_NS + now : now;
}

const struct za_sys_ops twin_sys_ops = {
	.setup = twin_setup,
	.enter = twin_enter,
	.reg = twin_reg,
	.map = twin_map,
	.unmap = twin_unmap,
	.waker = twin_waker,
	.wake = twin_wake,
	.close_socket = close_file,
	.bound_socket = twin_bound_socket,
	.close = close_file,
	.names = twin_names,
	.now_ns = twin_now_ns,
};

/* --- the test's side ----------------------------------------------------------------------- */

struct za_twin *za_twin_new(const struct za_twin_options *options)
{
	struct za_twin *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;

	t->options = *options;
	t->random = options->seed;
	t->ring_fd = -1;
	t->clock_ns = 1;
	t->accept_failures = options->accept_failures;
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->news, &attr);
	pthread_condattr_destroy(&attr);
	return t;
}

void za_twin_free(struct za_twin *t)
{
	if (t->refill_map)
		twin_stop("the refill ring was never unmapped");
	for (int at = 0; at < t->next_fd; at++) {
		if (!t->files[at]->closed_here)
			twin_stop("descriptor %d was never closed", TWIN_FIRST_FD + at);
		free(t->files[at]);
	}
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->news);
	free(t);
}

struct za_sys za_twin_sys(struct za_twin *t)
{
	return (struct za_sys){.ops = &twin_sys_ops, .ctx = t};
}

int za_twin_listener(struct za_twin *t)
{
	int fd;

	pthread_mutex_lock(&t->lock);
	fd = twin_open(t, TWIN_LISTENER);
	pthread_mutex_unlock(&t->lock);
	return fd;
}

static int open_socket(struct za_twin *t)
{
	int fd = twin_open(t, TWIN_SOCKET);
	struct twin_file *socket = twin_file(t, fd, TWIN_SOCKET);

	socket->capacity = t->options.receive_buffer ? t->options.receive_buffer : 256U << 10;
	socket->bytes = t->options.zcrx ? NULL : malloc(socket->capacity);
	t->counts.open_sockets++;
	return fd;
}

int za_twin_socket(struct za_twin *t)
{
	int fd;

	pthread_mutex_lock(&t->lock);
	fd = open_socket(t);
	pthread_mutex_unlock(&t->lock);
	return fd;
}

int za_twin_connect(struct za_twin *t, int listener)
{
	struct twin_file *file;
	int fd = -ECONNREFUSED;

	pthread_mutex_lock(&t->lock);
	file = t->files[listener - TWIN_FIRST_FD];
	if (!file->closed_here) {
		fd = open_socket(t);
		file->waiting[file->waiting_n++] = fd;
		pthread_cond_broadcast(&t->news);
	}
	pthread_mutex_unlock(&t->lock);
	return fd;
}

size_t za_twin_send(struct za_twin *t, int fd, const void *data, size_t bytes)
{
	struct twin_file *socket;
	const uint8_t *from = data;

	pthread_mutex_lock(&t->lock);
	socket = t->files[fd - TWIN_FIRST_FD];
	if (socket->closed_here || socket->ended || socket->error)
		bytes = 0;
	else if (bytes > socket->capacity - socket->n)
		bytes = socket->capacity - socket->n;
	if (t->options.zcrx)
		bytes = twin_zcrx_arrive(t, socket, from, (uint32_t)bytes);
	for (size_t i = 0; !t->options.zcrx && i < bytes; i++)
		socket->bytes[(socket->head + socket->n++) % socket->capacity] = from[i];
	pthread_cond_broadcast(&t->news);
	pthread_mutex_unlock(&t->lock);
	return bytes;
}

void za_twin_end(struct za_twin *t, int fd)
{
	pthread_mutex_lock(&t->lock);
	t->files[fd - TWIN_FIRST_FD]->ended = true;
	pthread_cond_broadcast(&t->news);
	pthread_mutex_unlock(&t->lock);
}

size_t za_twin_reset(struct za_twin *t, int fd, int error)
{
	struct twin_file *socket;
	size_t lost;

	pthread_mutex_lock(&t->lock);
	socket = t->files[fd - TWIN_FIRST_FD];
	lost = socket->n;
	twin_zcrx_purge(t, socket);
	socket->n = 0;
	socket->error = error;
	pthread_cond_broadcast(&t->news);
	pthread_mutex_unlock(&t->lock);
	return lost;
}

bool za_twin_is_open(struct za_twin *t, int fd)
{
	bool open;

	pthread_mutex_lock(&t->lock);
	open = !t->files[fd - TWIN_FIRST_FD]->closed_here;
	pthread_mutex_unlock(&t->lock);
	return open;
}

void za_twin_advance(struct za_twin *t, int64_t ns)
{
	pthread_mutex_lock(&t->lock);
	t->clock_ns += ns;
	pthread_mutex_unlock(&t->lock);
}

struct za_twin_counts za_twin_counts(struct za_twin *t)
{
	struct za_twin_counts counts;

	pthread_mutex_lock(&t->lock);
	counts = t->counts;
	pthread_mutex_unlock(&t->lock);
	return counts;
}

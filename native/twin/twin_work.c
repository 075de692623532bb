/* SPDX-License-Identifier: Apache-2.0 */
/* twin_work.c - what the kernel does between two enters: requests progress and complete. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "twin_internal.h"

/* --- completions --------------------------------------------------------------------------- */

static uint32_t *cq_head(struct za_twin *t)
{
	return (uint32_t *)(void *)(t->ring_map + t->params.cq_off.head);
}

static uint32_t *cq_tail(struct za_twin *t)
{
	return (uint32_t *)(void *)(t->ring_map + t->params.cq_off.tail);
}

uint32_t twin_cq_ready(struct za_twin *t)
{
	return *cq_tail(t) - __atomic_load_n(cq_head(t), __ATOMIC_ACQUIRE);
}

static struct io_uring_cqe *cqe_at(struct za_twin *t, uint32_t at)
{
	size_t place = at & (t->params.cq_entries - 1);

	return (void *)(t->ring_map + t->params.cq_off.cqes + place * twin_cqe_bytes(t));
}

bool twin_cq_post(struct za_twin *t, const struct twin_big_cqe *cqe)
{
	uint32_t tail = *cq_tail(t);

	/* While some wait outside, new ones queue up behind them: order is kept. */
	if (t->overflow || twin_cq_ready(t) == t->params.cq_entries)
		return false;
	memcpy(cqe_at(t, tail), cqe, twin_cqe_bytes(t));
	__atomic_store_n(cq_tail(t), tail + 1, __ATOMIC_RELEASE);
	return true;
}

void twin_each_unreaped(struct za_twin *t, uint32_t *lent)
{
	for (uint32_t at = __atomic_load_n(cq_head(t), __ATOMIC_ACQUIRE); at != *cq_tail(t); at++)
		twin_zcrx_count_unreaped(t, cqe_at(t, at), lent);
}

static void cq_overflow(struct za_twin *t, const struct twin_big_cqe *cqe)
{
	struct twin_cqe *waiting = calloc(1, sizeof(*waiting));

	memcpy(&waiting->cqe, cqe, sizeof(*cqe));
	if (t->overflow_last)
		t->overflow_last->next = waiting;
	else
		t->overflow = waiting;
	t->overflow_last = waiting;
	t->counts.overflows++;
}

/* A last completion is never lost (IORING_FEAT_NODROP). */
void twin_post(struct za_twin *t, uint64_t user_data, int32_t res, uint32_t flags)
{
	struct twin_big_cqe cqe = {.cqe = {.user_data = user_data, .res = res, .flags = flags}};

	if (!twin_cq_post(t, &cqe))
		cq_overflow(t, &cqe);
}

bool twin_flush_overflow(struct za_twin *t)
{
	bool any = false;

	while (t->overflow && twin_cq_ready(t) < t->params.cq_entries) {
		struct twin_cqe *first = t->overflow;

		t->overflow = NULL;
		twin_cq_post(t, &first->cqe);
		t->overflow = first->next;
		if (!t->overflow)
			t->overflow_last = NULL;
		free(first);
		any = true;
	}
	return any;
}

/* --- requests ------------------------------------------------------------------------------ */

static void remove_request(struct za_twin *t, struct twin_request *request)
{
	struct twin_request **at = &t->first, *before = NULL;

	while (*at != request) {
		before = *at;
		at = &(*at)->next;
	}
	*at = request->next;
	if (t->last == request)
		t->last = before;
	free(request);
}

void twin_to_the_end(struct za_twin *t, struct twin_request *request)
{
	struct twin_request **at = &t->first;

	if (t->last == request)
		return;
	while (*at != request)
		at = &(*at)->next;
	*at = request->next;
	request->next = NULL;
	t->last->next = request;
	t->last = request;
}

bool twin_complete(struct za_twin *t, struct twin_request *request, int32_t res, uint32_t flags)
{
	twin_post(t, request->user_data, res, flags);
	remove_request(t, request);
	return true;
}

void twin_cancel(struct za_twin *t, uint64_t user_data, uint64_t target)
{
	for (struct twin_request *at = t->first; at; at = at->next)
		if (at->user_data == target) {
			/* A request that is between two tries is in no list that a cancel looks at. */
			if (twin_chance(t, t->options.failing_cancels)) {
				twin_post(t, user_data, twin_below(t, 2) ? -ENOENT : -EALREADY, 0);
				return;
			}
			t->counts.cancelled++;
			/* The answer first: the request itself ends in deferred work. */
			twin_post(t, user_data, 0, 0);
			twin_complete(t, at, -ECANCELED, 0);
			return;
		}
	twin_post(t, user_data, -ENOENT, 0);
}

static bool work_read(struct za_twin *t, struct twin_request *request)
{
	struct twin_file *waker = twin_file(t, request->fd, TWIN_WAKER);

	if (!waker->counter)
		return false;
	memcpy((void *)(uintptr_t)request->addr, &waker->counter, sizeof(waker->counter));
	waker->counter = 0;
	return twin_complete(t, request, sizeof(waker->counter), 0);
}

static bool work_accept(struct za_twin *t, struct twin_request *request)
{
	struct twin_file *listener = twin_file(t, request->fd, TWIN_LISTENER);
	struct twin_big_cqe cqe = {
		.cqe = {.user_data = request->user_data, .flags = ZA_CQE_F_MORE}};

	if (!listener->waiting_n)
		return false;
	if (t->accept_failures) {
		t->accept_failures--;
		return twin_complete(t, request, -EMFILE, 0);
	}
	cqe.cqe.res = listener->waiting[0];
	listener->waiting_n--;
	memmove(listener->waiting, listener->waiting + 1,
		listener->waiting_n * sizeof(listener->waiting[0]));
	if (!twin_cq_post(t, &cqe))
		return twin_complete(t, request, cqe.cqe.res, 0);
	return true;
}

/* How many bytes this receive finds: what has arrived depends on the network's mood. */
static uint32_t fragment_bytes(struct za_twin *t)
{
	uint32_t most = t->options.max_fragment ? t->options.max_fragment : 1U << 20;

	if (t->options.whole_fragments)
		return most;
	switch (twin_below(t, 4)) {
	case 0:
		return 1 + (uint32_t)twin_below(t, 4);
	case 1:
		return 1 + (uint32_t)twin_below(t, most < 200 ? most : 200);
	case 2:
		return 1 + (uint32_t)twin_below(t, most);
	default:
		return most;
	}
}

static bool receive_bytes(struct za_twin *t, struct twin_request *request, struct twin_file *socket)
{
	struct twin_big_cqe cqe = {.cqe = {.user_data = request->user_data}};
	uint32_t flags;

	cqe.cqe.res = (int32_t)twin_fill(t, socket, fragment_bytes(t), &flags);
	t->counts.received++;
	t->counts.bytes += (uint32_t)cqe.cqe.res;
	if (socket->n)
		flags |= ZA_CQE_F_SOCK_NONEMPTY;
	cqe.cqe.flags = flags | ZA_CQE_F_MORE;
	/* A multishot request whose completion does not fit ends with it. */
	if (twin_chance(t, t->options.spurious_end) || !twin_cq_post(t, &cqe))
		return twin_complete(t, request, cqe.cqe.res, flags);
	if (++request->in_a_row >= RECEIVES_IN_A_ROW) {
		request->in_a_row = 0;
		twin_to_the_end(t, request);
	}
	return true;
}

static bool work_receive(struct za_twin *t, struct twin_request *request)
{
	struct twin_file *socket = twin_file(t, request->fd, TWIN_SOCKET);
	bool first = !request->tried;

	request->tried = true;
	if (!first && !socket->n && !socket->ended && !socket->error)
		return false;
	/* The kernel takes a buffer before it looks at the socket: without one a request ends,
	 * also when there is nothing to receive but the end. */
	if (!twin_has_buffer(t) || (socket->n && twin_chance(t, t->options.spurious_nobufs))) {
		t->counts.nobufs++;
		return twin_complete(t, request, -ENOBUFS, 0);
	}
	if (socket->error) {
		int error = socket->error;

		socket->error = 0; /* reported once, then end of stream: as sk->sk_err */
		socket->ended = true;
		return twin_complete(t, request, error, 0);
	}
	if (socket->n)
		return receive_bytes(t, request, socket);
	return socket->ended && twin_complete(t, request, 0, 0);
}

int64_t twin_now(struct za_twin *t)
{
	struct timespec ts;

	if (!t->options.threaded)
		return t->clock_ns;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t twin_next_due(struct za_twin *t)
{
	int64_t due = INT64_MAX;

	for (struct twin_request *at = t->first; at; at = at->next)
		if (at->opcode == IORING_OP_TIMEOUT && at->due_ns < due)
			due = at->due_ns;
	return due;
}

static bool progress(struct za_twin *t, struct twin_request *request)
{
	switch (request->opcode) {
	case IORING_OP_READ:
		return work_read(t, request);
	case IORING_OP_ACCEPT:
		return work_accept(t, request);
	case IORING_OP_RECV:
		return work_receive(t, request);
	case ZA_OP_RECV_ZC:
		return twin_zcrx_receive(t, request);
	case IORING_OP_TIMEOUT:
		return twin_now(t) >= request->due_ns && twin_complete(t, request, -ETIME, 0);
	default:
		return false;
	}
}

/* One request makes one step of progress; in stepped runs a random one of those that can. */
bool twin_work(struct za_twin *t)
{
	uint64_t skip = t->options.threaded || t->options.steady ? 0 : twin_below(t, 4);

	for (int round = 0; round < 2; round++) {
		for (struct twin_request *at = t->first, *next; at; at = next) {
			next = at->next;
			if (round == 0 && skip) {
				skip--;
				continue;
			}
			if (progress(t, at))
				return true;
		}
	}
	return false;
}

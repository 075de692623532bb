/* SPDX-License-Identifier: Apache-2.0 */
#include "receiver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../error.h"
#include "../wait.h"

#define SQ_ENTRIES 256
#define CQ_ENTRIES 4096
#define PAUSE_GRACE_NS 1000000LL /* a consumer that is a little late costs no cancel */
#define PAUSE_LOOK_NS 100000000LL
#define NAP_NS 50000LL

_Static_assert(ZA_NOTICE_DATA >> 56 == ZA_REQUEST_NOTICE, "transport.h knows the number only");

/* --- requests ------------------------------------------------------------------------------ */

uint64_t za_request_data(enum za_request_kind kind, uint32_t generation, uint32_t slot)
{
	return (uint64_t)kind << 56 | (uint64_t)generation << 32 | slot;
}

struct io_uring_sqe *za_receiver_sqe(struct za_receiver *r, uint64_t user_data)
{
	struct io_uring_sqe *sqe = za_ring_sqe(&r->ring);

	if (sqe)
		sqe->user_data = user_data;
	else
		r->retry = true;
	return sqe;
}

/* The answer to a cancel names its target. */
static uint64_t cancel_data(uint64_t target)
{
	enum za_request_kind kind = (enum za_request_kind)(target >> 56);

	if (kind == ZA_REQUEST_RECEIVE)
		return za_request_data(ZA_REQUEST_CANCEL, (uint32_t)(target >> 32) & 0xFFFFFF,
				       (uint32_t)target);
	return za_request_data(ZA_REQUEST_CANCEL_SINGLE, 0, (uint32_t)kind);
}

bool za_receiver_cancel(struct za_receiver *r, uint64_t user_data)
{
	struct io_uring_sqe *sqe = za_receiver_sqe(r, cancel_data(user_data));

	if (!sqe)
		return false;
	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->addr = user_data;
	return true;
}

static void arm_waker(struct za_receiver *r)
{
	struct io_uring_sqe *sqe;

	if (r->waker_armed)
		return;
	sqe = za_receiver_sqe(r, za_request_data(ZA_REQUEST_WAKER, 0, 0));
	if (!sqe)
		return;
	sqe->opcode = IORING_OP_READ;
	sqe->fd = r->waker_fd;
	sqe->addr = (uint64_t)(uintptr_t)&r->waker_value;
	sqe->len = sizeof(r->waker_value);
	r->waker_armed = true;
	r->in_flight++;
}

/* Sees to it that something completes in at most `ns`. Returns what to wait for at the most: -1 if
 * the alarm does it. */
static int64_t set_alarm(struct za_receiver *r, int64_t ns)
{
	int64_t due = r->sys.ops->now_ns(r->sys.ctx, CLOCK_MONOTONIC) + ns;
	struct io_uring_sqe *sqe;

	if (r->alarm.armed)
		return r->alarm.due_ns <= due ? -1 : ns;
	sqe = za_receiver_sqe(r, za_request_data(ZA_REQUEST_ALARM, 0, 0));
	if (!sqe)
		return ns;
	r->alarm.delay.tv_sec = ns / 1000000000;
	r->alarm.delay.tv_nsec = ns % 1000000000;
	sqe->opcode = IORING_OP_TIMEOUT;
	sqe->fd = -1;
	sqe->addr = (uint64_t)(uintptr_t)&r->alarm.delay;
	sqe->len = 1;
	r->alarm.armed = true;
	r->alarm.due_ns = due;
	r->in_flight++;
	return -1;
}

/* --- being told things --------------------------------------------------------------------- */

void za_receiver_wake(struct za_receiver *r)
{
	/* seq_cst, after the caller has published what there is to see. The receiver stores asleep
	 * and then looks: either it sees that, or this exchange sees it asleep. */
	if (atomic_exchange(&r->asleep, 0)) {
		za_count_shared(&r->stats->wakes, 1);
		r->sys.ops->wake(r->sys.ctx, r->waker_fd);
	}
}

static void wake_for_chunk(void *receiver)
{
	za_receiver_wake(receiver);
}

void za_receiver_hungry(struct za_receiver *r)
{
	if (atomic_load(&r->pending))
		za_receiver_wake(r);
}

/* The inbox has changed. */
static void inbox_news(struct za_receiver *r)
{
	atomic_store(&r->inbox.news, 1);
	za_receiver_wake(r);
	za_queue_stir(r->queue); /* it may be waiting there */
}

int za_receiver_add(struct za_receiver *r, int fd, uint32_t *id)
{
	struct za_inbox *inbox = &r->inbox;
	int code = 0;

	pthread_mutex_lock(&inbox->lock);
	if (inbox->stop) {
		code = -ESHUTDOWN;
	} else if (za_read(&r->stats->connections) + inbox->n >= r->config.max_connections) {
		code = -ENOBUFS;
	} else if (inbox->n == inbox->capacity) {
		uint32_t capacity = inbox->capacity ? inbox->capacity * 2 : 16;
		void *moved = realloc(inbox->arrivals, capacity * sizeof(*inbox->arrivals));

		if (moved) {
			inbox->arrivals = moved;
			inbox->capacity = capacity;
		} else {
			code = -ENOMEM;
		}
	}
	if (!code) {
		*id = za_conns_next_id(&r->conns);
		inbox->arrivals[inbox->n++] = (struct za_arrival){.id = *id, .fd = fd};
	}
	pthread_mutex_unlock(&inbox->lock);
	if (!code)
		inbox_news(r);
	return code;
}

int za_receiver_dismiss(struct za_receiver *r, uint32_t id, const char *detail)
{
	struct za_inbox *inbox = &r->inbox;
	struct za_dismissal *one = calloc(1, sizeof(*one));

	if (!one)
		return -ENOMEM;
	one->id = id;
	(void)snprintf(one->detail, sizeof(one->detail), "%s", detail);
	pthread_mutex_lock(&inbox->lock);
	one->next = inbox->dismissals;
	inbox->dismissals = one;
	pthread_mutex_unlock(&inbox->lock);
	inbox_news(r);
	return 0;
}

int za_receiver_listen(struct za_receiver *r, int fd)
{
	int code = 0;

	pthread_mutex_lock(&r->inbox.lock);
	if (r->inbox.stop)
		code = -ESHUTDOWN;
	else if (r->inbox.listen_fd >= 0)
		code = -EBUSY;
	else
		r->inbox.listen_fd = fd;
	pthread_mutex_unlock(&r->inbox.lock);
	if (!code)
		inbox_news(r);
	return code;
}

static void set_error(struct za_receiver *r, int code, const char *step, const char *detail)
{
	pthread_mutex_lock(&r->error_lock);
	if (!r->error.code)
		za_fail(&r->error, code, step, "%s", detail);
	pthread_mutex_unlock(&r->error_lock);
}

void za_receiver_finish(struct za_receiver *r, int code, const char *detail)
{
	if (code < 0)
		set_error(r, code, "connect", detail ? detail : "");
	pthread_mutex_lock(&r->inbox.lock);
	r->inbox.finish = true;
	pthread_mutex_unlock(&r->inbox.lock);
	inbox_news(r);
}

void za_receiver_stop(struct za_receiver *r, bool discard)
{
	pthread_mutex_lock(&r->inbox.lock);
	r->inbox.stop = true;
	r->inbox.discard |= discard;
	pthread_mutex_unlock(&r->inbox.lock);
	inbox_news(r);
}

static void free_dismissals(struct za_dismissal *first)
{
	while (first) {
		struct za_dismissal *next = first->next;

		free(first);
		first = next;
	}
}

static void read_inbox(struct za_receiver *r)
{
	struct za_inbox *inbox = &r->inbox;
	struct za_dismissal *dismissals;

	if (!atomic_exchange(&inbox->news, 0))
		return;
	pthread_mutex_lock(&inbox->lock);
	r->stopping |= inbox->stop;
	r->discarding |= inbox->discard;
	for (uint32_t i = 0; i < inbox->n; i++)
		za_receiver_open(r, inbox->arrivals[i].id, inbox->arrivals[i].fd);
	inbox->n = 0;
	dismissals = inbox->dismissals;
	inbox->dismissals = NULL;
	r->finished |= inbox->finish;
	if (inbox->listen_fd >= 0) {
		r->listener = (struct za_listener){.fd = inbox->listen_fd};
		inbox->listen_fd = -1;
	}
	pthread_mutex_unlock(&inbox->lock);
	for (struct za_dismissal *one = dismissals; one; one = one->next)
		za_receive_dismiss(r, one->id, one->detail);
	free_dismissals(dismissals);
}

void za_receiver_event(struct za_receiver *r, enum za_event_kind kind, uint32_t connection,
		       int error, uint64_t value)
{
	za_events_add(r->events, (struct za_event){
					 .kind = kind,
					 .connection = connection,
					 .error = -error,
					 .value = value,
					 .at_ns = r->sys.ops->now_ns(r->sys.ctx, CLOCK_REALTIME),
				 });
}

void za_receiver_fail(struct za_receiver *r, int code, const char *step, const char *detail)
{
	set_error(r, code, step, detail);
	if (!r->discarding)
		za_receiver_event(r, ZA_EVENT_FAILED, 0, code, 0);
	r->stopping = true;
	r->discarding = true;
}

/* --- the loop ------------------------------------------------------------------------------ */

static void pauses(struct za_receiver *r, int64_t now)
{
	if (r->paused)
		return;
	r->paused = true;
	r->paused_ns = now;
	za_gauge(&r->stats->paused, 1);
	za_count(&r->stats->stalls, 1);
}

/* No chunk is free and none can become so by copying out, since nobody pulls. */
static bool stuck(struct za_receiver *r)
{
	return za_read(&r->starved_since_ns) && za_queue_full(r->queue);
}

static void resumed(struct za_receiver *r)
{
	int64_t paused_ns = r->sys.ops->now_ns(r->sys.ctx, CLOCK_MONOTONIC) - r->paused_ns;

	r->paused = false;
	za_gauge(&r->stats->paused, 0);
	za_count(&r->stats->stalled_ns, (uint64_t)paused_ns);
	if (r->pause_cancelled)
		za_receiver_event(r, ZA_EVENT_RESUMED, 0, 0, (uint64_t)paused_ns);
	r->pause_cancelled = false;
}

/* A full batch has nowhere to go. The completion queue is left as it is: what has arrived waits
 * there in its order, and after a moment nothing more is asked for, so that the TCP windows close
 * and the peers wait. */
static enum za_step blocked(struct za_receiver *r)
{
	int64_t now = r->sys.ops->now_ns(r->sys.ctx, CLOCK_MONOTONIC);

	if (!r->paused) {
		pauses(r, now);
	} else if (!r->pause_cancelled && now - r->paused_ns >= PAUSE_GRACE_NS) {
		r->pause_cancelled = true;
		za_receiver_event(r, ZA_EVENT_PAUSED, 0, 0, 0);
		za_receive_cancel_all(r);
		(void)za_ring_enter(&r->ring, 0, -1);
	}
	return ZA_STEP_BLOCKED;
}

/* Either it has ended, and says so itself, or it goes on and is asked again: by wind_up(), or here,
 * the listener, since nobody else would. */
static void single_not_cancelled(struct za_receiver *r, enum za_request_kind kind)
{
	if (kind == ZA_REQUEST_WAKER)
		r->waker_cancelling = false;
	if (kind == ZA_REQUEST_ALARM)
		r->alarm.cancelling = false;
	if (kind == ZA_REQUEST_ACCEPT && r->listener.cancelling) {
		r->listener.cancelling = false;
		za_listener_close(r);
	}
}

static void completed(struct za_receiver *r, const struct za_completion *cqe)
{
	switch (cqe->user_data >> 56) {
	case ZA_REQUEST_WAKER:
		r->waker_armed = false;
		r->waker_cancelling = false;
		r->in_flight--;
		break;
	case ZA_REQUEST_ALARM:
		r->alarm.armed = false;
		r->alarm.cancelling = false;
		r->in_flight--;
		break;
	case ZA_REQUEST_ACCEPT:
		za_listener_completed(r, cqe);
		break;
	case ZA_REQUEST_NOTICE:
		if (r->transport.ops->notice)
			r->transport.ops->notice(&r->transport, cqe->res);
		break;
	case ZA_REQUEST_CANCEL:
		if (cqe->res == -ENOENT || cqe->res == -EALREADY)
			za_receive_not_cancelled(r, cqe);
		break;
	case ZA_REQUEST_CANCEL_SINGLE:
		if (cqe->res == -ENOENT || cqe->res == -EALREADY)
			single_not_cancelled(r, (enum za_request_kind)(uint32_t)cqe->user_data);
		break;
	default:
		break;
	}
}

/* Handles what has completed; false: blocked in the middle. */
static bool reap(struct za_receiver *r)
{
	uint64_t before = za_read(&r->stats->bytes);
	bool all = true;
	struct za_completion cqe;

	r->now_ns = r->sys.ops->now_ns(r->sys.ctx, CLOCK_MONOTONIC);
	r->now_real_ns = r->sys.ops->now_ns(r->sys.ctx, CLOCK_REALTIME);
	while (all && za_ring_next(&r->ring, &cqe)) {
		if (cqe.user_data >> 56 != ZA_REQUEST_RECEIVE)
			completed(r, &cqe);
		else
			all = za_receive_completed(r, &cqe);
	}
	za_emit_count_rate(r, za_read(&r->stats->bytes) - before);
	return all;
}

static int64_t shorter(int64_t a, int64_t b)
{
	if (a < 0 || b < 0)
		return a < 0 ? b : a;
	return a < b ? a : b;
}

/* Whether nothing can arrive until a chunk is returned; whoever returns one then wakes us. */
static bool look_for_chunks(struct za_receiver *r)
{
	bool starved = r->transport.ops->starved(&r->transport);

	if (starved && !za_read(&r->starved_since_ns)) {
		uint64_t now = (uint64_t)za_monotonic_ns();

		za_count(&r->stats->starved, 1);
		za_gauge(&r->starved_since_ns, now);
		if (!r->starved_said_ns || now - r->starved_said_ns > 1000000000) {
			r->starved_said_ns = now;
			za_receiver_event(r, ZA_EVENT_STARVED, 0, 0, 0);
		}
	} else if (!starved) {
		za_gauge(&r->starved_since_ns, 0);
	}
	return starved;
}

/* How long to wait for completions: 0 not at all, -1 until there is one. */
static int64_t patience_ns(struct za_receiver *r, bool starved)
{
	int64_t ns = za_emit_patience_ns(r);

	if (r->retry || (r->arm_first && !starved))
		return 0;
	if (r->listener.fd >= 0 && !r->listener.armed && !r->stopping)
		ns = shorter(ns, r->listener.retry_ns > r->now_ns ? r->listener.retry_ns - r->now_ns
								  : 0);
	if (r->transport.ops->patience_ns)
		ns = shorter(ns, r->transport.ops->patience_ns(&r->transport));
	return ns;
}

/* True if something has come up since we looked: there is no sleeping then. Called with `asleep`
 * set, see za_receiver_wake(). */
static bool look_again(struct za_receiver *r, bool starved)
{
	return atomic_load(&r->inbox.news) ||
	       (atomic_load(&r->pending) && za_queue_hungry(r->queue)) ||
	       /* A chunk that came before `asleep` was set has woken nobody. */
	       (starved && !r->transport.ops->starved(&r->transport));
}

/* At high rates the kernel would wake us for every few segments, and that costs more than handling
 * them. A nap lets the sockets fill instead, and the next system call empties them at once. Only
 * while bytes keep coming and the chunks on offer last. */
static bool may_nap(struct za_receiver *r)
{
	uint64_t bytes = za_read(&r->stats->bytes), nobufs = za_read(&r->stats->nobufs);
	bool came = bytes != r->nap_bytes, dry = nobufs != r->nap_nobufs;

	r->nap_bytes = bytes;
	r->nap_nobufs = nobufs;
	return r->busy && came && !dry;
}

/* Submits and waits. */
static void wait_for_completions(struct za_receiver *r)
{
	bool starved = look_for_chunks(r);
	int64_t ns = patience_ns(r, starved);
	bool rows = r->cutter.batch && za_batch_rows(r->cutter.batch); /* they may just have left */
	int code;

	r->retry = false;
	atomic_store(&r->gathering, rows);
	if (stuck(r))
		pauses(r, r->sys.ops->now_ns(r->sys.ctx, CLOCK_MONOTONIC));
	if (ns) {
		atomic_store(&r->pending, rows && !r->busy);
		atomic_store(&r->asleep, 1);
		if (look_again(r, starved))
			ns = 0;
	}
	if (ns && may_nap(r)) {
		/* More completions than can be: it is the time that ends the nap. Nobody needs to
		 * wake us from it, since every step looks at everything. */
		atomic_store(&r->asleep, 0);
		code = za_ring_enter(&r->ring, r->ring.cq_entries,
				     ns > 0 && ns < NAP_NS ? ns : NAP_NS);
	} else {
		if (ns > 0)
			ns = set_alarm(r, ns);
		code = za_ring_enter(&r->ring, ns ? 1 : 0, ns);
	}
	za_count(&r->stats->enters, 1);
	atomic_store(&r->gathering, 1);
	atomic_store(&r->asleep, 0);
	atomic_store(&r->pending, 0);
	if (code && code != -ETIME && code != -EINTR)
		za_receiver_fail(r, code, "io_uring_enter", "the kernel does not serve the ring");
}

/* Receiving is over: every request ends, every connection closes, the last rows leave. */
static enum za_step wind_up(struct za_receiver *r)
{
	if (r->discarding) {
		za_receive_abandon(r);
		za_emit_discard(r);
	}
	za_listener_close(r);
	za_receive_cancel_all(r);
	if (r->waker_armed && !r->waker_cancelling)
		r->waker_cancelling =
			za_receiver_cancel(r, za_request_data(ZA_REQUEST_WAKER, 0, 0));
	if (r->alarm.armed && !r->alarm.cancelling)
		r->alarm.cancelling =
			za_receiver_cancel(r, za_request_data(ZA_REQUEST_ALARM, 0, 0));
	if (r->in_flight) {
		int code = za_ring_enter(&r->ring, 1, -1);

		if (code && code != -ETIME && code != -EINTR) {
			/* A ring that does not answer will not write either once it is closed. */
			za_receiver_fail(r, code, "io_uring_enter", "the ring is broken");
			r->in_flight = 0;
		}
		return reap(r) ? ZA_STEP_AGAIN : ZA_STEP_BLOCKED;
	}
	za_receive_close_all(r);
	if (!za_emit_flush(r) && !r->discarding)
		return ZA_STEP_BLOCKED;
	za_emit_discard(r);
	return ZA_STEP_ENDED;
}

static bool nothing_to_come(struct za_receiver *r)
{
	return r->finished && r->listener.fd < 0 && !r->conns.open && !atomic_load(&r->inbox.news);
}

enum za_step za_receiver_step(struct za_receiver *r)
{
	read_inbox(r);
	if (r->discarding)
		za_receive_abandon(r);
	if (!za_receive_resume(r))
		return blocked(r);
	if (r->paused && !stuck(r))
		resumed(r);
	if (r->stopping || nothing_to_come(r)) {
		r->stopping = true;
		return wind_up(r);
	}
	arm_waker(r);
	za_listener_arm(r);
	r->transport.ops->replenish(&r->transport);
	za_receive_arm_waiting(r);
	wait_for_completions(r);
	if (!reap(r))
		return blocked(r);
	za_emit_drained(r);
	return ZA_STEP_AGAIN;
}

void za_receiver_run(struct za_receiver *r)
{
	enum za_step step;

	while ((step = za_receiver_step(r)) != ZA_STEP_ENDED)
		if (step == ZA_STEP_BLOCKED)
			za_queue_wait_room(r->queue,
					   r->pause_cancelled ? PAUSE_LOOK_NS : PAUSE_GRACE_NS);
}

/* --- beginning and end --------------------------------------------------------------------- */

int za_receiver_init(struct za_receiver *r, const struct za_config *config,
		     const struct za_sys *sys, struct za_queue *queue, struct za_events *events,
		     struct za_error *error)
{
	struct za_batch_layout layout = {
		.payload = config->payload,
		.with_offsets = config->framing.kind == ZA_FRAMING_RAW,
		.max_rows = config->max_batch_rows,
		.max_bytes = config->max_batch_bytes,
	};
	int code;

	r->config = *config;
	r->sys = *sys;
	r->queue = queue;
	r->events = events;
	r->listener.fd = -1;
	r->inbox.listen_fd = -1;
	r->waker_fd = -1;
	r->ring.fd = -1;
	pthread_mutex_init(&r->inbox.lock, NULL);
	pthread_mutex_init(&r->error_lock, NULL);
	code = za_cutter_init(&r->cutter, config, error);
	if (code)
		return code;
	code = za_area_new(config->area_bytes, config->chunk_bytes, config->huge_pages, error,
			   &r->area);
	if (code)
		return code;
	r->stats = &r->area->stats;
	r->cutter.area = r->area;
	r->area->pool = za_batch_pool_new(&layout);
	code = r->area->pool
		       ? za_conns_init(&r->conns, config->max_connections, config->closed_history)
		       : -ENOMEM;
	if (code)
		return za_fail(error, code, "connections", "no memory for %u connections",
			       config->max_connections);
	r->waker_fd = sys->ops->waker(sys->ctx);
	if (r->waker_fd < 0)
		return za_fail(error, r->waker_fd, "eventfd", "no descriptor for waking up");
	return 0;
}

static void close_arrivals(struct za_receiver *r)
{
	for (uint32_t i = 0; i < r->inbox.n; i++)
		r->sys.ops->close_socket(r->sys.ctx, r->inbox.arrivals[i].fd);
	r->inbox.n = 0;
	if (r->inbox.listen_fd >= 0)
		r->sys.ops->close(r->sys.ctx, r->inbox.listen_fd);
	r->inbox.listen_fd = -1;
}

void za_receiver_fini(struct za_receiver *r)
{
	close_arrivals(r);
	free_dismissals(r->inbox.dismissals);
	if (r->waker_fd >= 0)
		r->sys.ops->close(r->sys.ctx, r->waker_fd);
	za_conns_fini(&r->conns);
	free(r->inbox.arrivals);
	pthread_mutex_destroy(&r->inbox.lock);
	pthread_mutex_destroy(&r->error_lock);
	if (r->area)
		za_area_put(r->area);
}

int za_receiver_setup(struct za_receiver *r, struct za_error *error)
{
	static const struct za_transport_ops *const transports[] = {
		[ZA_TRANSPORT_COPY] = &za_transport_copy,
		[ZA_TRANSPORT_ZCRX] = &za_transport_zcrx,
		[ZA_TRANSPORT_NODEV] = &za_transport_nodev,
	};
	struct za_waker waker = {.wake = wake_for_chunk, .arg = r};
	int code;

	r->transport = (struct za_transport){
		.ops = transports[r->config.transport], .area = r->area, .ring = &r->ring};
	code = za_ring_init(&r->ring, &r->sys, SQ_ENTRIES, CQ_ENTRIES, r->transport.ops->ring_flags,
			    error);
	if (code)
		return code;
	code = r->transport.ops->start(&r->transport, &r->config, waker, error);
	if (code)
		za_ring_fini(&r->ring);
	r->now_ns = r->sys.ops->now_ns(r->sys.ctx, CLOCK_MONOTONIC);
	return code;
}

void za_receiver_teardown(struct za_receiver *r)
{
	int code;

	/* All requests have ended, so nothing writes to the area any more; the ring goes first, so
	 * that the buffer ring is nobody's when its chunks are taken back. */
	za_ring_fini(&r->ring);
	r->transport.ops->stop(&r->transport);
	za_gauge(&r->starved_since_ns, 0);
	pthread_mutex_lock(&r->inbox.lock);
	r->inbox.stop = true;
	close_arrivals(r);
	pthread_mutex_unlock(&r->inbox.lock);
	pthread_mutex_lock(&r->error_lock);
	code = r->error.code;
	pthread_mutex_unlock(&r->error_lock);
	za_queue_end(r->queue, code);
	za_receiver_event(r, ZA_EVENT_ENDED, 0, 0, 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - the public interface: a receiver thread, its queue, and whoever pulls. */
#include "source.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "config.h"
#include "error.h"
#include "export/schema.h"
#include "wait.h"

/* Pullers wait in steps, so that exit and signals are seen whoever holds which lock meanwhile. */
#define WAIT_STEP_NS 50000000LL

/* --- life ---------------------------------------------------------------------------------- */

static void *receiver_main(void *arg)
{
	struct za_source *source = arg;
	struct za_receiver *receiver = &source->receiver;
	int code;

	prctl(PR_SET_NAME, "zcrx-receiver");
	/* The ring's only submitter is whoever sets it up: this thread. */
	code = za_receiver_setup(receiver, &source->setup_error);
	source->setup_code = code;
	atomic_store(&source->setup_done, 1);
	za_wake(&source->setup_done, INT_MAX);
	if (code)
		return NULL;
	za_receiver_run(receiver);
	za_receiver_teardown(receiver);
	return NULL;
}

/* Signals are for the program's own threads. */
static int start_thread(struct za_source *source)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(&source->thread, NULL, receiver_main, source);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -code;
}

static void source_free(struct za_source *source)
{
	za_queue_fini(&source->queue);
	za_events_fini(&source->events);
	za_receiver_fini(&source->receiver);
	pthread_mutex_destroy(&source->close_lock);
	free(source);
}

static int source_init(struct za_source *source, const struct za_config *config,
		       const struct za_sys *sys, struct za_error *error)
{
	int code = za_receiver_init(&source->receiver, config, sys, &source->queue, &source->events,
				    error);

	if (code)
		return code;
	code = za_queue_init(&source->queue, config->queue_batches);
	if (!code)
		code = za_events_init(&source->events, source->receiver.stats);
	return code ? za_fail(error, code, "queue", "out of memory") : 0;
}

int za_source_new(const struct za_config *config, const struct za_sys *sys, struct za_error *error,
		  struct za_source **out)
{
	struct za_sys linux_sys = za_sys_linux();
	struct za_source *source;
	int code = za_config_check(config, error);

	if (code)
		return code;
	source = calloc(1, sizeof(*source));
	if (!source)
		return za_fail(error, -ENOMEM, "source", "out of memory");
	atomic_init(&source->shares, 1);
	pthread_mutex_init(&source->close_lock, NULL);
	code = source_init(source, config, sys ? sys : &linux_sys, error);
	if (code) {
		source_free(source);
		return code;
	}
	code = start_thread(source);
	if (code) {
		source_free(source);
		return za_fail(error, code, "thread", "the receiver thread cannot be started");
	}
	while (!atomic_load(&source->setup_done))
		za_wait(&source->setup_done, 0, WAIT_STEP_NS);
	if (source->setup_code) {
		code = source->setup_code;
		pthread_join(source->thread, NULL);
		if (error)
			*error = source->setup_error;
		source_free(source);
		return code;
	}
	*out = source;
	return 0;
}

bool za_source_mine(const struct za_source *source)
{
	return za_owner_is_me(&source->receiver.area->owner);
}

struct za_source *za_source_take(struct za_source *source)
{
	atomic_fetch_add_explicit(&source->shares, 1, memory_order_relaxed);
	return source;
}

void za_source_put(struct za_source *source)
{
	/* acq_rel: all use of the source happens before it is freed. */
	if (atomic_fetch_sub_explicit(&source->shares, 1, memory_order_acq_rel) != 1)
		return;
	/* In a forked child there is no receiver thread to join, and locks may be held by threads
	 * that do not exist: its copy is left alone. */
	if (!za_source_mine(source))
		return;
	za_source_close(source);
	source_free(source);
}

void za_source_stop(struct za_source *source)
{
	if (za_source_mine(source))
		za_receiver_stop(&source->receiver, false);
}

void za_source_close(struct za_source *source)
{
	if (!za_source_mine(source))
		return;
	pthread_mutex_lock(&source->close_lock);
	if (!source->closed) {
		za_receiver_stop(&source->receiver, true);
		pthread_join(source->thread, NULL);
		za_count_shared(&source->receiver.stats->discarded_rows,
				za_queue_clear(&source->queue));
		za_queue_stir(&source->queue);
		source->closed = true;
	}
	pthread_mutex_unlock(&source->close_lock);
}

int za_source_listen(struct za_source *source, int fd)
{
	return za_source_mine(source) ? za_receiver_listen(&source->receiver, fd) : -EOWNERDEAD;
}

int za_source_add(struct za_source *source, int fd, uint32_t *id)
{
	return za_source_mine(source) ? za_receiver_add(&source->receiver, fd, id) : -EOWNERDEAD;
}

int za_source_dismiss(struct za_source *source, uint32_t connection, const char *detail)
{
	return za_source_mine(source)
		       ? za_receiver_dismiss(&source->receiver, connection, detail ? detail : "")
		       : -EOWNERDEAD;
}

int za_source_finish(struct za_source *source, int code, const char *detail)
{
	if (!za_source_mine(source))
		return -EOWNERDEAD;
	za_receiver_finish(&source->receiver, code, detail);
	return 0;
}

/* --- pulling ------------------------------------------------------------------------------- */

/* True if the area has been dry for so long that only the one who waits can help. Not while there is
 * something to pull, or about to be: that is released first. */
static bool exhausted(struct za_source *source)
{
	struct za_receiver *receiver = &source->receiver;
	struct za_refill_level level;
	uint64_t since = za_read(&source->receiver.starved_since_ns);

	if (source->receiver.config.copy_out != ZA_COPY_OUT_NEVER || !since ||
	    (uint64_t)za_monotonic_ns() - since <= source->receiver.config.exhausted_ns)
		return false;
	/* The receiver may not have noticed yet that somebody has released. */
	level = za_refill_level(&receiver->area->refill, receiver->area);
	if ((uint64_t)(level.free + level.offered) * 8 >
	    receiver->transport.ops->dry_at * (uint64_t)receiver->area->chunks)
		return false;
	/* In this order: what arrived before the level was read is being gathered, or in the queue,
	 * or was pulled. */
	return !atomic_load(&receiver->gathering) && !za_queue_length(&source->queue, NULL);
}

/* One bounded wait for something to pull. */
static int wait_step(struct za_source *source, uint32_t seen, int64_t ns, uint32_t interrupts)
{
	int code = za_wait(&source->queue.arrivals, seen, ns < WAIT_STEP_NS ? ns : WAIT_STEP_NS);

	if (za_process_interrupts() != interrupts)
		return -EINTR;
	if (exhausted(source))
		return -ENOBUFS;
	return code == -EINTR ? code : 0;
}

int za_source_pull(struct za_source *source, int64_t timeout_ns, uint32_t interrupts,
		   struct za_batch **out)
{
	struct za_queue *queue = &source->queue;
	int64_t deadline = timeout_ns < 0 ? INT64_MAX : za_monotonic_ns() + timeout_ns;

	for (;;) {
		uint32_t seen;
		int64_t left;
		int code;

		if (za_process_exiting())
			return -ENODATA;
		code = za_queue_pull(queue, out);
		if (code != -EAGAIN)
			return code;
		left = deadline == INT64_MAX ? INT64_MAX : deadline - za_monotonic_ns();
		if (left <= 0)
			return -EAGAIN;
		seen = atomic_load(&queue->arrivals);
		/* seq_cst: first say that we wait, then look once more and tell the receiver, which
		 * does the same the other way round before it sleeps on rows. */
		atomic_fetch_add(&queue->waiting, 1);
		code = za_queue_pull(queue, out);
		if (code == -EAGAIN) {
			za_receiver_hungry(&source->receiver);
			code = wait_step(source, seen, left, interrupts);
			code = code ? code : -EAGAIN;
		}
		atomic_fetch_sub(&queue->waiting, 1);
		if (code != -EAGAIN)
			return code;
	}
}

int za_source_next(struct za_source *source, int64_t timeout_ns, struct ArrowArray *out)
{
	struct za_batch *batch;
	int code;

	if (!za_source_mine(source))
		return -EOWNERDEAD;
	code = za_source_pull(source, timeout_ns, za_process_interrupts(), &batch);
	if (!code)
		za_batch_export(batch, out);
	return code;
}

int za_source_notify_fd(struct za_source *source)
{
	return za_source_mine(source) ? za_queue_notify_fd(&source->queue) : -EOWNERDEAD;
}

int za_source_notify_arm(struct za_source *source)
{
	bool ready;

	if (!za_source_mine(source))
		return -EOWNERDEAD;
	ready = za_queue_notify_arm(&source->queue);
	if (!ready)
		za_receiver_hungry(&source->receiver);
	return ready;
}

/* --- looking ------------------------------------------------------------------------------- */

int za_source_schema(struct za_source *source, struct ArrowSchema *out)
{
	return za_schema_export(&source->receiver.config, source->receiver.cutter.framing.ops->name,
				za_source_transport(source), out);
}

const char *za_source_transport(struct za_source *source)
{
	return source->receiver.transport.ops->name;
}

bool za_source_incremental(struct za_source *source)
{
	return source->receiver.transport.copy.incremental;
}

uint32_t za_source_chunk_bytes(struct za_source *source)
{
	return za_area_chunk_bytes(source->receiver.area);
}

void za_source_error(struct za_source *source, struct za_error *out)
{
	memset(out, 0, sizeof(*out));
	if (!za_source_mine(source))
		return;
	pthread_mutex_lock(&source->receiver.error_lock);
	*out = source->receiver.error;
	pthread_mutex_unlock(&source->receiver.error_lock);
}

size_t za_source_connections(struct za_source *source, bool with_closed, struct za_conn_info *out,
			     size_t room)
{
	if (!za_source_mine(source))
		return 0;
	return za_conns_list(&source->receiver.conns, with_closed, out, room);
}

int za_source_event(struct za_source *source, int64_t timeout_ns, struct za_event *out)
{
	return za_source_mine(source) ? za_events_next(&source->events, timeout_ns, out)
				      : -EOWNERDEAD;
}

void za_source_metrics(struct za_source *source, struct za_metrics *out)
{
	memset(out, 0, sizeof(*out));
	if (!za_source_mine(source))
		return;
	za_area_metrics(source->receiver.area, out);
	out->queue_batches = za_queue_length(&source->queue, &out->queue_bytes);
}

size_t za_source_area_map(struct za_source *source, uint8_t *out, size_t room)
{
	return za_source_mine(source) ? za_area_map(source->receiver.area, out, room) : 0;
}

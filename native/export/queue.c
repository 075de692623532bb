/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../wait.h"

int za_queue_init(struct za_queue *queue, uint32_t capacity)
{
	*queue = (struct za_queue){.capacity = capacity, .notify_fd = -1};
	queue->ring = calloc(capacity, sizeof(*queue->ring));
	if (!queue->ring)
		return -ENOMEM;
	return -pthread_mutex_init(&queue->lock, NULL);
}

void za_queue_fini(struct za_queue *queue)
{
	if (!queue->ring)
		return;
	za_queue_clear(queue);
	if (queue->notify_fd >= 0)
		close(queue->notify_fd);
	pthread_mutex_destroy(&queue->lock);
	free(queue->ring);
	queue->ring = NULL;
}

/* Under the lock: there is something to see for pullers. */
static void announce(struct za_queue *queue)
{
	atomic_fetch_add(&queue->arrivals, 1);
	if (queue->notify_armed) {
		uint64_t one = 1;
		ssize_t n = write(queue->notify_fd, &one, sizeof(one));

		(void)n;
		queue->notify_armed = false;
	}
}

bool za_queue_push(struct za_queue *queue, struct za_batch *batch)
{
	bool pushed = false;

	pthread_mutex_lock(&queue->lock);
	if (queue->n < queue->capacity) {
		queue->ring[(queue->head + queue->n++) % queue->capacity] = batch;
		queue->bytes += za_batch_bytes(batch);
		announce(queue);
		pushed = true;
	}
	pthread_mutex_unlock(&queue->lock);
	if (pushed && atomic_load(&queue->waiting))
		za_wake(&queue->arrivals, 1);
	return pushed;
}

bool za_queue_full(struct za_queue *queue)
{
	return za_queue_length(queue, NULL) >= queue->capacity;
}

bool za_queue_has_room(struct za_queue *queue)
{
	return za_queue_length(queue, NULL) <= queue->capacity / 2;
}

void za_queue_wait_room(struct za_queue *queue, int64_t timeout_ns)
{
	uint32_t seen = atomic_load(&queue->departures);

	if (!za_queue_has_room(queue))
		za_wait(&queue->departures, seen, timeout_ns);
}

void za_queue_end(struct za_queue *queue, int error)
{
	pthread_mutex_lock(&queue->lock);
	if (!queue->ended) {
		queue->ended = true;
		queue->error = error;
	}
	announce(queue);
	pthread_mutex_unlock(&queue->lock);
	za_wake(&queue->arrivals, INT_MAX);
}

static struct za_batch *take_first(struct za_queue *queue)
{
	struct za_batch *batch = queue->ring[queue->head];

	queue->head = (queue->head + 1) % queue->capacity;
	queue->n--;
	queue->bytes -= za_batch_bytes(batch);
	return batch;
}

uint64_t za_queue_clear(struct za_queue *queue)
{
	uint64_t rows = 0;

	pthread_mutex_lock(&queue->lock);
	while (queue->n) {
		struct za_batch *batch = take_first(queue);

		rows += za_batch_rows(batch);
		za_batch_discard(batch);
	}
	pthread_mutex_unlock(&queue->lock);
	return rows;
}

void za_queue_stir(struct za_queue *queue)
{
	atomic_fetch_add(&queue->arrivals, 1);
	atomic_fetch_add(&queue->departures, 1);
	za_wake(&queue->arrivals, INT_MAX);
	za_wake(&queue->departures, INT_MAX);
}

int za_queue_pull(struct za_queue *queue, struct za_batch **out)
{
	bool room = false;
	int code = 0;

	pthread_mutex_lock(&queue->lock);
	if (queue->n) {
		*out = take_first(queue);
		room = queue->n == queue->capacity / 2;
	} else if (queue->ended) {
		code = queue->error ? queue->error : -ENODATA;
	} else {
		code = -EAGAIN;
	}
	pthread_mutex_unlock(&queue->lock);
	/* Exactly on the way down through half: a paused receiver takes up its work again, and is
	 * not woken for every batch. */
	if (room) {
		atomic_fetch_add(&queue->departures, 1);
		za_wake(&queue->departures, INT_MAX);
	}
	return code;
}

bool za_queue_hungry(struct za_queue *queue)
{
	bool hungry;

	pthread_mutex_lock(&queue->lock);
	hungry = !queue->n && (atomic_load(&queue->waiting) || queue->notify_armed);
	pthread_mutex_unlock(&queue->lock);
	return hungry;
}

uint32_t za_queue_length(struct za_queue *queue, uint64_t *bytes)
{
	uint32_t n;

	pthread_mutex_lock(&queue->lock);
	n = queue->n;
	if (bytes)
		*bytes = queue->bytes;
	pthread_mutex_unlock(&queue->lock);
	return n;
}

int za_queue_notify_fd(struct za_queue *queue)
{
	int fd;

	pthread_mutex_lock(&queue->lock);
	if (queue->notify_fd < 0)
		queue->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fd = queue->notify_fd < 0 ? -errno : queue->notify_fd;
	pthread_mutex_unlock(&queue->lock);
	return fd;
}

bool za_queue_notify_arm(struct za_queue *queue)
{
	bool ready;

	pthread_mutex_lock(&queue->lock);
	ready = queue->n || queue->ended;
	queue->notify_armed = !ready && queue->notify_fd >= 0;
	pthread_mutex_unlock(&queue->lock);
	return ready;
}

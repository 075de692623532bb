/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h - the bounded queue between the receiver thread and whoever pulls.
 *
 * One producer, any number of pullers; each batch goes to exactly one. Being full is how a slow
 * consumer is felt: the receiver pauses, the TCP window closes, the peer waits.
 */
#ifndef ZA_EXPORT_QUEUE_H
#define ZA_EXPORT_QUEUE_H

#include <pthread.h>

#include "../atomics.h"
#include "batch.h"

struct za_queue {
	pthread_mutex_t lock;
	struct za_batch **ring;
	uint32_t capacity, head, n;
	uint64_t bytes; /* payload */
	bool ended;
	int error; /* -errno: why it ended, 0 if all is well */
	bool notify_armed;
	int notify_fd;     /* an eventfd, -1 until somebody asks */
	za_u32 arrivals;   /* futex: changes when there is something to pull */
	za_u32 departures; /* futex: changes when there is room again */
	za_u32 waiting;    /* pullers that sleep or are about to */
};

int za_queue_init(struct za_queue *queue, uint32_t capacity);
void za_queue_fini(struct za_queue *queue);

/* Receiver thread. Moves the batch in; false if the queue is full. */
bool za_queue_push(struct za_queue *queue, struct za_batch *batch);
bool za_queue_full(struct za_queue *queue);
/* Receiver thread. Waits until the queue is at most half full, or timeout_ns. */
void za_queue_wait_room(struct za_queue *queue, int64_t timeout_ns);
bool za_queue_has_room(struct za_queue *queue);
/* Nothing more will be pushed. `error` is what pullers get after the last batch, 0 for the end. */
void za_queue_end(struct za_queue *queue, int error);
/* Drops what is queued; returns the rows that were lost by it. */
uint64_t za_queue_clear(struct za_queue *queue);
/* Wakes whoever waits for room or for batches, so that they look around. */
void za_queue_stir(struct za_queue *queue);

/* Any thread. 0 and the batch; -EAGAIN nothing yet; -ENODATA ended; else the error it ended with. */
int za_queue_pull(struct za_queue *queue, struct za_batch **out);
/* Any thread. True if somebody waits for a batch and nothing is queued. seq_cst: see receiver.c. */
bool za_queue_hungry(struct za_queue *queue);
uint32_t za_queue_length(struct za_queue *queue, uint64_t *bytes);

/* Any thread; -errno if there is no eventfd to be had. */
int za_queue_notify_fd(struct za_queue *queue);
bool za_queue_notify_arm(struct za_queue *queue);

#endif

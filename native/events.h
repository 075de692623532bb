/* SPDX-License-Identifier: Apache-2.0 */
/* events.h - what happened, for whoever logs it: a bounded list, the oldest first. */
#ifndef ZA_EVENTS_H
#define ZA_EVENTS_H

#include <pthread.h>

#include "atomics.h"
#include "stats.h"
#include "za.h"

#define ZA_EVENTS_KEPT 1024

struct za_events {
	pthread_mutex_t lock;
	struct za_event ring[ZA_EVENTS_KEPT];
	uint32_t head, n;
	uint64_t lost; /* since the last one that fitted */
	bool ended;
	za_u32 arrivals; /* futex */
	struct za_stats *stats;
};

int za_events_init(struct za_events *events, struct za_stats *stats);
void za_events_fini(struct za_events *events);
/* Receiver thread. Never waits: what does not fit is counted and said with the next that does. */
void za_events_add(struct za_events *events, struct za_event event);
/* Any thread. 0; -EAGAIN timed out; -ENODATA nothing will come any more. */
int za_events_next(struct za_events *events, int64_t timeout_ns, struct za_event *out);

#endif

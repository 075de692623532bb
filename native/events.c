/* SPDX-License-Identifier: Apache-2.0 */
#include "events.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "wait.h"

int za_events_init(struct za_events *events, struct za_stats *stats)
{
	memset(events, 0, sizeof(*events));
	events->stats = stats;
	return -pthread_mutex_init(&events->lock, NULL);
}

void za_events_fini(struct za_events *events)
{
	if (events->stats)
		pthread_mutex_destroy(&events->lock);
}

static void append(struct za_events *events, const struct za_event *event)
{
	events->ring[(events->head + events->n++) % ZA_EVENTS_KEPT] = *event;
}

void za_events_add(struct za_events *events, struct za_event event)
{
	/* One place is kept for the last event of all, which must not be lost. */
	uint32_t room = event.kind == ZA_EVENT_ENDED ? ZA_EVENTS_KEPT : ZA_EVENTS_KEPT - 1;

	pthread_mutex_lock(&events->lock);
	if (events->lost && events->n + 2 <= room) {
		struct za_event lost = {
			.kind = ZA_EVENT_LOST, .value = events->lost, .at_ns = event.at_ns};

		append(events, &lost);
		events->lost = 0;
	}
	if (events->n < room) {
		append(events, &event);
	} else {
		events->lost++;
		za_count_shared(&events->stats->events_lost, 1);
	}
	events->ended |= event.kind == ZA_EVENT_ENDED;
	atomic_fetch_add(&events->arrivals, 1);
	pthread_mutex_unlock(&events->lock);
	za_wake(&events->arrivals, INT_MAX);
}

int za_events_next(struct za_events *events, int64_t timeout_ns, struct za_event *out)
{
	int64_t deadline = za_monotonic_ns() + timeout_ns;

	for (;;) {
		uint32_t seen = atomic_load(&events->arrivals);
		int64_t left;
		bool ended;

		pthread_mutex_lock(&events->lock);
		if (events->n) {
			*out = events->ring[events->head];
			events->head = (events->head + 1) % ZA_EVENTS_KEPT;
			events->n--;
			pthread_mutex_unlock(&events->lock);
			return 0;
		}
		ended = events->ended;
		pthread_mutex_unlock(&events->lock);
		if (ended)
			return -ENODATA;
		left = timeout_ns < 0 ? INT64_MAX / 2 : deadline - za_monotonic_ns();
		if (left <= 0 || za_wait(&events->arrivals, seen, left) == -EINTR)
			return -EAGAIN;
	}
}

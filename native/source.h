/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - what a source is made of, for the files that implement za.h. */
#ifndef ZA_SOURCE_H
#define ZA_SOURCE_H

#include "rx/receiver.h"

struct za_source {
	za_u32 shares;
	struct za_queue queue;
	struct za_events events;
	struct za_receiver receiver;
	pthread_t thread;
	pthread_mutex_t close_lock;
	bool closed;       /* under close_lock: the thread has been joined */
	za_u32 setup_done; /* futex */
	int setup_code;
	struct za_error setup_error;
};

/* This process made the source: in a forked child nothing of it may be used. */
bool za_source_mine(const struct za_source *source);
/* See za_source_next(); -EINTR once the process has seen other than `interrupts` SIGINTs. */
int za_source_pull(struct za_source *source, int64_t timeout_ns, uint32_t interrupts,
		   struct za_batch **out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wait.h - sleeping until a number changes: futex(2).
 *
 * A bare futex and not a condition variable, because a waiting thread must come back when a signal
 * arrives (Ctrl-C), which pthread_cond_timedwait() hides.
 */
#ifndef ZA_WAIT_H
#define ZA_WAIT_H

#include "atomics.h"

/* Sleeps while *word is `seen`, at most timeout_ns (>= 0). 0 if woken, if the number has changed,
 * or for no reason at all; -ETIMEDOUT; -EINTR. */
int za_wait(za_u32 *word, uint32_t seen, int64_t timeout_ns);
/* Wakes up to `n` sleepers. The caller has changed the number before. */
void za_wake(za_u32 *word, int n);
/* CLOCK_MONOTONIC. */
int64_t za_monotonic_ns(void);

#endif

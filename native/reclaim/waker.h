/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ZA_RECLAIM_WAKER_H
#define ZA_RECLAIM_WAKER_H

/* Wakes the receiver thread; any thread, never blocks. */
struct za_waker {
	void (*wake)(void *arg);
	void *arg;
};

#endif

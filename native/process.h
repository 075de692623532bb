/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process.h - the few things that belong to the process and not to a source: is it exiting, was
 * Ctrl-C pressed, is anything still lent out.
 */
#ifndef ZA_PROCESS_H
#define ZA_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Set by za_exiting(), never cleared. */
bool za_process_exiting(void);
/* How many SIGINTs have come so far. Drains the interrupt descriptor; any thread. */
uint32_t za_process_interrupts(void);
void za_process_lent(uint64_t holds);
void za_process_returned(uint64_t holds);
void za_process_areas(int delta);

/* A page that the kernel clears in a forked child (MADV_WIPEONFORK, Linux 4.14), so that asking
 * "am I the process that made this?" costs a load instead of a system call. */
struct za_owner {
	const volatile uint8_t *page;
};

int za_owner_init(struct za_owner *owner);
void za_owner_fini(struct za_owner *owner);

static inline bool za_owner_is_me(const struct za_owner *owner)
{
	return *owner->page != 0;
}

#endif

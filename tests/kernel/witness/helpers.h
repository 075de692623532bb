/* SPDX-License-Identifier: Apache-2.0 */
/* What liburing's examples expect of a header that its package leaves out: declarations only. */
#ifndef WITNESS_HELPERS_H
#define WITNESS_HELPERS_H

#include <stddef.h>

#define T_ALIGN_UP(value, to) (((value) + (to) - 1) / (to) * (to))

int setup_listening_socket(int port, int ipv6);
void *t_aligned_alloc(size_t alignment, size_t size);
void t_error(int status, int errnum, const char *format, ...);
int memfd_create(const char *name, unsigned int flags);

#endif

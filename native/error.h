/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - filling struct za_error. */
#ifndef ZA_ERROR_H
#define ZA_ERROR_H

#include "za.h"

/* Fills *error (may be NULL) and returns `code`, so that a caller can `return za_fail(...)`. */
int za_fail(struct za_error *error, int code, const char *step, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif

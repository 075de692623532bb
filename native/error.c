/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

int za_fail(struct za_error *error, int code, const char *step, const char *format, ...)
{
	if (error) {
		va_list args;

		error->code = code;
		(void)snprintf(error->step, sizeof(error->step), "%s", step);
		va_start(args, format);
		(void)vsnprintf(error->detail, sizeof(error->detail), format, args);
		va_end(args);
	}
	return code;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* schema.h - the columns of a source. */
#ifndef ZA_EXPORT_SCHEMA_H
#define ZA_EXPORT_SCHEMA_H

#include "../za.h"

/* The caller owns *out. 0 or -ENOMEM. `framing` and `transport` go into the metadata. */
int za_schema_export(const struct za_config *config, const char *framing, const char *transport,
		     struct ArrowSchema *out);

#endif

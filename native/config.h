/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ZA_CONFIG_H
#define ZA_CONFIG_H

#include "za.h"

/* All but the framings, see za_framing_init(). 0, or -EINVAL and the value that is wrong. */
int za_config_check(const struct za_config *config, struct za_error *error);

#endif

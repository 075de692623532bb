/* SPDX-License-Identifier: Apache-2.0 */
/* probe.h - what this kernel can do, by asking and by trying; never by its version. */
#ifndef ZA_RX_PROBE_H
#define ZA_RX_PROBE_H

#include "../za.h"
#include "sys.h"

/* Asks (IORING_REGISTER_QUERY). Fields about which the kernel has nothing to say stay 0. */
void za_features_query(const struct za_sys *sys, struct za_features *features);

#endif

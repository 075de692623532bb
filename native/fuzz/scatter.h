/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scatter.h - a stream whose fragments lie anywhere in the area, as those of a busy receiver do.
 *
 * za_replay_feed() puts bytes one behind the other, so that messages cross a seam only where chunks
 * do. Here a chunk can end after any fragment.
 */
#ifndef ZA_FUZZ_SCATTER_H
#define ZA_FUZZ_SCATTER_H

#include "consumer.h"

/* Sends the consumer's stream through framing and batches. False: the configuration is not valid. */
bool scatter_run(const struct za_config *config, struct consumer *consumer, uint64_t *random);

#endif

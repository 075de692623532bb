/* SPDX-License-Identifier: Apache-2.0 */
/*
 * consumer.h - who gets the batches of a fuzzed stream: looks at every row, remembers where they
 * were, and keeps some batches for as long as it can.
 */
#ifndef ZA_FUZZ_CONSUMER_H
#define ZA_FUZZ_CONSUMER_H

#include "../tests/rows.h"
#include "input.h"

struct place {
	uint64_t position;
	uint64_t bytes;
};

struct held {
	struct ArrowArray array;
	uint64_t hash;
};

struct consumer {
	const uint8_t *stream; /* all that is sent */
	size_t bytes;
	bool views;    /* payloads are views */
	bool keeps;    /* batches, until somebody wants their memory */
	bool merges;   /* rows that follow each other count as one: where they are cut is chance */
	uint64_t rows; /* seen */
	struct place *places;
	size_t n_places, room;
	struct held *held;
	size_t n_held, held_room;
	/* what became of the stream */
	int code;
	char detail[192];
	uint32_t partial;
};

void consumer_take(struct consumer *consumer, struct ArrowArray *batch);
/* Gives batches back, as they were when they came. False: it has none. */
bool consumer_release(struct consumer *consumer);
/* Both have seen the same. */
void consumers_agree(const struct consumer *one, const struct consumer *other, const char *name);
void consumer_fini(struct consumer *consumer);

#endif

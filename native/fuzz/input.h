/* SPDX-License-Identifier: Apache-2.0 */
/* input.h - what a fuzzer gives, taken apart: options first, one byte each, then the data. */
#ifndef ZA_FUZZ_INPUT_H
#define ZA_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "../tests/check.h"

/* What every target has; libFuzzer or replay_corpus.c calls it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at;
	size_t left;
};

/* Zeroes follow the end, so that a short input is a valid one. */
static inline uint8_t take(struct input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->at++;
}

/* A size: small ones as they are, and those at which something changes. */
static inline uint32_t take_size(struct input *input)
{
	static const uint32_t edges[] = {255,  256,  1000,  4095,  4096,  4097,    5000,
					 8191, 8192, 65535, 65536, 70000, 1 << 20, 1 << 30};
	const uint8_t n = sizeof(edges) / sizeof(edges[0]);
	uint8_t byte = take(input);

	return byte < 256 - n ? byte + 1U : edges[byte - (256 - n)];
}

/* splitmix64 */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9E3779B97F4A7C15ULL;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
	z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
	return z ^ z >> 31;
}

static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
	return random_next(state) % limit;
}

#endif

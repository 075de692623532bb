/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_framing.c - any bytes under any framing, cut in any way, give the same rows.
 *
 * The stream goes through whole, in random pieces, and in random pieces that lie anywhere in the
 * area. Rows, where the framing breaks, the text that says so and the unfinished bytes must be the
 * same, and every lease must come home.
 *
 * Input: 23 bytes of options as choose() takes them, then the stream.
 */
#include <errno.h>

#include "consumer.h"
#include "scatter.h"

#define OPTIONS 23
#define CHUNK_BYTES 4096U
#define MOST_STREAM (40U << 10)

struct options {
	struct za_config config;
	uint32_t repeat;
	uint64_t random;
};

static void choose_framing(struct input *input, struct za_framing_config *c)
{
	struct za_prefix *p = &c->prefix;

	c->delimiter_bytes = (uint8_t)(1 + take(input) % 8);
	for (uint32_t i = 0; i < sizeof(c->delimiter); i++)
		c->delimiter[i] = take(input);
	c->max_message_bytes = take_size(input);
	c->fixed_bytes = take_size(input);
	p->width = (uint8_t)(1U << take(input) % 4);
	p->offset = take(input) % 16;
	p->header_bytes = p->offset + p->width + take_size(input) - 1;
	p->unit = take_size(input);
}

static struct options choose(struct input *input)
{
	struct options o = {0};
	struct za_config *c = &o.config;
	uint8_t kind = take(input), flags = take(input), payload;

	c->framing.kind = kind % 7;
	c->framing.blocks = flags & 1;
	c->framing.emit_unterminated = flags >> 1 & 1;
	c->has_preamble = flags >> 2 & 1;
	c->drop_preamble = flags >> 3 & 1;
	c->framing.prefix.swap = flags >> 4 & 1;
	c->framing.prefix.counts_header = flags >> 5 & 1;
	c->framing.prefix.keep_header = flags >> 6 & 1;
	choose_framing(input, &c->framing);
	c->preamble = c->framing;
	c->preamble.kind = (uint8_t)(1 + kind / 7 % 6);
	c->preamble.blocks = false;
	payload = take(input);
	/* Blocks are for decoders, which take bytes: no block is text as a whole. */
	c->payload = c->framing.blocks ? payload & 2 : payload & 3;
	c->copy_out = (uint8_t)(payload / 4 % 3);
	c->max_batch_rows = take_size(input);
	c->chunk_bytes = CHUNK_BYTES;
	c->area_bytes = (uint64_t)(8 + take(input) % 24) * CHUNK_BYTES;
	c->max_batch_bytes = take_size(input);
	if (c->max_batch_bytes > c->area_bytes / 4)
		c->max_batch_bytes = (uint32_t)(c->area_bytes / 4);
	c->window_bytes = 2 * CHUNK_BYTES;
	c->queue_batches = c->max_connections = 1;
	o.repeat = 1 + take(input) % 32;
	o.random = take(input);
	return o;
}

/* Pulls what there is. How many batches. */
static uint32_t pull(struct za_replay *replay, struct consumer *c, bool now)
{
	struct ArrowArray batch;
	uint32_t n = 0;
	int code;

	while (!(code = za_replay_next(replay, now, &batch))) {
		consumer_take(c, &batch);
		n++;
	}
	CHECK(code == -EAGAIN, "next: %d", code);
	return n;
}

static int feed_all(struct za_replay *replay, struct consumer *c, uint64_t *random)
{
	size_t at = 0;
	int code = 0;

	while (!code && at < c->bytes) {
		size_t bytes = c->bytes - at, taken, pulled;

		if (random && bytes > 1)
			bytes = 1 + random_below(random, random_below(random, 2) ? 24 : bytes);
		if (bytes > c->bytes - at)
			bytes = c->bytes - at;
		code = za_replay_feed(replay, c->stream + at, bytes, &taken);
		CHECK(taken <= bytes, "%zu of %zu bytes taken", taken, bytes);
		at += taken;
		pulled = pull(replay, c, !taken || (random && !random_below(random, 8)));
		CHECK(code || taken || pulled || consumer_release(c),
		      "nothing is taken, and there is nothing to pull");
	}
	while (!code && (code = za_replay_end(replay, &c->partial)) == -EAGAIN) {
		CHECK(pull(replay, c, false), "nothing to pull at the end");
		code = 0;
	}
	return code;
}

static bool replay_run(const struct za_config *config, struct consumer *c, uint64_t *random)
{
	struct za_metrics metrics;
	struct za_replay *replay;
	struct za_error error;

	if (za_replay_new(config, &error, &replay))
		return false;
	c->code = feed_all(replay, c, random);
	pull(replay, c, true);
	za_replay_error(replay, &error);
	CHECK(error.code == c->code, "error %d, returned %d", error.code, c->code);
	memcpy(c->detail, error.detail, sizeof(c->detail));
	consumer_release(c);
	za_replay_metrics(replay, &metrics);
	CHECK(metrics.rows == c->rows, "%llu rows counted", (unsigned long long)metrics.rows);
	CHECK(!metrics.lease_faults && !metrics.batches_held, "leases");
	CHECK(metrics.chunks_free + metrics.chunks_offered == metrics.chunks,
	      "%llu of %llu chunks came home",
	      (unsigned long long)(metrics.chunks_free + metrics.chunks_offered),
	      (unsigned long long)metrics.chunks);
	za_replay_free(replay);
	return true;
}

/* Blocks consist of whole messages; the last may be one that the stream's end has ended. */
static void check_blocks(const struct options *o, const struct consumer *c)
{
	const struct za_framing_config *f = &o->config.framing;

	for (size_t i = o->config.has_preamble; f->blocks && i < c->n_places; i++) {
		const struct place *place = &c->places[i];
		bool last = i + 1 == c->n_places && !c->code && f->emit_unterminated;

		if (f->kind == ZA_FRAMING_FIXED)
			CHECK(!(place->bytes % f->fixed_bytes), "a block of %llu bytes",
			      (unsigned long long)place->bytes);
		if (f->kind == ZA_FRAMING_DELIMITED && !last)
			CHECK(c->stream[place->position + place->bytes - 1] == f->delimiter[0],
			      "a block that does not end with a delimiter");
	}
}

/* Options are what they are; the stream can be repeated, to fill an area with a short input. */
static uint8_t *make_stream(const struct input *input, uint32_t repeat, size_t *bytes)
{
	uint8_t *stream;

	while (repeat > 1 && input->left * repeat > MOST_STREAM)
		repeat--;
	*bytes = input->left * repeat;
	stream = malloc(*bytes);
	CHECK(stream || !*bytes, "out of memory");
	for (uint32_t i = 0; i < repeat && input->left; i++)
		memcpy(stream + i * input->left, input->at, input->left);
	return stream;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size < OPTIONS ? size : OPTIONS};
	struct options o = choose(&input);
	struct consumer whole = {
		.views = o.config.payload < ZA_PAYLOAD_LARGE_BINARY,
		.merges = o.config.framing.blocks || o.config.framing.kind == ZA_FRAMING_RAW,
	};
	struct consumer split, scattered;
	uint8_t *stream;

	CHECK(size < OPTIONS || !input.left, "%zu bytes of options are not used", input.left);
	input = (struct input){data + size, 0};
	if (size > OPTIONS)
		input = (struct input){data + OPTIONS, size - OPTIONS};
	stream = make_stream(&input, o.repeat, &whole.bytes);
	whole.stream = stream;
	split = scattered = whole;
	split.keeps = true;
	scattered.keeps = o.random & 1;
	if (replay_run(&o.config, &whole, NULL)) {
		check_blocks(&o, &whole);
		CHECK(!o.config.has_preamble || !o.config.drop_preamble || !whole.n_places ||
			      whole.places[0].position,
		      "the preamble is a row");
		CHECK(replay_run(&o.config, &split, &o.random), "the same configuration");
		consumers_agree(&whole, &split, "split");
		CHECK(scatter_run(&o.config, &scattered, &o.random), "the same configuration");
		consumers_agree(&whole, &scattered, "scattered");
	}
	consumer_fini(&whole);
	consumer_fini(&split);
	consumer_fini(&scattered);
	free(stream);
	CHECK(!za_outstanding(), "leases are out");
	CHECK(!za_live_areas(), "an area is still mapped");
	return 0;
}

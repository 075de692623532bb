/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prop_source.c - random histories of a source on the kernel twin, one a seed.
 *
 * A history: several connections send random messages in random pieces; the kernel delivers them in
 * random fragments, runs out of buffers, ends receives and forgets nothing; a consumer pulls, holds
 * and releases batches in random order, or does not pull for a while; some peers reset, some send
 * what the framing forbids. Whatever happens:
 *   - per connection the rows are those that a naive splitter finds, in order, byte for byte;
 *   - bytes of a batch never change while it is held, and the kernel never writes to them;
 *   - every lease comes home exactly once: at the end all chunks are free;
 *   - zero-copy receive: at any moment the kernel has lent of each chunk exactly as many fragments
 *     as this side owes for it, and it never gets one back that it has not lent;
 *   - it ends.
 *
 * prop_source copy|zcrx [first-seed [count]]
 */
#include <errno.h>
#include <string.h>

#include "../rx/receiver.h"
#include "../twin/twin.h"
#include "check.h"
#include "rows.h"

#define MAX_CONNS 12
#define MAX_STREAM 20000
#define MAX_HELD 400

struct message {
	uint64_t position;
	uint32_t bytes;
};

struct stream {
	int fd;
	uint32_t id;
	uint8_t data[MAX_STREAM];
	uint32_t bytes, sent;
	struct message messages[MAX_STREAM + 1]; /* what the naive splitter finds */
	uint32_t n_messages, delivered;
	uint64_t raw_position;
	bool breaks;       /* a message is over the limit: the rows before it are all that come */
	bool ended, reset; /* or dismissed */
	uint32_t partial;  /* bytes that are not delivered after a clean end */
};

struct held {
	struct ArrowArray array;
	uint64_t hash;
};

struct history {
	bool zcrx;
	uint64_t seed, random;
	struct za_config config;
	struct za_twin *twin;
	struct za_queue queue;
	struct za_events events;
	struct za_receiver receiver;
	struct stream streams[MAX_CONNS];
	uint32_t n_streams;
	int listener;
	struct held held[MAX_HELD];
	uint32_t n_held;
	bool views, ended;
	uint64_t rows;
	uint64_t drops, nobufs, owing; /* how often it came to that, to see that it does */
};

static uint64_t below(struct history *h, uint64_t limit)
{
	return za_twin_random(&h->random) % limit;
}

/* --- the naive splitter -------------------------------------------------------------------- */

static void split_delimited(struct history *h, struct stream *s)
{
	const struct za_framing_config *c = &h->config.framing;
	uint32_t start = 0;

	for (uint32_t at = 0; at + c->delimiter_bytes <= s->bytes;) {
		if (memcmp(s->data + at, c->delimiter, c->delimiter_bytes)) {
			at++;
			continue;
		}
		if (at - start > c->max_message_bytes) {
			s->breaks = true;
			return;
		}
		s->messages[s->n_messages++] = (struct message){start, at - start};
		at += c->delimiter_bytes;
		start = at;
	}
	if (s->bytes - start > c->max_message_bytes + c->delimiter_bytes - 1) {
		s->breaks = true;
	} else if (s->bytes > start) {
		/* What is left may be over the limit by part of a delimiter: then it is no message. */
		if (c->emit_unterminated && s->bytes - start <= c->max_message_bytes)
			s->messages[s->n_messages++] = (struct message){start, s->bytes - start};
		else
			s->partial = s->bytes - start;
	}
}

/* Where the message at data[0] ends and its payload lies, byte by byte as the format's text says.
 * 1; 0: it is not whole; -1: it breaks the framing. */
static int one_prefixed(const struct za_framing_config *c, const uint8_t *data, uint32_t len,
			uint32_t *start, uint32_t *end)
{
	const struct za_prefix *p = &c->prefix;
	unsigned __int128 value = 0;

	if (len < p->header_bytes)
		return 0;
	for (uint32_t i = 0; i < p->width; i++)
		value |= (unsigned __int128)data[p->offset + i]
			 << 8 * (p->swap ? p->width - 1U - i : i);
	value *= p->unit;
	if (p->counts_header && value < p->header_bytes)
		return -1;
	value += p->counts_header ? 0 : p->header_bytes; /* the whole message */
	*start = p->keep_header ? 0 : p->header_bytes;
	if (value - *start > c->max_message_bytes)
		return -1;
	*end = (uint32_t)value;
	return value <= len;
}

static int one_varint(const struct za_framing_config *c, const uint8_t *data, uint32_t len,
		      uint32_t *start, uint32_t *end)
{
	unsigned __int128 value = 0;

	for (*start = 0; *start < len;) {
		uint8_t byte = data[*start];

		value |= (unsigned __int128)(byte & 127) << 7 * *start;
		++*start;
		if (value >> 64 || (*start == 10 && byte & 128))
			return -1;
		if (byte & 128)
			continue;
		if (value > c->max_message_bytes)
			return -1;
		*end = *start + (uint32_t)value;
		return *end <= len;
	}
	return 0;
}

static int one_fixed(const struct za_framing_config *c, const uint8_t *data, uint32_t len,
		     uint32_t *start, uint32_t *end)
{
	(void)data;
	*start = 0;
	*end = c->fixed_bytes;
	return len >= c->fixed_bytes;
}

static int one_syslog(const struct za_framing_config *c, const uint8_t *data, uint32_t len,
		      uint32_t *start, uint32_t *end)
{
	uint64_t count = 0;
	uint32_t at = 0;

	if (data[0] >= '1' && data[0] <= '9') {
		for (; at < len && data[at] >= '0' && data[at] <= '9'; at++) {
			count = count * 10 + (uint64_t)(data[at] - '0');
			if (count > c->max_message_bytes)
				return -1;
		}
		if (at == len)
			return 0;
		if (data[at] != ' ')
			return -1;
		*start = at + 1;
		*end = *start + (uint32_t)count;
		return *end <= len;
	}
	while (at < len && data[at] != '\n')
		at++;
	*start = 0;
	*end = at;
	if (at > c->max_message_bytes)
		return -1;
	return at < len;
}

static void split_measured(struct history *h, struct stream *s)
{
	const struct za_framing_config *c = &h->config.framing;
	int (*const one[])(const struct za_framing_config *c, const uint8_t *data, uint32_t len,
			   uint32_t *start, uint32_t *end) = {
		[ZA_FRAMING_PREFIXED] = one_prefixed,
		[ZA_FRAMING_VARINT] = one_varint,
		[ZA_FRAMING_FIXED] = one_fixed,
		[ZA_FRAMING_SYSLOG] = one_syslog,
	};
	uint32_t at = 0, start, end;
	int found = 1;

	while (at < s->bytes &&
	       (found = one[c->kind](c, s->data + at, s->bytes - at, &start, &end)) == 1) {
		bool line = c->kind == ZA_FRAMING_SYSLOG && !start;

		s->messages[s->n_messages++] = (struct message){at + start, end - start};
		at += end + line;
	}
	s->breaks = found < 0;
	if (found || at == s->bytes)
		return;
	if (c->kind == ZA_FRAMING_SYSLOG && c->emit_unterminated &&
	    !(s->data[at] >= '1' && s->data[at] <= '9'))
		s->messages[s->n_messages++] = (struct message){at, s->bytes - at};
	else
		s->partial = s->bytes - at;
}

static void split(struct history *h, struct stream *s)
{
	if (h->config.framing.kind == ZA_FRAMING_DELIMITED)
		split_delimited(h, s);
	else if (h->config.framing.kind != ZA_FRAMING_RAW)
		split_measured(h, s);
}

/* --- making a history ---------------------------------------------------------------------- */

static void put(struct stream *s, uint8_t byte)
{
	if (s->bytes < MAX_STREAM)
		s->data[s->bytes++] = byte;
}

/* What stands before a payload; now and then something hostile. */
static void write_header(struct history *h, struct stream *s, uint32_t length)
{
	const struct za_framing_config *c = &h->config.framing;
	uint8_t header[64];
	char digits[16];
	uint64_t value;

	if (c->kind == ZA_FRAMING_PREFIXED) {
		const struct za_prefix *p = &c->prefix;

		for (uint32_t i = 0; i < p->header_bytes; i++)
			header[i] = (uint8_t)below(h, 256);
		value = (length + (p->counts_header ? p->header_bytes : 0)) / p->unit;
		value = below(h, 200) ? value : za_twin_random(&h->random);
		for (uint32_t i = 0; i < p->width; i++)
			header[p->offset + i] =
				(uint8_t)(value >> 8 * (p->swap ? p->width - 1U - i : i));
		for (uint32_t i = 0; i < p->header_bytes; i++)
			put(s, header[i]);
	} else if (c->kind == ZA_FRAMING_VARINT) {
		value = below(h, 200) ? length : za_twin_random(&h->random) >> below(h, 64);
		for (; value > 127; value >>= 7)
			put(s, (uint8_t)(value | 128));
		put(s, (uint8_t)value);
	} else if (c->kind == ZA_FRAMING_SYSLOG && below(h, 2)) {
		(void)snprintf(digits, sizeof(digits), "%u%s", length, below(h, 200) ? " " : "x");
		for (uint32_t i = 0; digits[i]; i++)
			put(s, (uint8_t)digits[i]);
	}
}

static void choose_framing(struct history *h)
{
	struct za_framing_config *c = &h->config.framing;
	struct za_prefix *p = &c->prefix;

	c->max_message_bytes = 1 + (uint32_t)below(h, below(h, 2) ? 60 : 6000);
	if (!below(h, 5))
		c->kind = ZA_FRAMING_RAW;
	else if (below(h, 2))
		c->kind = ZA_FRAMING_DELIMITED;
	else
		c->kind = (uint8_t)(ZA_FRAMING_PREFIXED + below(h, 4));
	p->width = (uint8_t)(1U << below(h, 4));
	p->offset = (uint32_t)below(h, 3);
	p->header_bytes = p->offset + p->width + (uint32_t)below(h, 3);
	p->unit = below(h, 3) ? 1 : 1 + (uint32_t)below(h, 8);
	p->swap = (uint8_t)below(h, 2);
	p->counts_header = (uint8_t)below(h, 2);
	p->keep_header = (uint8_t)below(h, 2);
	c->fixed_bytes = 1 + (uint32_t)below(h, below(h, 2) ? 20 : 5000);
	c->emit_unterminated = (uint8_t)below(h, 2);
	c->delimiter_bytes = (uint8_t)(1 + (below(h, 2) ? 0 : below(h, 8)));
	for (uint32_t i = 0; i < c->delimiter_bytes; i++)
		c->delimiter[i] = (uint8_t)("ab\n"[below(h, 3)]);
	if (c->kind == ZA_FRAMING_SYSLOG) {
		c->delimiter_bytes = 1; /* what fill_stream() writes behind a message */
		c->delimiter[0] = '\n';
	} else if (c->kind != ZA_FRAMING_DELIMITED) {
		c->delimiter_bytes = 0;
	}
}

static void fill_stream(struct history *h, struct stream *s)
{
	const struct za_config *c = &h->config;
	uint32_t wanted = (uint32_t)below(h, below(h, 4) ? MAX_STREAM / 4 : MAX_STREAM);
	uint32_t longest =
		below(h, 10) ? c->framing.max_message_bytes : c->framing.max_message_bytes + 20;

	if (longest > 3000)
		longest = 3000;
	while (s->bytes < wanted) {
		uint32_t length = (uint32_t)below(h, below(h, 3) ? 30 : longest + 1);

		write_header(h, s, length);
		for (; length && s->bytes < wanted; length--)
			/* Few different bytes, so that parts of delimiters come often. */
			s->data[s->bytes++] = (uint8_t)("abc\n"[below(h, 4)]);
		for (uint32_t i = 0; i < c->framing.delimiter_bytes && s->bytes < wanted; i++)
			s->data[s->bytes++] = c->framing.delimiter[i];
	}
	split(h, s);
}

static void choose_zcrx(struct history *h, struct za_twin_options *options)
{
	struct za_config *c = &h->config;
	uint32_t chunks;

	c->transport = below(h, 2) ? ZA_TRANSPORT_ZCRX : ZA_TRANSPORT_NODEV;
	options->zcrx = true;
	options->old_zcrx = c->transport == ZA_TRANSPORT_ZCRX && !below(h, 4);
	options->max_chunk_bytes = below(h, 2) ? 65536 : 0;
	options->packet_a_chunk = (uint32_t)below(h, 1001);
	options->nic_ring = (uint32_t)below(h, 4);
	/* Without FLUSH_RQ nothing but the NIC's hunger moves returns to where the kernel takes chunks
	 * to copy into: a stream of such packets alone can stop there. docs/zcrx.md says so. */
	options->linear = options->old_zcrx || below(h, 2) ? 0 : (uint32_t)below(h, 1001);
	c->chunk_bytes = 4096U << below(h, 3);
	c->interface_index = 1;
	c->queue = (uint32_t)below(h, 4);
	/* What a NIC's pool keeps to itself is not there for what must be copied: a real area is
	 * much larger than that. Without either, small ones are the interesting ones. */
	chunks = c->transport == ZA_TRANSPORT_ZCRX && options->linear ? 160 : 8;
	c->area_bytes = (uint64_t)(chunks + below(h, 60)) * c->chunk_bytes;
	c->refill_entries = below(h, 2) ? 0 : 1 + (uint32_t)below(h, 20);
	c->kernel_refill_memory = (uint8_t)below(h, 2);
	c->turn_bytes = below(h, 2) ? 0 : 1 + (uint32_t)below(h, 5000);
	c->busy_poll_us = 0;
}

static void choose_config(struct history *h, struct za_twin_options *options)
{
	struct za_config *c = &h->config;
	uint32_t chunks = 8 + (uint32_t)below(h, 40);

	c->chunk_bytes = 4096;
	c->area_bytes = (uint64_t)chunks * c->chunk_bytes;
	c->window_bytes = (2 + (uint32_t)below(h, chunks / 2 - 1)) * c->chunk_bytes;
	if (h->zcrx)
		choose_zcrx(h, options);
	c->max_batch_rows = 1 + (uint32_t)below(h, below(h, 2) ? 8 : 700);
	c->max_batch_bytes = 1 + (uint32_t)below(h, c->area_bytes / 4);
	c->max_delay_ns = below(h, 3) ? 10000000 : 0;
	c->coalesce_ns = below(h, 2) * 1000000;
	c->queue_batches = 1 + (uint32_t)below(h, 6);
	c->max_connections = MAX_CONNS;
	c->closed_history = MAX_CONNS;
	c->exhausted_ns = 1000000000;
	c->copy_out = (uint8_t)below(h, 3);
	choose_framing(h);
	c->payload = below(h, 4) ? ZA_PAYLOAD_BINARY_VIEW : ZA_PAYLOAD_LARGE_BINARY;
	if (c->framing.kind == ZA_FRAMING_DELIMITED && !below(h, 4))
		c->payload++; /* the streams are ASCII */
	c->no_incremental = (uint8_t)below(h, 2);
	c->adjacent_chunks = (uint8_t)below(h, 2);
	h->views = c->payload < ZA_PAYLOAD_LARGE_BINARY;
}

/* The kernel is about to write: nobody may hold a lease on these bytes. */
static void before_write(void *arg, const void *at, size_t bytes)
{
	struct history *h = arg;
	const uint8_t *from = at;
	const uint8_t *base = h->receiver.area->base;

	CHECK(from >= base && from + bytes <= base + h->receiver.area->bytes,
	      "seed %llu: written outside of the area", (unsigned long long)h->seed);
	for (uint32_t i = 0; h->views && i < h->n_held; i++) {
		const struct ArrowArray *payload = h->held[i].array.children[0];
		const int64_t *lengths = payload->buffers[payload->n_buffers - 1];

		for (int64_t b = 2; b < payload->n_buffers - 1; b++) {
			const uint8_t *span = payload->buffers[b];

			CHECK(from + bytes <= span || span + lengths[b - 2] <= from,
			      "seed %llu: a held batch is written over",
			      (unsigned long long)h->seed);
		}
	}
}

static void begin(struct history *h, bool zcrx, uint64_t seed)
{
	struct za_twin_options options = {0};
	struct za_error error;
	struct za_sys sys;

	memset(h, 0, sizeof(*h));
	h->seed = seed;
	h->random = seed * 7919 + 1;
	h->zcrx = zcrx;
	choose_config(h, &options);
	options.seed = seed ^ 0xABCDEF;
	options.no_incremental = below(h, 4) == 0;
	options.no_defer_taskrun = !zcrx && below(h, 4) == 0;
	options.cq_entries = below(h, 2) ? 0 : 2U << below(h, 4);
	options.receive_buffer = 1 + (uint32_t)below(h, below(h, 2) ? 300 : 30000);
	options.max_fragment = below(h, 2) ? 0 : 1 + (uint32_t)below(h, 6000);
	options.spurious_nobufs = below(h, 3) ? 0 : 100;
	options.spurious_end = below(h, 3) ? 0 : 100;
	options.spurious_eintr = below(h, 3) ? 0 : 50;
	options.failing_cancels = below(h, 2) ? 0 : 400;
	options.accept_failures = below(h, 4) ? 0 : 2;
	options.before_write = before_write;
	options.arg = h;
	h->n_streams = 1 + (uint32_t)below(h, MAX_CONNS);
	h->config.accept_limit = (uint32_t)below(h, h->n_streams + 1);
	h->twin = za_twin_new(&options);
	sys = za_twin_sys(h->twin);
	CHECK(!za_queue_init(&h->queue, h->config.queue_batches), "queue");
	CHECK(!za_receiver_init(&h->receiver, &h->config, &sys, &h->queue, &h->events, &error),
	      "seed %llu: %s", (unsigned long long)seed, error.detail);
	CHECK(!za_events_init(&h->events, h->receiver.stats), "events");
	CHECK(!za_receiver_setup(&h->receiver, &error), "seed %llu: %s", (unsigned long long)seed,
	      error.detail);
	if (h->config.accept_limit) {
		h->listener = za_twin_listener(h->twin);
		CHECK(!za_receiver_listen(&h->receiver, h->listener), "listen");
	}
	for (uint32_t i = 0; i < h->n_streams; i++) {
		struct stream *s = &h->streams[i];

		fill_stream(h, s);
		if (i < h->config.accept_limit) {
			s->fd = za_twin_connect(h->twin, h->listener);
		} else {
			s->fd = za_twin_socket(h->twin);
			CHECK(!za_receiver_add(&h->receiver, s->fd, &s->id), "add");
		}
	}
}

/* --- what can happen ----------------------------------------------------------------------- */

static struct stream *stream_of(struct history *h, const struct row *row)
{
	struct za_conn_info infos[MAX_CONNS];
	size_t n = za_conns_list(&h->receiver.conns, true, infos, MAX_CONNS);

	for (size_t i = 0; i < n && i < MAX_CONNS; i++)
		for (uint32_t s = 0; s < h->n_streams; s++) {
			char peer[64];

			(void)snprintf(peer, sizeof(peer), "127.0.0.1:%d",
				       10000 + h->streams[s].fd);
			if (!strcmp(peer, infos[i].peer))
				h->streams[s].id = infos[i].id;
		}
	for (uint32_t s = 0; s < h->n_streams; s++)
		if (h->streams[s].id == row->connection)
			return &h->streams[s];
	CHECK(false, "seed %llu: a row of unknown connection %u", (unsigned long long)h->seed,
	      row->connection);
	return NULL;
}

static void check_row(struct history *h, const struct row *row)
{
	struct stream *s = stream_of(h, row);

	if (h->config.framing.kind == ZA_FRAMING_RAW) {
		CHECK(row->position == s->raw_position && row->bytes, "seed %llu: gap or repeat",
		      (unsigned long long)h->seed);
		s->raw_position += row->bytes;
	} else {
		const struct message *m = &s->messages[s->delivered];

		CHECK(s->delivered < s->n_messages, "seed %llu: a row too many",
		      (unsigned long long)h->seed);
		CHECK(row->position == m->position && row->bytes == m->bytes,
		      "seed %llu: connection %u row %u is %llu+%u and should be %llu+%u",
		      (unsigned long long)h->seed, row->connection, s->delivered,
		      (unsigned long long)row->position, row->bytes,
		      (unsigned long long)m->position, m->bytes);
		s->delivered++;
	}
	CHECK(row->position + row->bytes <= s->sent &&
		      !memcmp(row->data, s->data + row->position, row->bytes),
	      "seed %llu: bytes differ", (unsigned long long)h->seed);
}

static bool pull(struct history *h)
{
	struct za_batch *batch;
	struct held *held = &h->held[h->n_held];
	int code;

	if (h->n_held == MAX_HELD)
		return false;
	code = za_queue_pull(&h->queue, &batch);
	CHECK(code == 0 || code == -EAGAIN || code == -ENODATA, "seed %llu: pull gives %d",
	      (unsigned long long)h->seed, code);
	if (code)
		return false;
	CHECK(za_batch_rows(batch) && za_batch_rows(batch) <= h->config.max_batch_rows,
	      "seed %llu: %u rows", (unsigned long long)h->seed, za_batch_rows(batch));
	za_batch_export(batch, &held->array);
	h->n_held++;
	for (int64_t i = 0; i < held->array.length; i++) {
		struct row row = row_at(&held->array, h->views, i);

		check_row(h, &row);
	}
	h->rows += (uint64_t)held->array.length;
	held->hash = batch_hash(&held->array, h->views);
	return true;
}

static void release(struct history *h, uint32_t at)
{
	struct held *held = &h->held[at];

	CHECK(batch_hash(&held->array, h->views) == held->hash,
	      "seed %llu: a held batch has changed", (unsigned long long)h->seed);
	if (below(h, 4) == 0) {
		/* Children moved out live longer than the root. */
		struct ArrowArray payload = *held->array.children[0];

		held->array.children[0]->release = NULL;
		held->array.release(&held->array);
		payload.release(&payload);
	} else {
		held->array.release(&held->array);
	}
	h->held[at] = h->held[--h->n_held];
}

static void send_some(struct history *h)
{
	struct stream *s = &h->streams[below(h, h->n_streams)];
	size_t bytes = 1 + below(h, below(h, 2) ? 40 : 9000);

	if (s->ended || s->reset)
		return;
	if (s->sent == s->bytes) {
		za_twin_end(h->twin, s->fd);
		s->ended = true;
		return;
	}
	if (s->id && below(h, 600) == 0) {
		CHECK(!za_receiver_dismiss(&h->receiver, s->id, "not wanted"), "dismiss");
		s->reset = true; /* as far as what it delivers is concerned */
		za_twin_end(h->twin, s->fd);
		return;
	}
	if (below(h, 400) == 0 && za_twin_is_open(h->twin, s->fd)) {
		za_twin_reset(h->twin, s->fd, below(h, 2) ? -ECONNRESET : -ETIMEDOUT);
		s->reset = true;
		return;
	}
	if (bytes > s->bytes - s->sent)
		bytes = s->bytes - s->sent;
	s->sent += (uint32_t)za_twin_send(h->twin, s->fd, s->data + s->sent, bytes);
	if (!za_twin_is_open(h->twin, s->fd))
		s->ended = true; /* this side closed it: the bytes broke the framing */
}

static void step(struct history *h)
{
	if (!h->ended)
		h->ended = za_receiver_step(&h->receiver) == ZA_STEP_ENDED;
}

/* What the kernel has lent is what we owe for it, chunk by chunk. */
static uint64_t check_lent(struct history *h)
{
	struct za_area *area = h->receiver.area;
	uint32_t *lent = calloc(area->chunks, sizeof(*lent));
	uint64_t all = 0;

	za_twin_lent(h->twin, lent, area->chunks);
	for (uint32_t i = 0; i < area->chunks; i++) {
		uint32_t returns = (uint32_t)(atomic_load(&area->words[i]) / ZA_WORD_RETURN);
		uint32_t owed = area->refill.ring.owed[i];

		h->owing += owed > 0;
		CHECK(lent[i] == returns + owed, "seed %llu: chunk %u: %u lent, %u + %u owed",
		      (unsigned long long)h->seed, i, lent[i], returns, owed);
		all += lent[i];
	}
	free(lent);
	return all;
}

/* Bytes that nobody has asked for yet cannot fill the area. */
static void check_shares(struct history *h)
{
	uint64_t all = 0;

	for (uint32_t i = 0; i < h->n_streams; i++)
		if (za_twin_is_open(h->twin, h->streams[i].fd))
			all += za_twin_bound(h->twin, h->streams[i].fd);
	CHECK(all <= h->receiver.area->bytes / 4 + (uint64_t)h->n_streams * (16U << 10),
	      "seed %llu: %llu bytes may wait in sockets", (unsigned long long)h->seed,
	      (unsigned long long)all);
}

static void act(struct history *h)
{
	switch (below(h, 8)) {
	case 0:
	case 1:
	case 2:
		send_some(h);
		break;
	case 3:
		if (below(h, 2))
			pull(h);
		break;
	case 4:
		if (h->n_held && below(h, 2))
			release(h, (uint32_t)below(h, h->n_held));
		break;
	case 5:
		if (h->zcrx && !below(h, 4)) {
			check_lent(h);
			check_shares(h);
		}
		za_twin_advance(h->twin, (int64_t)below(h, 20000000));
		atomic_store(&h->queue.waiting, (uint32_t)below(h, 2));
		break;
	default:
		step(h);
	}
}

/* --- the end ------------------------------------------------------------------------------- */

static bool all_sent(const struct history *h)
{
	for (uint32_t i = 0; i < h->n_streams; i++)
		if (!h->streams[i].ended && !h->streams[i].reset)
			return false;
	return true;
}

static void check_connection(struct history *h, const struct za_conn_info *info)
{
	struct row row = {.connection = info->id};
	struct stream *s = stream_of(h, &row);
	unsigned long long seed = h->seed;

	if (s->reset)
		return; /* how much had arrived is the network's secret; order and bytes are checked */
	CHECK(info->reason == (s->breaks ? ZA_CLOSE_FRAMING : ZA_CLOSE_EOF),
	      "seed %llu: connection %u ended with %u: %s", seed, info->id, info->reason,
	      info->detail);
	if (h->config.framing.kind == ZA_FRAMING_RAW)
		CHECK(s->raw_position == s->bytes, "seed %llu: raw bytes are missing", seed);
	CHECK(s->delivered == s->n_messages, "seed %llu: connection %u: %u of %u messages", seed,
	      info->id, s->delivered, s->n_messages);
	if (!s->breaks) {
		CHECK(info->bytes == s->bytes, "seed %llu: bytes", seed);
		CHECK(info->partial_bytes == s->partial, "seed %llu: %u partial bytes, not %u",
		      seed, info->partial_bytes, s->partial);
	}
}

static void finish(struct history *h)
{
	struct za_conn_info infos[MAX_CONNS];
	struct za_refill_level level;
	struct za_area *area = h->receiver.area;
	uint64_t lent;
	size_t n;

	za_receiver_finish(&h->receiver, 0, NULL);
	for (uint32_t i = 0; !h->ended; i++) {
		CHECK(i < 1000000, "seed %llu: it does not end", (unsigned long long)h->seed);
		act(h);
		step(h);
		if (i > 1000 && !pull(h) && h->n_held)
			release(h, h->n_held - 1);
	}
	lent = h->zcrx ? check_lent(h) : 0;
	za_receiver_teardown(&h->receiver);
	CHECK(za_twin_counts(h->twin).lent_at_close == lent, "seed %llu: lent at the end",
	      (unsigned long long)h->seed);
	while (pull(h) || h->n_held)
		if (h->n_held)
			release(h, (uint32_t)below(h, h->n_held));
	n = za_conns_list(&h->receiver.conns, true, infos, MAX_CONNS);
	for (size_t i = 0; i < n; i++)
		check_connection(h, &infos[i]);
	level = za_refill_level(&area->refill, area);
	CHECK(level.free + level.offered == area->chunks && (h->zcrx || !level.offered),
	      "seed %llu: %u of %u chunks came home, %u offered", (unsigned long long)h->seed,
	      level.free, area->chunks, level.offered);
	CHECK(!za_read(&area->stats.lease_faults), "lease faults");
	CHECK(!za_read(&area->stats.batches_held) && !za_outstanding(), "batches are out");
	CHECK(za_read(&area->stats.rows) == h->rows, "seed %llu: rows counted",
	      (unsigned long long)h->seed);
	h->drops = za_twin_counts(h->twin).drops;
	h->nobufs = za_read(&area->stats.nobufs);
	za_queue_fini(&h->queue);
	za_events_fini(&h->events);
	za_receiver_fini(&h->receiver);
	CHECK(!za_live_areas(), "the area is still mapped");
	za_twin_free(h->twin);
}

int main(int argc, char **argv)
{
	bool zcrx = argc > 1 && !strcmp(argv[1], "zcrx");
	uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	uint64_t count = argc > 3 ? strtoull(argv[3], NULL, 10) : 2500;
	struct history *h = malloc(sizeof(*h));
	uint64_t rows = 0, seams = 0, drops = 0, nobufs = 0, owing = 0;

	for (uint64_t seed = first; seed < first + count; seed++) {
		begin(h, zcrx, seed);
		while (!all_sent(h))
			act(h);
		seams += za_read(&h->receiver.stats->seams);
		finish(h);
		rows += h->rows;
		drops += h->drops;
		nobufs += h->nobufs;
		owing += h->owing;
	}
	free(h);
	printf("%llu histories, %llu rows, at least %llu seams: all as they should be; %llu times out "
	       "of chunks, %llu packets dropped, %llu returns seen waiting for room\n",
	       (unsigned long long)count, (unsigned long long)rows, (unsigned long long)seams,
	       (unsigned long long)nobufs, (unsigned long long)drops, (unsigned long long)owing);
	return 0;
}

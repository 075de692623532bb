/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_differential.c - the same random schedule on the twin and on this machine's kernel.
 *
 * A schedule: peers send pieces of given sizes, end or reset; a consumer pulls, holds and releases
 * batches in given turns. On both sides a whole source runs, with its threads. Which bytes arrive,
 * how each connection ends and how many chunks are free at the end must be the same, and what a
 * naive splitter says; when things happen is each side's own affair.
 *
 * test_differential copy|nodev first-seed count; exits with 77 where the kernel lacks it.
 * test_differential zcrx first-seed count INTERFACE QUEUE ADDRESS NAMESPACE
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../source.h"
#include "../twin/twin.h"
#include "../wait.h"
#include "check.h"
#include "peer.h"
#include "rows.h"

#define MAX_CONNS 6
#define MAX_STREAM 60000
#define MAX_HELD 64
#define TURNS 400

struct schedule {
	uint64_t seed, random;
	struct za_config config;
	uint32_t conns;
	uint8_t data[MAX_CONNS][MAX_STREAM];
	uint32_t bytes[MAX_CONNS];
	bool resets[MAX_CONNS];
};

/* What one side has seen. */
struct outcome {
	uint64_t hash[MAX_CONNS]; /* over rows, their positions and bytes */
	uint64_t rows[MAX_CONNS], bytes[MAX_CONNS];
	uint8_t reason[MAX_CONNS];
	uint32_t partial[MAX_CONNS];
	uint64_t free_chunks;
};

struct side {
	struct za_twin *twin; /* NULL: the real kernel */
	struct za_source *source;
	int fds[MAX_CONNS]; /* twin: this side's; kernel: the peer's */
	uint32_t sent[MAX_CONNS];
	bool over[MAX_CONNS];
	struct ArrowArray held[MAX_HELD];
	uint32_t n_held;
	bool ended;
	struct outcome seen;
};

static uint64_t below(uint64_t *random, uint64_t limit)
{
	return za_twin_random(random) % limit;
}

static void make_schedule(struct schedule *s, uint8_t transport, uint64_t seed)
{
	struct za_config *c = &s->config;
	uint64_t *r = &s->random;
	/* Where a NIC has not enough for a packet it is sent again, after a time. */
	uint64_t fewest_chunks = transport == ZA_TRANSPORT_ZCRX ? 48 : 16;

	memset(s, 0, sizeof(*s));
	s->seed = seed;
	s->random = seed * 977 + 5;
	s->conns = 1 + (uint32_t)below(r, MAX_CONNS);
	*c = (struct za_config){
		.chunk_bytes = 4096,
		.area_bytes = (fewest_chunks + below(r, 48)) * 4096,
		.window_bytes = 2 * 4096,
		.max_batch_rows = 1 + (uint32_t)below(r, 300),
		.max_batch_bytes = 1 + (uint32_t)below(r, 16384),
		.max_delay_ns = below(r, 2) * 2000000,
		.queue_batches = 1 + (uint32_t)below(r, 6),
		.framing.max_message_bytes = 100 + (uint32_t)below(r, 8000),
		.max_connections = MAX_CONNS,
		.closed_history = MAX_CONNS,
		.exhausted_ns = 1000000000000,
		.copy_out = (uint8_t)below(r, 3),
		.framing.kind = ZA_FRAMING_DELIMITED,
		.framing.delimiter_bytes = 1,
		.framing.delimiter = {'\n'},
		.framing.emit_unterminated = (uint8_t)below(r, 2),
		.transport = transport,
		.refill_entries = below(r, 2) ? 0 : 1 + (uint32_t)below(r, 8),
		.kernel_refill_memory = (uint8_t)below(r, 2),
		.turn_bytes = below(r, 2) ? 0 : 1000 + (uint32_t)below(r, 9000),
	};
	for (uint32_t i = 0; i < s->conns; i++) {
		s->bytes[i] = (uint32_t)below(r, MAX_STREAM);
		s->resets[i] = !below(r, 8);
		for (uint32_t p = 0; p < s->bytes[i]; p++)
			s->data[i][p] = (uint8_t)(below(r, 60) ? 'a' + below(r, 26) : '\n');
	}
}

static void open_kernel_pair(struct side *side, uint32_t at)
{
	uint32_t id;
	int here;

	connected_pair(&here, &side->fds[at]);
	CHECK(!za_source_add(side->source, here, &id) && id == at + 1, "add");
}

static int begin(struct side *side, const struct schedule *s, bool twin)
{
	time_t until = time(NULL) + 20;
	struct za_config config = s->config;
	struct za_twin_options options = {.seed = s->seed,
					  .threaded = true,
					  .zcrx = s->config.transport != ZA_TRANSPORT_COPY};
	struct za_error error;
	struct za_sys sys;
	uint32_t id;
	int code;

	memset(side, 0, sizeof(*side));
	side->twin = twin ? za_twin_new(&options) : NULL;
	if (twin)
		sys = za_twin_sys(side->twin);
	config.interface_index = twin ? 1 : wire.interface_index;
	config.queue = twin ? 1 : wire.queue;
	do {
		code = za_source_new(&config, twin ? &sys : NULL, &error, &side->source);
	} while (!twin && still_bound(code, until));
	if (code) {
		printf("%s: %s\n", error.step, error.detail);
		return code;
	}
	for (uint32_t i = 0; i < s->conns; i++) {
		if (!twin) {
			open_kernel_pair(side, i);
			continue;
		}
		side->fds[i] = za_twin_socket(side->twin);
		CHECK(!za_source_add(side->source, side->fds[i], &id) && id == i + 1, "add");
	}
	CHECK(!za_source_finish(side->source, 0, NULL), "finish");
	return 0;
}

static void send_some(struct side *side, const struct schedule *s, uint32_t at, uint32_t bytes)
{
	const uint8_t *from = s->data[at] + side->sent[at];
	ssize_t n;

	if (side->over[at])
		return;
	if (bytes > s->bytes[at] - side->sent[at])
		bytes = s->bytes[at] - side->sent[at];
	if (bytes) {
		if (side->twin)
			n = (ssize_t)za_twin_send(side->twin, side->fds[at], from, bytes);
		else
			n = send(side->fds[at], from, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
		side->sent[at] += n > 0 ? (uint32_t)n : 0;
		/* This side has closed it: the bytes broke the framing. */
		side->over[at] = side->twin ? !za_twin_is_open(side->twin, side->fds[at])
					    : n < 0 && errno != EAGAIN;
		return;
	}
	side->over[at] = true;
	if (s->resets[at]) {
		if (side->twin) {
			za_twin_reset(side->twin, side->fds[at], -ECONNRESET);
			return;
		}
		close_with_reset(side->fds[at]);
		side->fds[at] = -1;
	} else if (side->twin) {
		za_twin_end(side->twin, side->fds[at]);
	} else {
		shutdown(side->fds[at], SHUT_WR);
	}
}

static void look_at(struct side *side, const struct schedule *s, const struct ArrowArray *batch)
{
	for (int64_t i = 0; i < batch->length; i++) {
		struct row row = row_at(batch, true, i);
		uint32_t at = row.connection - 1;
		uint64_t *hash = &side->seen.hash[at];

		CHECK(at < s->conns && row.position + row.bytes <= s->bytes[at] &&
			      !memcmp(row.data, s->data[at] + row.position, row.bytes),
		      "seed %llu: bytes differ", (unsigned long long)s->seed);
		*hash = (*hash ^ row.position) * 0x100000001b3ULL + row.bytes;
		side->seen.rows[at]++;
		side->seen.bytes[at] += row.bytes;
	}
}

static void pull(struct side *side, const struct schedule *s, int64_t wait_ns)
{
	int code;

	if (side->n_held == MAX_HELD || side->ended)
		return;
	code = za_source_next(side->source, wait_ns, &side->held[side->n_held]);
	if (!code)
		look_at(side, s, &side->held[side->n_held++]);
	else
		CHECK(code == -EAGAIN || code == -ENODATA, "seed %llu: %d",
		      (unsigned long long)s->seed, code);
	side->ended = code == -ENODATA;
}

static void release(struct side *side, uint32_t at)
{
	side->held[at].release(&side->held[at]);
	side->held[at] = side->held[--side->n_held];
}

/* One turn of the schedule. All randomness comes from `r`, which both sides begin alike. */
static void take_turn(struct side *side, const struct schedule *s, uint64_t *r)
{
	uint32_t at = (uint32_t)below(r, s->conns), what = (uint32_t)below(r, 10);
	uint32_t bytes = 1 + (uint32_t)below(r, below(r, 2) ? 60 : 9000);
	uint64_t which = below(r, MAX_HELD), pause = below(r, 300000);

	if (what < 5)
		send_some(side, s, at, bytes);
	else if (what < 7)
		pull(side, s, 0);
	else if (what < 9 && side->n_held)
		release(side, (uint32_t)(which % side->n_held));
	else
		za_wait(&(za_u32){0}, 0, (int64_t)pause);
}

/* For who wants to know why it does not end. */
static void describe(struct side *side, const struct schedule *s)
{
	struct za_conn_info infos[MAX_CONNS];
	size_t n = za_source_connections(side->source, true, infos, MAX_CONNS);
	struct za_metrics m;

	za_source_metrics(side->source, &m);
	fprintf(stderr,
		"chunks %llu offered %llu free %llu leased %llu; nobufs %llu starved %llu flushes "
		"%llu pending %llu; rearms %llu enters %llu wakes %llu; paused %llu stalls %llu "
		"queue %llu held %llu\n",
		(unsigned long long)m.chunks, (unsigned long long)m.chunks_offered,
		(unsigned long long)m.chunks_free, (unsigned long long)m.chunks_leased,
		(unsigned long long)m.nobufs, (unsigned long long)m.starved,
		(unsigned long long)m.flushes, (unsigned long long)m.returns_pending,
		(unsigned long long)m.rearms, (unsigned long long)m.enters,
		(unsigned long long)m.wakes, (unsigned long long)m.paused,
		(unsigned long long)m.stalls, (unsigned long long)m.queue_batches,
		(unsigned long long)m.batches_held);
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "connection %u: reason %u, %llu bytes received, %u of %u sent%s\n",
			infos[i].id, infos[i].reason, (unsigned long long)infos[i].bytes,
			side->sent[infos[i].id - 1], s->bytes[infos[i].id - 1],
			side->over[infos[i].id - 1] ? ", over" : "");
}

static void run_to_the_end(struct side *side, const struct schedule *s)
{
	int64_t deadline = za_monotonic_ns() + 30000000000;

	while (!side->ended) {
		if (za_monotonic_ns() >= deadline)
			describe(side, s);
		CHECK(za_monotonic_ns() < deadline, "seed %llu: %s does not end",
		      (unsigned long long)s->seed, side->twin ? "the twin" : "the kernel");
		for (uint32_t i = 0; i < s->conns; i++)
			send_some(side, s, i, 4000);
		pull(side, s, 1000000);
		while (side->n_held)
			release(side, side->n_held - 1);
	}
	while (side->n_held)
		release(side, side->n_held - 1);
}

static void finish(struct side *side, const struct schedule *s)
{
	struct za_conn_info infos[MAX_CONNS];
	struct za_metrics metrics;
	size_t n = za_source_connections(side->source, true, infos, MAX_CONNS);

	CHECK(n == s->conns, "seed %llu: %zu connections", (unsigned long long)s->seed, n);
	for (size_t i = 0; i < n; i++) {
		side->seen.reason[infos[i].id - 1] = infos[i].reason;
		side->seen.partial[infos[i].id - 1] = infos[i].partial_bytes;
	}
	za_source_close(side->source);
	za_source_metrics(side->source, &metrics);
	side->seen.free_chunks = metrics.chunks_free + metrics.chunks_offered;
	CHECK(!metrics.lease_faults && !metrics.batches_held, "leases");
	za_source_put(side->source);
	for (uint32_t i = 0; i < s->conns && !side->twin; i++)
		if (side->fds[i] >= 0)
			close(side->fds[i]);
	if (side->twin)
		za_twin_free(side->twin);
}

static int play(struct side *side, const struct schedule *s, bool twin)
{
	uint64_t random = s->random;
	int code = begin(side, s, twin);

	if (code)
		return code;
	for (uint32_t i = 0; i < TURNS; i++)
		take_turn(side, s, &random);
	run_to_the_end(side, s);
	finish(side, s);
	return 0;
}

/* What a naive splitter finds. */
static uint64_t split(const struct schedule *s, uint32_t at, bool *breaks)
{
	uint32_t start = 0;
	uint64_t rows = 0;

	*breaks = false;
	for (uint32_t p = 0; p < s->bytes[at] && !*breaks; p++) {
		bool ends = s->data[at][p] == '\n';

		*breaks = !ends && p - start >= s->config.framing.max_message_bytes;
		if (ends) {
			rows++;
			start = p + 1;
		}
	}
	return rows + (!*breaks && start < s->bytes[at] && s->config.framing.emit_unterminated);
}

static void check_against_splitter(const struct schedule *s, const struct outcome *seen)
{
	for (uint32_t i = 0; i < s->conns; i++) {
		bool breaks;
		uint64_t rows = split(s, i, &breaks);
		uint8_t reason = breaks ? ZA_CLOSE_FRAMING : ZA_CLOSE_EOF;

		/* How much had arrived before a reset is the network's secret. */
		if (s->resets[i])
			CHECK(seen->reason[i] == ZA_CLOSE_RESET ||
				      (breaks && seen->reason[i] == reason),
			      "seed %llu: connection %u was reset and ended with %u",
			      (unsigned long long)s->seed, i + 1, seen->reason[i]);
		else
			CHECK(seen->reason[i] == reason && seen->rows[i] == rows,
			      "seed %llu: connection %u: %llu rows and not %llu, ended with %u",
			      (unsigned long long)s->seed, i + 1, (unsigned long long)seen->rows[i],
			      (unsigned long long)rows, seen->reason[i]);
	}
	CHECK(seen->free_chunks == s->config.area_bytes / 4096, "seed %llu: chunks",
	      (unsigned long long)s->seed);
}

static void compare(const struct schedule *s, const struct outcome *kernel,
		    const struct outcome *twin)
{
	CHECK(kernel->free_chunks == twin->free_chunks, "seed %llu: free chunks",
	      (unsigned long long)s->seed);
	for (uint32_t i = 0; i < s->conns; i++) {
		bool same = kernel->reason[i] == twin->reason[i] &&
			    kernel->hash[i] == twin->hash[i] && kernel->rows[i] == twin->rows[i] &&
			    kernel->bytes[i] == twin->bytes[i];

		if (s->resets[i])
			continue;
		/* What follows a broken message may arrive or not before its connection is closed. */
		if (kernel->reason[i] == ZA_CLOSE_EOF)
			same &= kernel->partial[i] == twin->partial[i];
		CHECK(same,
		      "seed %llu: connection %u differs: reason %u and %u, rows %llu and %llu",
		      (unsigned long long)s->seed, i + 1, kernel->reason[i], twin->reason[i],
		      (unsigned long long)kernel->rows[i], (unsigned long long)twin->rows[i]);
	}
}

int main(int argc, char **argv)
{
	uint8_t transport = ZA_TRANSPORT_COPY;
	uint64_t first, count;
	struct schedule *s = malloc(sizeof(*s));
	struct side *kernel = malloc(sizeof(*kernel)), *twin = malloc(sizeof(*twin));

	CHECK(argc == 4 || argc == 8, "usage: see the top of test_differential.c");
	first = strtoull(argv[2], NULL, 10);
	count = strtoull(argv[3], NULL, 10);
	if (argc == 8) {
		transport = ZA_TRANSPORT_ZCRX;
		use_wire(argv + 4);
	} else if (!strcmp(argv[1], "nodev")) {
		transport = ZA_TRANSPORT_NODEV;
	}
	for (uint64_t seed = first; seed < first + count; seed++) {
		make_schedule(s, transport, seed);
		if (play(kernel, s, false))
			return 77;
		CHECK(!play(twin, s, true), "twin");
		check_against_splitter(s, &kernel->seen);
		check_against_splitter(s, &twin->seen);
		compare(s, &kernel->seen, &twin->seen);
	}
	free(s);
	free(kernel);
	free(twin);
	printf("%llu schedules: the kernel and the twin agree\n", (unsigned long long)count);
	return 0;
}

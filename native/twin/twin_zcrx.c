/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twin_zcrx.c - zero-copy receive, as io_uring/zcrx.c of Linux 7.2 keeps it.
 *
 * Chunks are recycled when two counts are zero: references of the page pool (one for the NIC that
 * may write there, one for each fragment in a socket, one for each completion) and, of the last
 * kind, those that the program has not given back. A NIC takes chunks from its pool, else from the
 * refill ring, 64 entries at a time, else from the free list; where the kernel copies it takes them
 * from the free list alone.
 *
 * Stricter than the kernel: a return of what is not lent, of what is not in the area, or with
 * padding set, stops the program.
 */
#include "twin_zcrx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../uapi/query.h"
#include "twin_internal.h"

#define PAGE_BYTES 4096U
#define MAX_ENTRIES 32768U
#define REFILL_BATCH 64U /* PP_ALLOC_CACHE_REFILL */
#define POOL_CHUNKS 16U
#define HEADER_BYTES 128U
#define RQES_AT 128U
#define TAIL_AT 64U
#define NONE UINT32_MAX
#define THE_INTERFACE 1U
#define QUEUES 4U
#define TOKEN ((uint64_t)5 << ZA_ZCRX_AREA_SHIFT)

/* --- what the kernel says of itself -------------------------------------------------------- */

int twin_zcrx_query(struct za_twin *t, void *arg)
{
	const struct za_query_opcode opcodes = {.nr_request_opcodes = 66,
						.nr_register_opcodes = 38,
						.ring_setup_flags = (1U << 19) - 1};
	const struct za_query_zcrx zcrx = {
		.register_flags = ZA_ZCRX_REG_IMPORT | ZA_ZCRX_REG_NODEV,
		.nr_ctrl_opcodes = t->options.old_zcrx ? 0 : 3,
		.features = ZA_ZCRX_FEATURE_RX_PAGE_SIZE | ZA_ZCRX_FEATURE_EVENT,
		.rq_hdr_size = HEADER_BYTES,
		.rq_hdr_alignment = 64,
	};
	const struct za_query_zcrx_event event = {.stats_size = sizeof(struct za_zcrx_stats)};
	struct za_query_hdr *header = arg;
	void *answer = (void *)(uintptr_t)header->query_data;

	if (t->options.old_zcrx)
		return -EINVAL;
	header->result = 0;
	if (header->query_op == ZA_QUERY_OPCODES && header->size >= sizeof(opcodes))
		memcpy(answer, &opcodes, sizeof(opcodes));
	else if (header->query_op == ZA_QUERY_ZCRX && header->size >= sizeof(zcrx))
		memcpy(answer, &zcrx, sizeof(zcrx));
	else if (header->query_op == ZA_QUERY_ZCRX_EVENT && header->size >= sizeof(event))
		memcpy(answer, &event, sizeof(event));
	else
		header->result = -EOPNOTSUPP;
	return 0;
}

/* --- registration -------------------------------------------------------------------------- */

static int check_request(struct za_twin *t, struct za_zcrx_ifq_reg *reg)
{
	bool nodev = reg->flags & ZA_ZCRX_REG_NODEV;

	if (!(t->params.flags & ZA_SETUP_DEFER_TASKRUN) || !(t->params.flags & ZA_SETUP_CQE32))
		return -EINVAL;
	if (reg->resv[0] || reg->resv[1] || reg->zcrx_id || (reg->flags & ~ZA_ZCRX_REG_NODEV) ||
	    reg->if_rxq == NONE || !reg->rq_entries ||
	    (nodev && (reg->if_idx || reg->if_rxq || t->options.old_zcrx)))
		return -EINVAL;
	if (t->options.old_zcrx && (reg->rx_buf_len || reg->event_desc))
		return -EINVAL;
	if (reg->rq_entries > MAX_ENTRIES)
		reg->rq_entries = MAX_ENTRIES; /* rings are set up with CLAMP */
	reg->rq_entries = twin_power_of_two(reg->rq_entries);
	if (nodev)
		return reg->rx_buf_len > PAGE_BYTES ? -EOPNOTSUPP : 0;
	if (reg->if_idx != THE_INTERFACE)
		return -ENODEV;
	if (reg->rx_buf_len > t->options.max_chunk_bytes && reg->rx_buf_len > PAGE_BYTES)
		return -ERANGE;
	return reg->if_rxq < QUEUES ? 0 : -ERANGE;
}

static int check_area(const struct za_zcrx_area_reg *area)
{
	if (area->flags || area->dmabuf_fd || area->rq_area_token)
		return -EINVAL;
	if (!area->addr)
		return -EFAULT;
	return area->addr % PAGE_BYTES || area->len % PAGE_BYTES || !area->len ? -EINVAL : 0;
}

static int lay_out_region(struct twin_zcrx *z, struct za_zcrx_ifq_reg *reg,
			  struct za_region_desc *desc)
{
	size_t used = RQES_AT + (size_t)reg->rq_entries * sizeof(struct za_zcrx_rqe);
	struct za_zcrx_event_desc *events = (void *)(uintptr_t)reg->event_desc;

	if (used > desc->size)
		return -EINVAL;
	if (events && events->flags & ZA_ZCRX_EVENT_DESC_FLAG_STATS &&
	    (events->stats_offset < used ||
	     events->stats_offset + sizeof(struct za_zcrx_stats) > desc->size))
		return -ERANGE;
	z->region_is_mine = !(desc->flags & ZA_REGION_USER);
	z->region =
		z->region_is_mine ? calloc(1, desc->size) : (uint8_t *)(uintptr_t)desc->user_addr;
	desc->mmap_offset = z->region_is_mine ? TWIN_OFF_ZCRX : 0;
	memset(z->region, 0, HEADER_BYTES);
	reg->offsets = (struct za_zcrx_offsets){.head = 0, .tail = TAIL_AT, .rqes = RQES_AT};
	z->entries = reg->rq_entries;
	z->seen = 0;
	if (!events)
		return 0;
	z->event_data = events->user_data;
	z->event_mask = events->type_mask;
	if (events->flags & ZA_ZCRX_EVENT_DESC_FLAG_STATS) {
		z->stats = (void *)(z->region + events->stats_offset);
		memset(z->stats, 0, sizeof(*z->stats));
	}
	return 0;
}

static void make_chunks(struct twin_zcrx *z)
{
	z->refs = calloc(z->chunks, sizeof(*z->refs));
	z->urefs = calloc(z->chunks, sizeof(*z->urefs));
	z->pooled = calloc(z->chunks, sizeof(*z->pooled));
	z->freelist = calloc(z->chunks, sizeof(*z->freelist));
	z->pool = calloc(z->chunks, sizeof(*z->pool));
	z->posted = calloc(z->chunks, sizeof(*z->posted));
	for (uint32_t i = 0; i < z->chunks; i++)
		z->freelist[i] = i;
	z->n_free = z->chunks;
	z->n_pool = z->n_posted = 0;
	z->filling = NONE;
}

int twin_zcrx_register(struct za_twin *t, struct za_zcrx_ifq_reg *reg)
{
	struct twin_zcrx *z = &t->zcrx;
	struct za_zcrx_area_reg *area = (void *)(uintptr_t)reg->area_ptr;
	struct za_region_desc *desc = (void *)(uintptr_t)reg->region_ptr;
	int code = check_request(t, reg);

	if (z->registered)
		twin_stop("a second area is registered");
	if (!code)
		code = check_area(area);
	if (!code)
		code = lay_out_region(z, reg, desc);
	if (code)
		return code;
	z->nodev = reg->flags & ZA_ZCRX_REG_NODEV;
	z->area = (uint8_t *)(uintptr_t)area->addr;
	z->chunk_shift = (uint32_t)__builtin_ctz(reg->rx_buf_len ? reg->rx_buf_len : PAGE_BYTES);
	z->chunks = (uint32_t)(area->len >> z->chunk_shift);
	z->token = area->rq_area_token = TOKEN;
	make_chunks(z);
	reg->zcrx_id = TWIN_ZCRX_ID;
	reg->rx_buf_len = 1U << z->chunk_shift;
	z->registered = true;
	return 0;
}

/* --- chunks -------------------------------------------------------------------------------- */

static void chunk_free(struct twin_zcrx *z, uint32_t chunk)
{
	/* A page pool keeps so many; what does not fit goes back to where it came from. */
	if (z->pooled[chunk] && z->n_pool < POOL_CHUNKS) {
		z->pool[z->n_pool++] = chunk;
		return;
	}
	z->pooled[chunk] = false;
	z->freelist[z->n_free++] = chunk;
}

static void chunk_unref(struct twin_zcrx *z, uint32_t chunk)
{
	if (!z->refs[chunk]--)
		twin_stop("chunk %u has lost a reference that it did not have", chunk);
	if (!z->refs[chunk])
		chunk_free(z, chunk);
}

static struct za_zcrx_rqe *rqe_at(struct twin_zcrx *z, uint32_t at)
{
	return (struct za_zcrx_rqe *)(void *)(z->region + RQES_AT) + (at & (z->entries - 1));
}

static uint32_t rqes_ready(struct twin_zcrx *z)
{
	uint32_t tail =
		__atomic_load_n((uint32_t *)(void *)(z->region + TAIL_AT), __ATOMIC_ACQUIRE);

	if (tail - z->seen > z->entries)
		twin_stop("the refill ring has %u entries and not %u", z->entries, tail - z->seen);
	return tail - z->seen;
}

static uint32_t chunk_of_rqe(struct twin_zcrx *z, const struct za_zcrx_rqe *rqe)
{
	uint64_t at = rqe->off & ~ZA_ZCRX_AREA_MASK;

	if (rqe->pad)
		twin_stop("a refill entry with padding set: the kernel would skip it");
	if ((rqe->off & ZA_ZCRX_AREA_MASK) != z->token || at >> z->chunk_shift >= z->chunks)
		twin_stop("a refill entry %llx that is not in the area: the kernel would skip it",
			  (unsigned long long)rqe->off);
	return (uint32_t)(at >> z->chunk_shift);
}

/* Takes up to `n` returns from the refill ring. */
static uint32_t take_returns(struct za_twin *t, uint32_t n)
{
	struct twin_zcrx *z = &t->zcrx;
	uint32_t ready = rqes_ready(z), done = 0;

	for (; done < n && done < ready; done++) {
		uint32_t chunk = chunk_of_rqe(z, rqe_at(z, z->seen++));

		if (!z->urefs[chunk])
			twin_stop("chunk %u is given back more often than it was lent", chunk);
		z->urefs[chunk]--;
		chunk_unref(z, chunk);
	}
	__atomic_store_n((uint32_t *)(void *)z->region, z->seen, __ATOMIC_RELEASE);
	return done;
}

int twin_zcrx_control(struct za_twin *t, const struct za_zcrx_ctrl *ctrl)
{
	struct twin_zcrx *z = &t->zcrx;

	if (!z->registered || ctrl->zcrx_id != TWIN_ZCRX_ID)
		return -ENXIO;
	if (ctrl->op == ZA_ZCRX_CTRL_FLUSH_RQ) {
		take_returns(t, UINT32_MAX);
		return 0;
	}
	if (ctrl->op != ZA_ZCRX_CTRL_ARM_EVENT)
		return -EOPNOTSUPP;
	if (ctrl->event_type > ZA_ZCRX_EVENT_COPY || !(z->events_fired & 1U << ctrl->event_type))
		return -EINVAL;
	z->events_fired &= ~(1U << ctrl->event_type);
	return 0;
}

static void tell(struct za_twin *t, uint32_t event)
{
	struct twin_zcrx *z = &t->zcrx;

	if (!(z->event_mask & 1U << event) || z->events_fired & 1U << event)
		return;
	z->events_fired |= 1U << event;
	twin_post(t, z->event_data, (int32_t)event, 0);
}

/* --- the NIC ------------------------------------------------------------------------------- */

static bool nic_alloc(struct za_twin *t, uint32_t *chunk)
{
	struct twin_zcrx *z = &t->zcrx;

	if (!z->n_pool)
		take_returns(t, REFILL_BATCH);
	if (!z->n_pool)
		while (z->n_pool < REFILL_BATCH && z->n_free) {
			uint32_t free_one = z->freelist[--z->n_free];

			z->pooled[free_one] = true;
			z->pool[z->n_pool++] = free_one;
		}
	if (!z->n_pool) {
		tell(t, ZA_ZCRX_EVENT_ALLOC_FAIL);
		return false;
	}
	*chunk = z->pool[--z->n_pool];
	z->refs[*chunk] = 1; /* the NIC's */
	return true;
}

/* The NIC keeps some chunks in its own ring, and writes to the one that lies there longest. */
static bool nic_next(struct za_twin *t)
{
	struct twin_zcrx *z = &t->zcrx;
	uint32_t chunk;

	while (z->n_posted < t->options.nic_ring && nic_alloc(t, &chunk))
		z->posted[z->n_posted++] = chunk;
	if (!z->n_posted && !nic_alloc(t, &chunk))
		return false;
	if (z->n_posted) {
		chunk = z->posted[0];
		memmove(z->posted, z->posted + 1, --z->n_posted * sizeof(*z->posted));
	}
	z->filling = chunk;
	z->filled = 0;
	return true;
}

static void nic_done_with_chunk(struct za_twin *t)
{
	struct twin_zcrx *z = &t->zcrx;

	if (z->filling != NONE)
		chunk_unref(z, z->filling);
	z->filling = NONE;
}

/* The kernel does not ask AddressSanitizer whether it may write; and while it does, other threads
 * may be poisoning what they gave back of the same chunk. */
#ifdef __SANITIZE_ADDRESS__
__attribute__((no_sanitize_address)) static void write_bytes(uint8_t *to, const uint8_t *from,
							     uint32_t bytes)
{
	volatile uint8_t *at = to;

	for (uint32_t i = 0; i < bytes; i++)
		at[i] = from[i];
}
#else
#define write_bytes memcpy
#endif

static void write_area(struct za_twin *t, uint8_t *to, const uint8_t *from, uint32_t bytes)
{
	if (t->options.before_write)
		t->options.before_write(t->options.arg, to, bytes);
	write_bytes(to, from, bytes);
}

/* What a socket is charged for a fragment: drivers count the whole chunk that it may keep. */
static uint32_t cost_of(const struct twin_zcrx *z, const struct twin_fragment *fragment)
{
	return fragment->in_area ? 1U << z->chunk_shift : fragment->bytes;
}

static void queue_fragment(const struct twin_zcrx *z, struct twin_file *socket,
			   const struct twin_fragment *fragment)
{
	struct twin_fragment *queued = malloc(sizeof(*queued));
	struct twin_fragment **at = &socket->fragments;

	*queued = *fragment;
	queued->next = NULL;
	queued->charged = cost_of(z, fragment);
	while (*at)
		at = &(*at)->next;
	*at = queued;
	socket->n += fragment->bytes;
	socket->truesize += queued->charged;
}

/* Writes a piece of a packet to where there is room; how much. 0: no memory. */
static uint32_t nic_write(struct za_twin *t, struct twin_file *socket, const uint8_t *data,
			  uint32_t bytes)
{
	struct twin_zcrx *z = &t->zcrx;
	uint32_t chunk_bytes = 1U << z->chunk_shift;
	struct twin_fragment fragment = {.in_area = true};

	if (z->filling == NONE && !nic_next(t))
		return 0;
	if (bytes > chunk_bytes - z->filled)
		bytes = chunk_bytes - z->filled;
	fragment.chunk = z->filling;
	fragment.offset = z->filled;
	fragment.bytes = bytes;
	write_area(t, z->area + ((uint64_t)z->filling << z->chunk_shift) + z->filled, data, bytes);
	z->refs[z->filling]++;
	z->filled += bytes;
	queue_fragment(z, socket, &fragment);
	/* Some drivers use a page for one packet, others for as many as fit. */
	if (z->filled == chunk_bytes || twin_chance(t, t->options.packet_a_chunk))
		nic_done_with_chunk(t);
	return bytes;
}

static uint32_t arrive_linear(const struct twin_zcrx *z, struct twin_file *socket,
			      const uint8_t *data, uint32_t bytes)
{
	struct twin_fragment fragment = {.memory = malloc(bytes), .bytes = bytes};

	memcpy(fragment.memory, data, bytes);
	queue_fragment(z, socket, &fragment);
	return bytes;
}

uint32_t twin_zcrx_arrive(struct za_twin *t, struct twin_file *socket, const uint8_t *data,
			  uint32_t bytes)
{
	uint32_t most = t->options.max_fragment ? t->options.max_fragment : 9000, done = 0;

	while (done < bytes) {
		uint32_t packet =
			t->options.whole_fragments ? most : 1 + (uint32_t)twin_below(t, most);
		bool linear =
			!t->zcrx.registered || t->zcrx.nodev || twin_chance(t, t->options.linear);
		uint32_t n;

		/* The window is closed: the peer waits. One packet always fits. */
		if (socket->bound && socket->truesize >= socket->bound)
			break;
		if (packet > bytes - done)
			packet = bytes - done;
		n = linear ? arrive_linear(&t->zcrx, socket, data + done, packet)
			   : nic_write(t, socket, data + done, packet);
		done += n;
		if (!n) {
			t->counts.drops++;
			break; /* the packet is lost, and everything behind it: TCP sends it again */
		}
	}
	return done;
}

static void pop_fragment(struct za_twin *t, struct twin_file *socket)
{
	struct twin_fragment *first = socket->fragments;

	socket->fragments = first->next;
	socket->truesize -= first->charged;
	if (first->in_area && t->zcrx.registered)
		chunk_unref(&t->zcrx, first->chunk);
	free(first->memory);
	free(first);
}

void twin_zcrx_purge(struct za_twin *t, struct twin_file *socket)
{
	while (socket->fragments)
		pop_fragment(t, socket);
	socket->n = 0;
}

void twin_zcrx_close(struct za_twin *t)
{
	struct twin_zcrx *z = &t->zcrx;

	if (!z->registered)
		return;
	take_returns(t, UINT32_MAX);
	t->counts.lent_at_close = 0;
	for (uint32_t i = 0; i < z->chunks; i++)
		t->counts.lent_at_close += z->urefs[i];
	free(z->refs);
	free(z->urefs);
	free(z->pooled);
	free(z->freelist);
	free(z->pool);
	free(z->posted);
	if (z->region_is_mine && !t->refill_map)
		free(z->region);
	memset(z, 0, sizeof(*z));
}

void za_twin_lent(struct za_twin *t, uint32_t *lent, uint32_t chunks)
{
	struct twin_zcrx *z = &t->zcrx;

	pthread_mutex_lock(&t->lock);
	memcpy(lent, z->urefs, chunks * sizeof(*lent));
	for (uint32_t at = z->seen, ready = rqes_ready(z); ready; ready--, at++)
		lent[chunk_of_rqe(z, rqe_at(z, at))]--;
	twin_each_unreaped(t, lent);
	pthread_mutex_unlock(&t->lock);
}

void twin_zcrx_count_unreaped(struct za_twin *t, const struct io_uring_cqe *cqe, uint32_t *lent)
{
	const struct za_zcrx_cqe *more = (const void *)(cqe + 1);

	if (cqe->flags & ZA_CQE_F_MORE && cqe->res > 0 &&
	    (more->off & ZA_ZCRX_AREA_MASK) == t->zcrx.token)
		lent[(more->off & ~ZA_ZCRX_AREA_MASK) >> t->zcrx.chunk_shift]--;
}

/* --- receiving ----------------------------------------------------------------------------- */

/* Posts a completion for bytes of a chunk; false if there is no room. */
static bool post_bytes(struct za_twin *t, struct twin_request *request, uint32_t chunk,
		       uint32_t offset, uint32_t bytes)
{
	struct twin_zcrx *z = &t->zcrx;
	struct twin_big_cqe cqe = {
		.cqe = {.user_data = request->user_data,
			.res = (int32_t)bytes,
			.flags = ZA_CQE_F_MORE},
		.off = z->token | ((uint64_t)chunk << z->chunk_shift) | offset,
	};

	if (!twin_cq_post(t, &cqe))
		return false;
	z->refs[chunk]++;
	z->urefs[chunk]++;
	t->counts.received++;
	t->counts.bytes += bytes;
	return true;
}

/* 0, or why the request must end. */
static int receive_linear(struct za_twin *t, struct twin_request *request,
			  struct twin_fragment *from, uint32_t bytes)
{
	struct twin_zcrx *z = &t->zcrx;
	uint32_t chunk;

	if (!z->n_free)
		return -ENOMEM;
	if (twin_cq_ready(t) == t->params.cq_entries)
		return -ENOSPC;
	chunk = z->freelist[--z->n_free];
	z->pooled[chunk] = false;
	write_area(t, z->area + ((uint64_t)chunk << z->chunk_shift), from->memory + from->offset,
		   bytes);
	if (!post_bytes(t, request, chunk, 0, bytes)) {
		z->freelist[z->n_free++] = chunk;
		return -ENOSPC;
	}
	if (z->stats) {
		z->stats->copy_count++;
		z->stats->copy_bytes += bytes;
	}
	tell(t, ZA_ZCRX_EVENT_COPY);
	return 0;
}

static bool receive_fragment(struct za_twin *t, struct twin_request *request,
			     struct twin_file *socket)
{
	struct twin_fragment *first = socket->fragments;
	uint32_t bytes = first->bytes;
	int code = 0;

	if (request->limit && bytes > request->left)
		bytes = request->left;
	if (!first->in_area) {
		bytes = bytes < PAGE_BYTES ? bytes : PAGE_BYTES;
		code = receive_linear(t, request, first, bytes);
	} else if (!post_bytes(t, request, first->chunk, first->offset, bytes)) {
		code = -ENOSPC;
	}
	if (code) {
		t->counts.nobufs += code == -ENOMEM;
		return twin_complete(t, request, code, 0);
	}
	first->offset += bytes;
	first->bytes -= bytes;
	socket->n -= bytes;
	if (!first->bytes)
		pop_fragment(t, socket);
	request->left -= bytes;
	if (request->limit && !request->left)
		return twin_complete(t, request, 0, 0);
	if (++request->in_a_row >= RECEIVES_IN_A_ROW) {
		request->in_a_row = 0;
		twin_to_the_end(t, request);
	}
	return true;
}

/* A peer that never stops, for benchmarks: the NIC has always written just what is asked for. */
static bool receive_endless(struct za_twin *t, struct twin_request *request)
{
	struct twin_zcrx *z = &t->zcrx;
	uint32_t chunk, n = 0;

	for (; n < RECEIVES_IN_A_ROW; n++) {
		if (twin_cq_ready(t) == t->params.cq_entries || !nic_alloc(t, &chunk))
			break;
		post_bytes(t, request, chunk, 0, t->options.endless_bytes);
		chunk_unref(z, chunk);
	}
	twin_to_the_end(t, request);
	return n;
}

bool twin_zcrx_receive(struct za_twin *t, struct twin_request *request)
{
	struct twin_file *socket = twin_file(t, request->fd, TWIN_SOCKET);

	if (t->options.endless_bytes)
		return receive_endless(t, request);
	if (socket->fragments)
		return receive_fragment(t, request, socket);
	if (socket->error) {
		int error = socket->error;

		socket->error = 0; /* reported once, then end of stream: as sk->sk_err */
		socket->ended = true;
		return twin_complete(t, request, error, 0);
	}
	return socket->ended && twin_complete(t, request, 0, 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* twin_buffers.c - the provided-buffer ring, as io_uring/kbuf.c keeps it. */
#include <errno.h>
#include <string.h>

#include "twin_internal.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#define IO_URING_MAX_PBUF_ENTRIES 32768

int twin_register_buffers(struct za_twin *t, const struct za_buf_reg *reg)
{
	if (reg->resv[0] || reg->resv[1] || reg->resv[2] || (reg->flags & ~ZA_PBUF_RING_INC))
		return -EINVAL;
	if ((reg->flags & ZA_PBUF_RING_INC) && t->options.no_incremental)
		return -EINVAL;
	if (!reg->ring_entries || (reg->ring_entries & (reg->ring_entries - 1)) ||
	    reg->ring_entries > IO_URING_MAX_PBUF_ENTRIES)
		return -EINVAL;
	if (!reg->ring_addr || (reg->ring_addr & 4095))
		return -EFAULT;
	if (t->buffers)
		return -EEXIST;
	t->buffers = (struct io_uring_buf_ring *)(uintptr_t)reg->ring_addr;
	t->buffer_entries = reg->ring_entries;
	t->incremental = reg->flags & ZA_PBUF_RING_INC;
	t->buffer_head = t->buffer_seen = 0;
	return 0;
}

static struct io_uring_buf *buffer_at(struct za_twin *t, uint16_t at)
{
	return &t->buffers->bufs[at & (t->buffer_entries - 1)];
}

static bool overlap(const struct io_uring_buf *a, const struct io_uring_buf *b)
{
	return a->addr < b->addr + b->len && b->addr < a->addr + a->len;
}

/* The kernel takes what it is given. A chunk that is offered while it is offered already is the
 * worst mistake that a program can make with it: two streams are written over each other. */
void twin_check_offers(struct za_twin *t)
{
	uint16_t tail = __atomic_load_n(&t->buffers->tail, __ATOMIC_ACQUIRE);

	if ((uint16_t)(tail - t->buffer_head) > t->buffer_entries)
		twin_stop("more buffers offered than the ring has entries");
	for (; t->buffer_seen != tail; t->buffer_seen++) {
		const struct io_uring_buf *new = buffer_at(t, t->buffer_seen);

		if (!new->addr || !new->len)
			twin_stop("an empty buffer is offered");
		for (uint16_t at = t->buffer_head; at != t->buffer_seen; at++)
			if (overlap(new, buffer_at(t, at)) || new->bid == buffer_at(t, at)->bid)
				twin_stop("buffer %u is offered although the kernel has it",
					  new->bid);
	}
	t->counts.buffers_held = (uint16_t)(tail - t->buffer_head);
}

bool twin_has_buffer(struct za_twin *t)
{
	twin_check_offers(t);
	return t->buffer_head != t->buffer_seen;
}

static void take_bytes(struct twin_file *socket, uint8_t *to, uint32_t bytes)
{
	for (uint32_t done = 0; done < bytes;) {
		uint32_t piece = socket->capacity - socket->head;

		if (piece > bytes - done)
			piece = bytes - done;
		memcpy(to + done, socket->bytes + socket->head, piece);
		socket->head = (socket->head + piece) % socket->capacity;
		done += piece;
	}
	socket->n -= bytes;
}

/* The kernel does not ask AddressSanitizer whether it may write. */
static void as_the_kernel(void *at, uint32_t bytes)
{
#ifdef __SANITIZE_ADDRESS__
	__asan_unpoison_memory_region(at, bytes);
#else
	(void)at;
	(void)bytes;
#endif
}

uint32_t twin_fill(struct za_twin *t, struct twin_file *socket, uint32_t limit, uint32_t *flags)
{
	struct io_uring_buf *buffer = buffer_at(t, t->buffer_head);
	uint32_t bytes = limit;
	void *at = (void *)(uintptr_t)buffer->addr;

	if (bytes > socket->n)
		bytes = socket->n;
	if (bytes > buffer->len)
		bytes = buffer->len;
	if (t->options.before_write)
		t->options.before_write(t->options.arg, at, bytes);
	as_the_kernel(at, bytes);
	take_bytes(socket, at, bytes);
	*flags = ZA_CQE_F_BUFFER | (uint32_t)buffer->bid << IORING_CQE_BUFFER_SHIFT;
	if (t->incremental && bytes < buffer->len) {
		buffer->addr += bytes;
		buffer->len -= bytes;
		*flags |= ZA_CQE_F_BUF_MORE;
	} else {
		t->buffer_head++;
		t->counts.buffers_held--;
	}
	return bytes;
}

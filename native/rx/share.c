/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - how much each connection may have received that nobody has asked for yet.
 *
 * With a NIC such bytes lie in the area already. If one connection could fill it while its receive
 * is paused, nothing would arrive for any other: so all of them together get a quarter of the area.
 */
#include "receiver.h"

#define LEAST_BYTES (16ULL << 10)
#define MOST_BYTES (1ULL << 30)

static uint32_t share_bytes(const struct za_receiver *r)
{
	uint64_t bytes = r->area->bytes / 4;

	if (r->config.receive_buffer_bytes)
		return r->config.receive_buffer_bytes;
	if (r->config.transport != ZA_TRANSPORT_ZCRX)
		return 0;
	/* In steps of two, so that not every connection that comes changes all others. */
	for (uint32_t n = 1; n < r->conns.open; n *= 2)
		bytes /= 2;
	bytes = bytes < LEAST_BYTES ? LEAST_BYTES : bytes;
	return (uint32_t)(bytes < MOST_BYTES ? bytes : MOST_BYTES);
}

void za_receiver_share(struct za_receiver *r, struct za_conn *conn)
{
	uint32_t bytes = share_bytes(r);

	if (!bytes)
		return;
	if (bytes == r->share_bytes) {
		r->sys.ops->bound_socket(r->sys.ctx, conn->fd, bytes);
		return;
	}
	r->share_bytes = bytes;
	for (uint32_t i = 0; i < r->conns.max; i++)
		if (r->conns.slots[i])
			r->sys.ops->bound_socket(r->sys.ctx, r->conns.slots[i]->fd, bytes);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* twin_zcrx.h - the kernel's side of zero-copy receive: area, refill ring, and a NIC. */
#ifndef ZA_TWIN_ZCRX_H
#define ZA_TWIN_ZCRX_H

#include <stdbool.h>
#include <stdint.h>

#include "../uapi/zcrx.h"

struct za_twin;
struct twin_file;
struct twin_request;

/* Bytes that a socket has received and the program has not: in the area, or in ordinary memory. */
struct twin_fragment {
	struct twin_fragment *next;
	bool in_area;
	uint32_t chunk, offset; /* in_area */
	uint8_t *memory;        /* else, `bytes` from `offset` on */
	uint32_t bytes;
	uint32_t charged; /* to its socket's bound */
};

struct twin_zcrx {
	bool registered, nodev;
	uint8_t *area;
	uint32_t chunk_shift, chunks;
	uint64_t token;
	/* what the kernel knows of each chunk */
	uint32_t
		*refs; /* of its page pool: a NIC's, one a fragment in a socket, one a completion */
	uint32_t *urefs; /* completions that were not given back */
	bool *pooled;    /* came to the program through the NIC's pool, and returns there */
	uint32_t *freelist, n_free;
	uint32_t *pool, n_pool; /* the NIC's */
	/* the refill ring */
	uint8_t *region;
	bool region_is_mine;
	uint32_t entries, seen;
	/* the chunk that the NIC is writing to; UINT32_MAX: none */
	uint32_t filling, filled;
	/* chunks that wait in the NIC's own ring */
	uint32_t *posted, n_posted;
	/* events */
	uint64_t event_data;
	uint32_t event_mask, events_fired;
	struct za_zcrx_stats *stats;
};

int twin_zcrx_query(struct za_twin *twin, void *arg);
int twin_zcrx_register(struct za_twin *twin, struct za_zcrx_ifq_reg *reg);
int twin_zcrx_control(struct za_twin *twin, const struct za_zcrx_ctrl *ctrl);
/* The ring is closed: everything is taken back. */
void twin_zcrx_close(struct za_twin *twin);

/* Bytes arrive from the network. Returns how many the NIC had memory for. */
uint32_t twin_zcrx_arrive(struct za_twin *twin, struct twin_file *socket, const uint8_t *data,
			  uint32_t bytes);
void twin_zcrx_purge(struct za_twin *twin, struct twin_file *socket);
/* A receive looks at its socket; true if it made progress. */
bool twin_zcrx_receive(struct za_twin *twin, struct twin_request *request);

#endif

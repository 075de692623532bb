/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h - the connections of a receiver: open ones in slots, closed ones in a bounded history.
 *
 * The receiver thread owns the connections; other threads only read what za_conns_list() copies
 * for them under the table's lock.
 */
#ifndef ZA_RX_CONN_H
#define ZA_RX_CONN_H

#include <pthread.h>

#include "../decode/tail.h"
#include "sys.h"

struct za_conn {
	uint32_t id, slot;
	uint32_t generation; /* of the slot: tells late completions of an earlier tenant apart */
	int fd;
	bool armed;      /* a receive is in the kernel */
	bool cancelling; /* and was asked to end */
	bool served;     /* has received since it was armed */
	bool queued;     /* waits in the list of those to be armed */
	bool ending;     /* no more bytes are wanted: closes when its receive has ended */
	enum za_close_reason reason; /* with ending */
	int error;
	char detail[128];
	struct za_conn *next; /* in that list */
	uint64_t turn_bytes;  /* received since it was armed */
	uint64_t position;    /* of the next byte to arrive: bytes received so far */
	uint32_t lost_bytes;  /* received, and not to be delivered */
	struct za_tail tail;
	int64_t opened_ns;
	za_u64 bytes, rows; /* for other threads; the receiver thread writes */
	char local[64], peer[64];
};

struct za_conns {
	pthread_mutex_t lock;
	struct za_conn **slots;
	uint32_t *generations;
	uint32_t max, open;
	uint32_t first_free; /* no free slot below this one */
	za_u32 next_id;
	struct za_conn_info *history;
	uint32_t history_max, history_head, history_n;
};

int za_conns_init(struct za_conns *conns, uint32_t max, uint32_t history);
void za_conns_fini(struct za_conns *conns);
/* Any thread. Ids count up from 1. */
uint32_t za_conns_next_id(struct za_conns *conns);
/* Receiver thread. NULL if all slots are taken or memory is out. Moves fd on success. */
struct za_conn *za_conns_open(struct za_conns *conns, const struct za_sys *sys, uint32_t id,
			      int fd);
/* Receiver thread. NULL if the slot has another tenant by now. */
static inline struct za_conn *za_conns_at(struct za_conns *conns, uint32_t slot,
					  uint32_t generation)
{
	struct za_conn *conn = slot < conns->max ? conns->slots[slot] : NULL;

	return conn && conn->generation == generation ? conn : NULL;
}
/* Receiver thread. The connection becomes history: `reason` and the rest are taken from it. Its
 * tail is given back; its fd is closed. */
void za_conns_close(struct za_conns *conns, const struct za_sys *sys, struct za_area *area,
		    struct za_conn *conn, uint32_t partial_bytes);
/* Any thread. See za_source_connections(). */
size_t za_conns_list(struct za_conns *conns, bool with_closed, struct za_conn_info *out,
		     size_t room);

#endif

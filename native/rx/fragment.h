/* SPDX-License-Identifier: Apache-2.0 */
/* fragment.h - what one completion says: bytes in the area, or how a receive ended. */
#ifndef ZA_RX_FRAGMENT_H
#define ZA_RX_FRAGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "../reclaim/lease.h"

enum za_receive_state {
	ZA_RECEIVE_ARMED,     /* more completions will come */
	ZA_RECEIVE_AGAIN,     /* it ended, nothing is lost: arm it again */
	ZA_RECEIVE_NOBUFS,    /* it ended for want of a chunk: arm it when there is one */
	ZA_RECEIVE_CANCELLED, /* it ended because we asked */
	ZA_RECEIVE_EOF,       /* the peer ended its stream, or the receive's turn is over */
	ZA_RECEIVE_ERROR,     /* see error */
};

struct za_fragment {
	uint64_t offset;     /* into the area */
	uint32_t bytes;      /* 0: nothing but a change of state */
	struct za_gift hold; /* of its own, if available: the receiver drops it when it has framed
			      * the bytes, unless somebody took it over; else the kernel's hold
			      * covers them until the next completion */
	enum za_receive_state state; /* of the request, after these bytes */
	int error;                   /* -errno with ZA_RECEIVE_ERROR */
};

#endif

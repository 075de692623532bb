/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - cutting a byte stream into messages without moving it.
 *
 * A framing looks at bytes and says where messages lie. It keeps no state: what it must know of an
 * unfinished message is that message's bytes so far, which the receiver keeps for it (tail.c does
 * the copying when they do not lie next to what follows). So any framing can be resumed at
 * any byte, and none can lose one.
 */
#ifndef ZA_DECODE_FRAME_H
#define ZA_DECODE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../za.h"

/* A message's payload, relative to where the scan began. */
struct za_bound {
	uint32_t start;
	uint32_t length;
};

struct za_framing {
	const struct za_framing_ops *ops;
	uint32_t max_message_bytes;
	uint32_t fixed_bytes;
	struct za_prefix prefix;
	uint8_t delimiter[8];
	uint8_t delimiter_bytes;
	bool blocks;
	bool emit_unterminated;
};

struct za_framing_ops {
	const char *name;
	const char *broken; /* what -EBADMSG means, in words */
	/* Whatever arrives is a message: nothing is ever unfinished. */
	bool whole;
	/* Finds messages in data[0..len). data begins at the start of a message of which the first
	 * `from` bytes were scanned before without finding its end. Writes at most `room` bounds and
	 * in *consumed how many bytes they use up, delimiters included. Returns the number of bounds,
	 * or, when the first message is bad, -EMSGSIZE (over the limit) or -EBADMSG. */
	int (*scan)(const struct za_framing *framing, const uint8_t *data, size_t len, size_t from,
		    struct za_bound *bounds, uint32_t room, size_t *consumed);
	/* An unfinished message `head` continues with `next`: how many bytes of next belong to it,
	 * and whether it is whole with them. A framing that must see more before it can say takes
	 * what it needs first, and is asked again with that in head; next may be empty then. Returns
	 * 0 or as scan. */
	int (*extend)(const struct za_framing *framing, const uint8_t *head, size_t head_len,
		      const uint8_t *next, size_t next_len, size_t *taken, bool *whole);
	/* The stream ended within a message: true if `head` counts as a message, and its payload. */
	bool (*finish)(const struct za_framing *framing, const uint8_t *head, size_t head_len,
		       struct za_bound *bound);
};

extern const struct za_framing_ops za_framing_raw;
extern const struct za_framing_ops za_framing_delimited;
extern const struct za_framing_ops za_framing_prefixed;
extern const struct za_framing_ops za_framing_varint;
extern const struct za_framing_ops za_framing_fixed;
extern const struct za_framing_ops za_framing_syslog;
extern const struct za_framing_ops za_framing_ipc;

/* 0, or -EINVAL and which value is wrong. */
int za_framing_init(struct za_framing *framing, const struct za_framing_config *config,
		    struct za_error *error);

#endif

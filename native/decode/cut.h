/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cut.h - from fragments to rows.
 *
 * A *cut* is one fragment on its way into batches. It can stop at any message, when the batch is
 * full and its successor has nowhere to go, and go on later: that is how backpressure reaches into
 * the middle of a fragment.
 */
#ifndef ZA_DECODE_CUT_H
#define ZA_DECODE_CUT_H

#include "../export/batch.h"
#include "../rx/conn.h"

#define ZA_CUT_BOUNDS 512

/* What cutting needs from the receiver. */
struct za_cutter {
	struct za_area *area; /* borrowed */
	struct za_framing framing;
	struct za_framing preamble; /* of a connection's first message, if .ops */
	bool drop_preamble;         /* and that is not a row */
	bool utf8;                  /* every message must be text */
	struct za_batch *batch;     /* the one being filled, NULL if none */
	struct za_bound bounds[ZA_CUT_BOUNDS];
};

struct za_cut {
	struct za_conn *conn; /* NULL: nothing is being cut */
	uint64_t offset;      /* of what is left, in the area */
	size_t bytes;
	size_t scanned;        /* of these, without finding an end */
	struct za_gift *gift;  /* the fragment's own hold, for who takes over its last bytes */
	struct za_span joined; /* the lease of a tail that this fragment continues in place */
	bool at_end;           /* the stream has ended: the tail is the last message */
	int64_t received_ns;
};

/* The framings of a configuration, and what its payload type promises; the area comes later. 0, or
 * -EINVAL and which value is wrong. */
int za_cutter_init(struct za_cutter *cutter, const struct za_config *config,
		   struct za_error *error);
/* In words: why za_cut_run() gave `code` for the message at `position`. */
void za_cut_describe(const struct za_cutter *cutter, int code, uint64_t position, char *out,
		     size_t room);

/* Begins a fragment of `bytes` bytes, or, with none, the end of the stream. `gift` stays valid until
 * the cut is over. */
void za_cut_begin(struct za_cut *cut, struct za_conn *conn, uint64_t offset, size_t bytes,
		  struct za_gift *gift, int64_t received_ns);
/* Where every fragment is a message by itself (raw framing): adds it, if the batch has room. Does what
 * za_cut_begin() and za_cut_run() would do, in far fewer steps. False: they must do it. */
bool za_cut_whole(struct za_cutter *cutter, struct za_conn *conn, uint64_t offset, uint32_t bytes,
		  struct za_gift *gift, int64_t received_ns);
/* Goes on. 0: all is cut; what is unfinished is the connection's tail. -ENOSPC: the batch is full,
 * call again with another. -EMSGSIZE, -EBADMSG, -EILSEQ: the bytes break the framing; *lost is how
 * many were received and are not delivered. -ENOMEM. */
int za_cut_run(struct za_cut *cut, struct za_cutter *cutter, uint32_t *lost);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* receive.c - receives: armed, completed, cut into rows; how connections end. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "receiver.h"

static uint64_t request_of(const struct za_conn *conn)
{
	return za_request_data(ZA_REQUEST_RECEIVE, conn->generation, conn->slot);
}

/* The connection that a receive, or the answer to its cancel, belongs to; NULL if it is gone. */
static struct za_conn *conn_of(struct za_receiver *r, uint64_t user_data)
{
	return za_conns_at(&r->conns, (uint32_t)user_data, (uint32_t)(user_data >> 32) & 0xFFFFFF);
}

/* --- arming -------------------------------------------------------------------------------- */

void za_receive_wait(struct za_receiver *r, struct za_conn *conn, bool passed_over)
{
	struct za_conn *before = passed_over ? r->arm_passed : r->arm_last;
	struct za_conn **at = before ? &before->next : &r->arm_first;

	conn->queued = true;
	conn->next = *at;
	*at = conn;
	if (!conn->next)
		r->arm_last = conn;
	if (passed_over)
		r->arm_passed = conn;
}

static struct za_conn *first_waiting(struct za_receiver *r)
{
	struct za_conn *conn = r->arm_first;

	r->arm_first = conn->next;
	if (!r->arm_first)
		r->arm_last = NULL;
	if (r->arm_passed == conn)
		r->arm_passed = NULL;
	conn->queued = false;
	conn->next = NULL;
	return conn;
}

static void unqueue(struct za_receiver *r, struct za_conn *conn)
{
	struct za_conn *before = NULL;

	if (!conn->queued)
		return;
	for (struct za_conn *at = r->arm_first; at != conn; at = at->next)
		before = at;
	if (before)
		before->next = conn->next;
	else
		r->arm_first = conn->next;
	if (r->arm_last == conn)
		r->arm_last = before;
	if (r->arm_passed == conn)
		r->arm_passed = before;
	conn->queued = false;
	conn->next = NULL;
}

/* As many as there are chunks for them. More would come back for want of one and lose their turn:
 * the order of the list is what makes connections equal when the area is short. */
void za_receive_arm_waiting(struct za_receiver *r)
{
	uint32_t room = r->arm_first ? r->transport.ops->room(&r->transport) : 0;

	while (r->arm_first && room--) {
		struct io_uring_sqe *sqe = za_receiver_sqe(r, request_of(r->arm_first));
		struct za_conn *conn;

		if (!sqe)
			return;
		conn = first_waiting(r);
		r->transport.ops->arm(&r->transport, sqe, conn->fd);
		conn->armed = true;
		conn->served = false;
		conn->turn_bytes = 0;
		r->in_flight++;
	}
}

/* --- ends ---------------------------------------------------------------------------------- */

static void close_now(struct za_receiver *r, struct za_conn *conn, uint32_t lost)
{
	uint32_t id = conn->id;
	enum za_close_reason reason = conn->reason;
	int error = conn->error;

	unqueue(r, conn);
	za_count(&r->stats->partial_bytes, lost);
	za_conns_close(&r->conns, &r->sys, r->area, conn, lost);
	za_gauge(&r->stats->connections, r->conns.open);
	za_receiver_event(r, ZA_EVENT_CLOSED, id, error, reason);
}

/* No more bytes are wanted of this connection: it closes when its receive has ended. */
static void end(struct za_receiver *r, struct za_conn *conn, enum za_close_reason reason, int error)
{
	if (!conn->ending) {
		conn->ending = true;
		conn->reason = reason;
		conn->error = error;
	}
	if (!conn->armed)
		close_now(r, conn, conn->lost_bytes + (uint32_t)za_tail_bytes(&conn->tail));
	else if (!conn->cancelling)
		conn->cancelling = za_receiver_cancel(r, request_of(conn));
}

static void describe_framing_error(struct za_receiver *r, struct za_conn *conn, int code)
{
	za_count(&r->stats->framing_errors, 1);
	za_cut_describe(&r->cutter, code, conn->position - conn->lost_bytes, conn->detail,
			sizeof(conn->detail));
}

static const char *explain(const struct za_receiver *r, int error)
{
	const char *text = r->transport.ops->explain ? r->transport.ops->explain(error) : NULL;

	return text ? text : strerrordesc_np(-error);
}

/* What the state of a request means once its bytes are cut. */
static void receive_ended(struct za_receiver *r, struct za_conn *conn)
{
	const struct za_fragment *fragment = &r->fragment;

	if (conn->ending) {
		end(r, conn, conn->reason, conn->error);
		return;
	}
	switch (fragment->state) {
	case ZA_RECEIVE_ARMED:
	case ZA_RECEIVE_EOF: /* see run_cut() */
		return;
	case ZA_RECEIVE_NOBUFS:
		za_count(&r->stats->nobufs, 1);
		break;
	case ZA_RECEIVE_CANCELLED:
		za_count(&r->stats->cancelled, 1);
		break;
	case ZA_RECEIVE_AGAIN:
		break;
	case ZA_RECEIVE_ERROR:
		(void)snprintf(conn->detail, sizeof(conn->detail), "%s",
			       explain(r, fragment->error));
		end(r, conn, fragment->error == -ECONNRESET ? ZA_CLOSE_RESET : ZA_CLOSE_ERROR,
		    fragment->error);
		return;
	}
	za_count(&r->stats->rearms, 1);
	/* One connection with much to say can take every chunk at once. Those who were armed beside
	 * it and came back with nothing are next, or it would always be the same who wait. */
	za_receive_wait(r, conn, fragment->state == ZA_RECEIVE_NOBUFS && !conn->served);
}

/* --- bytes --------------------------------------------------------------------------------- */

static void drop_hold(struct za_receiver *r)
{
	if (r->fragment.hold.available)
		za_lease_drop_chunk(r->area, r->fragment.hold.chunk);
	r->fragment.hold.available = false;
}

/* Cuts what is begun; false: the queue has no room for a full batch. */
static bool run_cut(struct za_receiver *r)
{
	struct za_conn *conn = r->cut.conn;

	for (;;) {
		bool at_end = r->cut.at_end;
		uint32_t rows, lost;
		int code;

		if (!za_emit_ready(r))
			return true;
		rows = za_batch_rows(r->cutter.batch);
		code = za_cut_run(&r->cut, &r->cutter, &lost);
		if (!rows && za_batch_rows(r->cutter.batch))
			r->first_row_ns = r->now_ns;
		if (code == -ENOSPC) {
			if (!za_emit_flush(r))
				return false;
			continue;
		}
		drop_hold(r);
		conn->lost_bytes += lost;
		if (code == -ENOMEM) {
			za_receiver_fail(r, code, "framing", "no memory for an unfinished message");
			return true;
		}
		if (code) {
			describe_framing_error(r, conn, code);
			end(r, conn, ZA_CLOSE_FRAMING, code);
		} else if (at_end) {
			end(r, conn, ZA_CLOSE_EOF, 0);
		} else if (r->fragment.state == ZA_RECEIVE_EOF && !conn->ending) {
			za_cut_begin(&r->cut, conn, 0, 0, NULL, r->now_real_ns);
			continue;
		} else {
			receive_ended(r, conn);
		}
		return true;
	}
}

static void count_fragment(struct za_receiver *r, struct za_conn *conn)
{
	za_count(&r->stats->bytes, r->fragment.bytes);
	za_count(&r->stats->fragments, 1);
	za_count(&conn->bytes, r->fragment.bytes);
	conn->position += r->fragment.bytes;
	conn->served = true;
	conn->turn_bytes += r->fragment.bytes;
}

/* A receive that ends with 0 has seen the end of the stream, or has had its turn. */
static bool turn_is_over(const struct za_receiver *r, const struct za_conn *conn)
{
	return r->transport.turn_bytes && conn->turn_bytes >= r->transport.turn_bytes;
}

/* The short way of a fragment that needs no cutting. */
static bool add_whole(struct za_receiver *r, struct za_conn *conn)
{
	bool first = r->cutter.batch && !za_batch_rows(r->cutter.batch);

	if (!za_cut_whole(&r->cutter, conn, r->fragment.offset, r->fragment.bytes,
			  &r->fragment.hold, r->now_real_ns))
		return false;
	if (first)
		r->first_row_ns = r->now_ns;
	drop_hold(r);
	/* The end of a stream comes without bytes where fragments are rows. */
	if (r->fragment.state != ZA_RECEIVE_ARMED)
		receive_ended(r, conn);
	return true;
}

bool za_receive_completed(struct za_receiver *r, const struct za_completion *cqe)
{
	struct za_conn *conn = conn_of(r, cqe->user_data);
	int code = r->transport.ops->complete(&r->transport, cqe, &r->fragment);

	if (!(cqe->flags & ZA_CQE_F_MORE)) {
		r->in_flight--;
		if (conn)
			conn->armed = conn->cancelling = false;
	}
	if (!conn || code) {
		za_receiver_fail(r, -EPROTO, "completion",
				 "the kernel reported what was not asked");
		return true;
	}
	if (r->fragment.state == ZA_RECEIVE_EOF && turn_is_over(r, conn))
		r->fragment.state = ZA_RECEIVE_AGAIN;
	if (r->fragment.bytes)
		count_fragment(r, conn);
	if (conn->ending || r->discarding) {
		conn->lost_bytes += r->fragment.bytes;
		drop_hold(r);
		receive_ended(r, conn);
		return true;
	}
	if (r->fragment.bytes && add_whole(r, conn))
		return true;
	if (r->fragment.bytes) {
		za_cut_begin(&r->cut, conn, r->fragment.offset, r->fragment.bytes,
			     &r->fragment.hold, r->now_real_ns);
		return run_cut(r);
	}
	drop_hold(r);
	if (r->fragment.state == ZA_RECEIVE_EOF) {
		za_cut_begin(&r->cut, conn, 0, 0, NULL, r->now_real_ns);
		return run_cut(r);
	}
	receive_ended(r, conn);
	return true;
}

bool za_receive_resume(struct za_receiver *r)
{
	return !r->cut.conn || run_cut(r);
}

void za_receive_abandon(struct za_receiver *r)
{
	struct za_conn *conn = r->cut.conn;

	if (!conn)
		return;
	if (r->cut.joined.bytes)
		za_lease_drop(r->area, &r->cut.joined, 1);
	conn->lost_bytes += (uint32_t)r->cut.bytes;
	r->cut.conn = NULL;
	drop_hold(r);
	receive_ended(r, conn);
}

void za_receive_dismiss(struct za_receiver *r, uint32_t id, const char *detail)
{
	struct za_conn *conn = NULL;

	for (uint32_t i = 0; i < r->conns.max && !conn; i++)
		if (r->conns.slots[i] && r->conns.slots[i]->id == id)
			conn = r->conns.slots[i];
	if (!conn || conn->ending)
		return;
	za_count(&r->stats->framing_errors, 1);
	(void)snprintf(conn->detail, sizeof(conn->detail), "%s", detail);
	if (r->cut.conn != conn) {
		end(r, conn, ZA_CLOSE_FRAMING, -EBADMSG);
		return;
	}
	/* Its fragment waits in the middle for room. Giving that up ends the connection, or its
	 * receive does. */
	conn->ending = true;
	conn->reason = ZA_CLOSE_FRAMING;
	conn->error = -EBADMSG;
	za_receive_abandon(r);
}

void za_receive_not_cancelled(struct za_receiver *r, const struct za_completion *answer)
{
	struct za_conn *conn = conn_of(r, answer->user_data);

	if (!conn || !conn->armed || !conn->cancelling)
		return;
	conn->cancelling = false;
	if (conn->ending)
		end(r, conn, conn->reason, conn->error);
}

/* --- all of them --------------------------------------------------------------------------- */

void za_receive_cancel_all(struct za_receiver *r)
{
	for (uint32_t i = 0; i < r->conns.max; i++) {
		struct za_conn *conn = r->conns.slots[i];

		if (conn && conn->armed && !conn->cancelling)
			conn->cancelling = za_receiver_cancel(r, request_of(conn));
	}
}

void za_receive_close_all(struct za_receiver *r)
{
	for (uint32_t i = 0; i < r->conns.max; i++)
		if (r->conns.slots[i])
			end(r, r->conns.slots[i], ZA_CLOSE_LOCAL, 0);
}

void za_receive_sweep_tails(struct za_receiver *r)
{
	for (uint32_t i = 0; i < r->conns.max; i++)
		if (r->conns.slots[i] && za_tail_stitch(&r->conns.slots[i]->tail, r->area))
			za_receiver_fail(r, -ENOMEM, "framing",
					 "no memory for an unfinished message");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* accept.c - the listener: one multishot accept (5.19). */
#include <errno.h>
#include <sys/socket.h>

#include "receiver.h"

#define RETRY_NS 100000000LL

void za_listener_arm(struct za_receiver *r)
{
	struct za_listener *listener = &r->listener;
	struct io_uring_sqe *sqe;

	if (listener->fd < 0 || listener->armed || r->now_ns < listener->retry_ns)
		return;
	sqe = za_receiver_sqe(r, za_request_data(ZA_REQUEST_ACCEPT, 0, 0));
	if (!sqe)
		return;
	sqe->opcode = IORING_OP_ACCEPT;
	sqe->fd = listener->fd;
	sqe->ioprio = IORING_ACCEPT_MULTISHOT;
	sqe->accept_flags = SOCK_CLOEXEC;
	listener->armed = true;
	r->in_flight++;
}

/* Closes as soon as the kernel has let go of it; called again when it has. */
void za_listener_close(struct za_receiver *r)
{
	struct za_listener *listener = &r->listener;

	if (listener->fd < 0)
		return;
	if (listener->armed) {
		if (!listener->cancelling)
			listener->cancelling =
				za_receiver_cancel(r, za_request_data(ZA_REQUEST_ACCEPT, 0, 0));
		return;
	}
	r->sys.ops->close(r->sys.ctx, listener->fd);
	listener->fd = -1;
}

static bool limit_reached(const struct za_receiver *r)
{
	return r->config.accept_limit && r->listener.accepted >= r->config.accept_limit;
}

static void accept_failed(struct za_receiver *r, int error)
{
	za_count(&r->stats->accept_errors, 1);
	za_receiver_event(r, ZA_EVENT_ACCEPT, 0, error, 0);
	/* The connection stays in the listener's backlog. What is short (descriptors, memory) does
	 * not come back at once: do not spin. */
	r->listener.retry_ns = r->now_ns + RETRY_NS;
}

/* Counted before the peer can see it. */
static void refuse(struct za_receiver *r, uint32_t id, int fd, uint32_t limit)
{
	za_count(&r->stats->refused, 1);
	za_receiver_event(r, ZA_EVENT_REFUSED, id, 0, limit);
	r->sys.ops->close_socket(r->sys.ctx, fd);
}

void za_receiver_open(struct za_receiver *r, uint32_t id, int fd)
{
	struct za_conn *conn = r->stopping ? NULL : za_conns_open(&r->conns, &r->sys, id, fd);

	if (!conn) {
		refuse(r, id, fd, r->config.max_connections);
		return;
	}
	za_receiver_share(r, conn);
	za_gauge(&r->stats->connections, r->conns.open);
	za_receiver_event(r, ZA_EVENT_OPENED, conn->id, 0, 0);
	za_receive_wait(r, conn, false);
}

static void accepted(struct za_receiver *r, int fd)
{
	if (limit_reached(r)) {
		/* Came between the last one that is wanted and the listener's end. */
		refuse(r, 0, fd, r->config.accept_limit);
		return;
	}
	if (r->conns.open < r->config.max_connections) {
		r->listener.accepted++;
		za_count(&r->stats->accepted, 1);
	}
	za_receiver_open(r, za_conns_next_id(&r->conns), fd);
	if (limit_reached(r)) {
		r->finished = true;
		za_listener_close(r);
	}
}

void za_listener_completed(struct za_receiver *r, const struct za_completion *cqe)
{
	if (!(cqe->flags & ZA_CQE_F_MORE)) {
		r->listener.armed = false;
		r->listener.cancelling = false;
		r->in_flight--;
	}
	if (cqe->res >= 0)
		accepted(r, cqe->res);
	else if (cqe->res != -ECANCELED && cqe->res != -ECONNABORTED && cqe->res != -EINTR &&
		 cqe->res != -EAGAIN)
		accept_failed(r, cqe->res);
	if (r->stopping || limit_reached(r))
		za_listener_close(r);
}

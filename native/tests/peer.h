/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - for comparisons of the twin with a kernel: a connection whose far end the test plays,
 * on either of them, and notes of what came of it.
 *
 * The kernel's connections go over loopback, or over a wire: from a network namespace to an address
 * whose packets a receive queue gets.
 */
#ifndef ZA_TEST_PEER_H
#define ZA_TEST_PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../twin/twin.h"
#include "check.h"

#define NOTES 16384

struct notes {
	char text[NOTES];
	size_t n;
};

static inline void note(struct notes *notes, const char *what, long a, long b)
{
	notes->n += (size_t)snprintf(notes->text + notes->n, NOTES - notes->n, "%s %ld %ld\n", what,
				     a, b);
	CHECK(notes->n < NOTES, "too many notes");
}

struct wire {
	const char *host; /* where to listen */
	const char *far;  /* the peers' network namespace, a file; NULL: this one */
	uint32_t interface_index, queue;
};

static struct wire wire = {.host = "127.0.0.1"};

/* Reads INTERFACE QUEUE ADDRESS NAMESPACE. */
static inline void use_wire(char **arguments)
{
	wire = (struct wire){.interface_index = if_nametoindex(arguments[0]),
			     .queue = (uint32_t)strtoul(arguments[1], NULL, 10),
			     .host = arguments[2],
			     .far = arguments[3]};
	CHECK(wire.interface_index, "no interface %s", arguments[0]);
}

/* A queue is free only some time after its last ring was closed. True if it is worth a new try. */
static inline bool still_bound(int code, time_t until)
{
	if (code != -EEXIST || !wire.far || time(NULL) >= until)
		return false;
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	return true;
}

/* A socket of the peers' namespace; it stays there, this thread does not. */
static inline int far_socket(void)
{
	int here = -1, there = -1, fd;

	if (wire.far) {
		here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
		there = open(wire.far, O_RDONLY | O_CLOEXEC);
		CHECK(!setns(there, CLONE_NEWNET), "setns");
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (wire.far) {
		CHECK(!setns(here, CLONE_NEWNET), "setns");
		close(here);
		close(there);
	}
	return fd;
}

/* Two ends of a TCP connection. */
static inline void connected_pair(int *here, int *far)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(inet_pton(AF_INET, wire.host, &at.sin_addr) == 1, "address");
	CHECK(!bind(listener, (struct sockaddr *)&at, len) && !listen(listener, 1), "listen");
	CHECK(!getsockname(listener, (struct sockaddr *)&at, &len), "name");
	*far = far_socket();
	CHECK(!connect(*far, (struct sockaddr *)&at, len), "connect");
	*here = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
}

/* Closes a socket so that the other side sees a reset. */
static inline void close_with_reset(int fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

struct peer {
	struct za_twin *twin; /* NULL: the real kernel */
	int fd;               /* the side that receives */
	int far;              /* real kernel: the side that sends */
	/* twin: what the peer's socket keeps until it is taken, as a kernel's does */
	uint8_t unsent[1U << 17];
	size_t n_unsent;
};

static inline void peer_open(struct peer *peer)
{
	if (peer->twin)
		peer->fd = za_twin_socket(peer->twin);
	else
		connected_pair(&peer->fd, &peer->far);
}

/* The twin's peer sends again what was not taken. */
static inline void peer_retries(struct peer *peer)
{
	size_t taken;

	if (!peer->n_unsent)
		return;
	taken = za_twin_send(peer->twin, peer->fd, peer->unsent, peer->n_unsent);
	peer->n_unsent -= taken;
	memmove(peer->unsent, peer->unsent + taken, peer->n_unsent);
}

/* `bytes` of a text that depends on their number. */
static inline void peer_says(struct peer *peer, size_t bytes)
{
	uint8_t *text = peer->unsent + peer->n_unsent;

	CHECK(bytes <= sizeof(peer->unsent) - peer->n_unsent, "too much to say");
	for (size_t i = 0; i < bytes; i++)
		text[i] = (uint8_t)(i * 7 + bytes);
	if (!peer->twin) {
		CHECK(send(peer->far, text, bytes, MSG_NOSIGNAL) == (ssize_t)bytes, "send");
		return;
	}
	peer->n_unsent += bytes;
	peer_retries(peer);
}

static inline void peer_ends(struct peer *peer)
{
	CHECK(!peer->n_unsent, "the peer has not sent all");
	if (peer->twin)
		za_twin_end(peer->twin, peer->fd);
	else
		shutdown(peer->far, SHUT_WR);
}

static inline void peer_resets(struct peer *peer)
{
	if (peer->twin) {
		za_twin_reset(peer->twin, peer->fd, -ECONNRESET);
		return;
	}
	close_with_reset(peer->far);
	peer->far = -1;
}

/* The far end; the receiving one is the test's to close. */
static inline void peer_close(struct peer *peer)
{
	if (peer->twin)
		za_twin_free(peer->twin);
	else if (peer->far >= 0)
		close(peer->far);
}

#endif

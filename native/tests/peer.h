/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - for comparisons of the twin with a kernel: a connection whose far end the test plays,
 * on either of them, and notes of what came of it.
 */
#ifndef ZA_TEST_PEER_H
#define ZA_TEST_PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
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

/* Two ends of a TCP connection over loopback. */
static inline void loopback_pair(int *here, int *far)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(!bind(listener, (struct sockaddr *)&at, len) && !listen(listener, 1), "listen");
	CHECK(!getsockname(listener, (struct sockaddr *)&at, &len), "name");
	*far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
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
};

static inline void peer_open(struct peer *peer)
{
	if (peer->twin)
		peer->fd = za_twin_socket(peer->twin);
	else
		loopback_pair(&peer->fd, &peer->far);
}

/* `bytes` of a text that depends on their number. */
static inline void peer_says(struct peer *peer, size_t bytes)
{
	static uint8_t text[1U << 17];

	CHECK(bytes <= sizeof(text), "too much to say");
	for (size_t i = 0; i < bytes; i++)
		text[i] = (uint8_t)(i * 7 + bytes);
	if (peer->twin)
		CHECK(za_twin_send(peer->twin, peer->fd, text, bytes) == bytes, "send");
	else
		CHECK(send(peer->far, text, bytes, MSG_NOSIGNAL) == (ssize_t)bytes, "send");
}

static inline void peer_ends(struct peer *peer)
{
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

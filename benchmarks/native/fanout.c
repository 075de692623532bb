/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fanout - sends lines on many connections at once, from one thread, until standard input ends.
 *
 * Level-triggered epoll goes round the connections that have room, so the sender favours none.
 * Prints the bytes of each connection by its local port, for a byte-exact comparison.
 */
#include "bench.h"

#include <fcntl.h>
#include <sys/epoll.h>

enum { LINE_BYTES = 100, LINES = 656, READY = 256 };

struct peer {
	int fd;
	uint16_t port;
	uint64_t bytes;
};

static char lines[LINES * LINE_BYTES + LINE_BYTES];

static void prepare_lines(void)
{
	for (size_t i = 0; i < sizeof(lines); i++)
		lines[i] = i % LINE_BYTES == LINE_BYTES - 1 ? '\n' : 'x';
}

static void watch(int epoll, int fd, uint32_t events, void *owner)
{
	struct epoll_event event = {.events = events, .data.ptr = owner};

	check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static void open_peers(struct peer *peers, uint64_t count, uint64_t port)
{
	for (uint64_t i = 0; i < count; i++) {
		peers[i].fd = connect_to(port);
		peers[i].port = local_port(peers[i].fd);
		check(fcntl(peers[i].fd, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
	}
}

static void send_some(struct peer *peer)
{
	size_t start = peer->bytes % LINE_BYTES;
	ssize_t sent = send(peer->fd, lines + start, LINES * LINE_BYTES, MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN)
		die("send");
	if (sent > 0)
		peer->bytes += (uint64_t)sent;
}

static void send_until_told_to_stop(int epoll)
{
	struct epoll_event ready[READY];

	for (;;) {
		int count = (int)check(epoll_wait(epoll, ready, READY, -1), "epoll_wait");

		for (int i = 0; i < count; i++) {
			if (!ready[i].data.ptr)
				return;
			send_some(ready[i].data.ptr);
		}
	}
}

static void finish(struct peer *peers, uint64_t count)
{
	char end;

	for (uint64_t i = 0; i < count; i++)
		check(shutdown(peers[i].fd, SHUT_WR), "shutdown");
	for (uint64_t i = 0; i < count; i++) {
		check(fcntl(peers[i].fd, F_SETFL, 0), "blocking");
		check(read(peers[i].fd, &end, 1), "the receiver went away before the end");
	}
}

int main(int argc, char **argv)
{
	struct peer *peers;
	uint64_t count, started_ns;
	int epoll;

	if (argc != 4) {
		fprintf(stderr, "usage: fanout CPU|- PORT CONNECTIONS\n");
		return 2;
	}
	pin(argv[1]);
	count = number(argv[3]);
	peers = calloc(count, sizeof(*peers));
	if (!count || !peers)
		die("arguments");
	prepare_lines();
	open_peers(peers, count, number(argv[2]));
	epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
	for (uint64_t i = 0; i < count; i++)
		watch(epoll, peers[i].fd, EPOLLOUT, &peers[i]);
	watch(epoll, STDIN_FILENO, EPOLLIN, NULL);
	started_ns = now_ns();
	send_until_told_to_stop(epoll);
	finish(peers, count);
	printf("{\"started_ns\": %lu, \"bytes\": {", started_ns);
	for (uint64_t i = 0; i < count; i++)
		printf("%s\"%u\": %lu", i ? ", " : "", peers[i].port, peers[i].bytes);
	printf("}}\n");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h - what the benchmark programs share: clocks, loopback sockets, one JSON line out.
 *
 * These are programs, not library code: every failure prints what failed and exits with 1, so that
 * the harness can never take a broken run for a measurement.
 */
#ifndef BENCH_H
#define BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static inline long check(long result, const char *what)
{
	if (result < 0)
		die(what);
	return result;
}

/* CLOCK_MONOTONIC, so that times of two processes (and Python's monotonic_ns) compare. */
static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Of this process, all its threads. */
static inline double cpu_seconds(void)
{
	struct rusage usage;

	check(getrusage(RUSAGE_SELF, &usage), "getrusage");
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static inline uint64_t number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || end == text) {
		errno = EINVAL;
		die(text);
	}
	return value;
}

/* "-" leaves the scheduler free. */
static inline void pin(const char *cpu)
{
	cpu_set_t set;

	if (!strcmp(cpu, "-"))
		return;
	CPU_ZERO(&set);
	CPU_SET(number(cpu), &set);
	check(sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

static inline struct sockaddr_in loopback(uint64_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr = {htonl(INADDR_LOOPBACK)},
	};
}

static inline int connect_to(uint64_t port)
{
	struct sockaddr_in address = loopback(port);
	int fd = (int)check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

	check(connect(fd, (struct sockaddr *)&address, sizeof(address)), "connect");
	return fd;
}

static inline uint16_t local_port(int fd)
{
	struct sockaddr_in address;
	socklen_t bytes = sizeof(address);

	check(getsockname(fd, (struct sockaddr *)&address, &bytes), "getsockname");
	return ntohs(address.sin_port);
}

static inline void no_delay(int fd)
{
	int on = 1;

	check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), "TCP_NODELAY");
}

#endif

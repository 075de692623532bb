/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pinger - measures round trips: a message goes out on one connection, the answer comes in on
 * another, so that a receiver that only receives can be measured like one that also sends.
 */
#include "bench.h"

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static void receive_all(int fd, char *data, size_t bytes)
{
	while (bytes) {
		ssize_t got = check(recv(fd, data, bytes, 0), "recv");

		if (!got) {
			errno = ECONNRESET;
			die("the receiver went away");
		}
		data += got;
		bytes -= (size_t)got;
	}
}

static uint64_t trip_ns(int out, int in, const char *message, char *answer, size_t bytes)
{
	uint64_t started = now_ns();

	if (check(send(out, message, bytes, MSG_NOSIGNAL), "send") != (ssize_t)bytes)
		die("a short send");
	receive_all(in, answer, bytes);
	return now_ns() - started;
}

static double at(const uint64_t *sorted_ns, uint64_t count, double share)
{
	return 1e-3 * (double)sorted_ns[(uint64_t)((double)(count - 1) * share)];
}

int main(int argc, char **argv)
{
	uint64_t trips, warmup, *times_ns;
	size_t bytes;
	char *message, *answer;
	int out, in;

	if (argc != 7) {
		fprintf(stderr, "usage: pinger CPU|- PORT REPLY_PORT TRIPS WARMUP BYTES\n");
		return 2;
	}
	pin(argv[1]);
	in = connect_to(number(argv[3]));
	out = connect_to(number(argv[2]));
	trips = number(argv[4]);
	warmup = number(argv[5]);
	bytes = number(argv[6]);
	no_delay(out);
	times_ns = calloc(trips, sizeof(*times_ns));
	message = malloc(bytes);
	answer = malloc(bytes);
	if (!trips || !bytes || !times_ns || !message || !answer)
		die("arguments");
	memset(message, 'x', bytes - 1);
	message[bytes - 1] = '\n';
	for (uint64_t i = 0; i < warmup; i++)
		trip_ns(out, in, message, answer, bytes);
	for (uint64_t i = 0; i < trips; i++)
		times_ns[i] = trip_ns(out, in, message, answer, bytes);
	check(shutdown(out, SHUT_WR), "shutdown");
	qsort(times_ns, trips, sizeof(*times_ns), compare);
	printf("{\"p50_us\": %.3f, \"p90_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f, "
	       "\"max_us\": %.3f}\n",
	       at(times_ns, trips, 0.5), at(times_ns, trips, 0.9), at(times_ns, trips, 0.99),
	       at(times_ns, trips, 0.999), at(times_ns, trips, 1.0));
	return 0;
}

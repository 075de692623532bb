/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor - the least a receiver can do: recv() into one hot buffer of 64 KiB until end of stream.
 *
 * Prints {"port": ...} when it listens and its sample when the stream has ended, like every
 * receiver of the harness.
 */
#include "bench.h"

static long status_kib(const char *field)
{
	char line[128];
	size_t length = strlen(field);
	long kib = -1;
	FILE *status = fopen("/proc/self/status", "r");

	if (!status)
		die("/proc/self/status");
	while (kib < 0 && fgets(line, sizeof(line), status))
		if (!strncmp(line, field, length))
			kib = strtol(line + length, NULL, 10);
	fclose(status);
	return kib;
}

int main(int argc, char **argv)
{
	static char buffer[64 * 1024];
	struct sockaddr_in address = loopback(0);
	uint64_t bytes = 0, calls = 0, ended_ns;
	double cpu;
	long rss_kib;
	ssize_t got;
	int listener, fd;

	if (argc != 2) {
		fprintf(stderr, "usage: floor CPU|-\n");
		return 2;
	}
	pin(argv[1]);
	listener = (int)check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	check(bind(listener, (struct sockaddr *)&address, sizeof(address)), "bind");
	check(listen(listener, 1), "listen");
	rss_kib = status_kib("VmRSS:");
	cpu = cpu_seconds();
	printf("{\"port\": %u}\n", local_port(listener));
	fflush(stdout);
	fd = (int)check(accept(listener, NULL, NULL), "accept");
	while ((got = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
		bytes += (uint64_t)got;
		calls++;
	}
	check(got, "recv");
	ended_ns = now_ns();
	cpu = cpu_seconds() - cpu;
	printf("{\"bytes\": %lu, \"ended_ns\": %lu, \"cpu_seconds\": %.6f, "
	       "\"rss_start_kib\": %ld, \"rss_peak_kib\": %ld, \"calls\": %lu}\n",
	       bytes, ended_ns, cpu, rss_kib, status_kib("VmHWM:"), calls);
	return 0;
}

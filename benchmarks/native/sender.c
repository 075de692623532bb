/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sender - sends a prefix once, a body again and again for so many bytes, and a suffix once.
 *
 * As fast as possible, in writes of 256 KiB out of memory prepared before. The body need not
 * divide the writes: it stands in memory long enough that a write can start at any of its bytes.
 */
#include "bench.h"

enum { WRITE_BYTES = 256 * 1024 };

struct blob {
	char *data;
	size_t bytes;
};

static struct blob load(const char *path)
{
	struct blob blob = {0};
	FILE *file;

	if (!strcmp(path, "-"))
		return blob;
	file = fopen(path, "rb");
	if (!file || fseek(file, 0, SEEK_END))
		die(path);
	blob.bytes = (size_t)check(ftell(file), path);
	rewind(file);
	blob.data = malloc(blob.bytes + WRITE_BYTES);
	if (!blob.data || fread(blob.data, 1, blob.bytes, file) != blob.bytes)
		die(path);
	fclose(file);
	return blob;
}

static void repeat_for_a_write(struct blob body)
{
	for (size_t i = body.bytes; i < body.bytes + WRITE_BYTES; i++)
		body.data[i] = body.data[i - body.bytes];
}

static void send_all(int fd, const char *data, size_t bytes)
{
	while (bytes) {
		ssize_t sent = check(send(fd, data, bytes, MSG_NOSIGNAL), "send");

		data += sent;
		bytes -= (size_t)sent;
	}
}

static void send_body(int fd, struct blob body, uint64_t total)
{
	size_t start = 0;

	while (total) {
		size_t bytes = total < WRITE_BYTES ? (size_t)total : WRITE_BYTES;

		send_all(fd, body.data + start, bytes);
		start = (start + bytes) % body.bytes;
		total -= bytes;
	}
}

int main(int argc, char **argv)
{
	struct blob body, prefix, suffix;
	uint64_t total, started_ns;
	double cpu;
	char end;
	int fd;

	if (argc != 7) {
		fprintf(stderr, "usage: sender CPU|- PORT BODY_BYTES BODY PREFIX|- SUFFIX|-\n");
		return 2;
	}
	pin(argv[1]);
	total = number(argv[3]);
	body = load(argv[4]);
	prefix = load(argv[5]);
	suffix = load(argv[6]);
	repeat_for_a_write(body);
	fd = connect_to(number(argv[2]));
	cpu = cpu_seconds();
	started_ns = now_ns();
	send_all(fd, prefix.data, prefix.bytes);
	send_body(fd, body, total);
	send_all(fd, suffix.data, suffix.bytes);
	cpu = cpu_seconds() - cpu;
	check(shutdown(fd, SHUT_WR), "shutdown");
	/* The receiver closes when it has everything: without this wait it would see a reset. */
	check(read(fd, &end, 1), "the receiver went away before the end");
	printf("{\"started_ns\": %lu, \"cpu_seconds\": %.6f}\n", started_ns, cpu);
	return 0;
}

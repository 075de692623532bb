/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tap.c - shows what a program asks of an interface: preloaded (LD_PRELOAD), it writes every netlink
 * message and every buffer of the ethtool ioctl to the descriptor in $TAP, a line of hexadecimal each.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 4096

static void show(const char *what, const uint8_t *at, size_t bytes)
{
	const char *to = getenv("TAP");
	static char line[2 * MOST + 64];
	size_t n = (size_t)snprintf(line, sizeof(line), "%s ", what);

	if (!to)
		return;
	for (size_t i = 0; i < bytes && i < MOST; i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, "%02x", at[i]);
	line[n++] = '\n';
	if (write(atoi(to), line, n) < 0)
		abort();
}

static int is_netlink(int fd)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);

	return !getsockname(fd, (struct sockaddr *)&name, &len) && name.ss_family == AF_NETLINK;
}

ssize_t sendto(int fd, const void *at, size_t bytes, int flags, const struct sockaddr *to,
	       socklen_t len)
{
	ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) =
		(__typeof__(next))dlsym(RTLD_NEXT, "sendto");

	if (is_netlink(fd))
		show("netlink", at, bytes);
	return next(fd, at, bytes, flags, to, len);
}

ssize_t send(int fd, const void *at, size_t bytes, int flags)
{
	return sendto(fd, at, bytes, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t (*next)(int, const struct msghdr *, int) =
		(__typeof__(next))dlsym(RTLD_NEXT, "sendmsg");

	if (is_netlink(fd) && message->msg_iovlen)
		show("netlink", message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);
	return next(fd, message, flags);
}

int ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int, unsigned long, void *) = (__typeof__(next))dlsym(RTLD_NEXT, "ioctl");
	static uint8_t copy[MOST];
	struct iovec here = {copy, MOST}, there;
	va_list list;
	void *argument;
	ssize_t n;

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	if (request == SIOCETHTOOL) {
		/* As much as can be read: how long it is depends on the command. */
		there = (struct iovec){((struct ifreq *)argument)->ifr_data, MOST};
		n = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
		show("ioctl", copy, n > 0 ? (size_t)n : 0);
	}
	return next(fd, request, argument);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int za_conns_init(struct za_conns *conns, uint32_t max, uint32_t history)
{
	memset(conns, 0, sizeof(*conns));
	conns->max = max;
	conns->history_max = history;
	atomic_init(&conns->next_id, 1);
	conns->slots = calloc(max, sizeof(*conns->slots));
	conns->generations = calloc(max, sizeof(*conns->generations));
	conns->history = history ? calloc(history, sizeof(*conns->history)) : NULL;
	if (!conns->slots || !conns->generations || (history && !conns->history))
		return -ENOMEM;
	return -pthread_mutex_init(&conns->lock, NULL);
}

void za_conns_fini(struct za_conns *conns)
{
	if (!conns->slots)
		return;
	pthread_mutex_destroy(&conns->lock);
	free(conns->slots);
	free(conns->generations);
	free(conns->history);
	conns->slots = NULL;
}

uint32_t za_conns_next_id(struct za_conns *conns)
{
	return atomic_fetch_add_explicit(&conns->next_id, 1, memory_order_relaxed);
}

static void format_name(char out[64], const struct sockaddr_storage *name)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)name;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)name;
	char host[INET6_ADDRSTRLEN];

	out[0] = '\0';
	if (name->ss_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host)))
		(void)snprintf(out, 64, "%s:%u", host, ntohs(v4->sin_port));
	if (name->ss_family == AF_INET6 && inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)))
		(void)snprintf(out, 64, "[%s]:%u", host, ntohs(v6->sin6_port));
}

static void name_conn(struct za_conn *conn, const struct za_sys *sys)
{
	struct sockaddr_storage local = {0}, peer = {0};

	sys->ops->names(sys->ctx, conn->fd, &local, &peer);
	format_name(conn->local, &local);
	format_name(conn->peer, &peer);
}

struct za_conn *za_conns_open(struct za_conns *conns, const struct za_sys *sys, uint32_t id, int fd)
{
	struct za_conn *conn;
	uint32_t slot = conns->first_free;

	while (slot < conns->max && conns->slots[slot])
		slot++;
	if (slot == conns->max)
		return NULL;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->id = id;
	conn->fd = fd;
	conn->slot = slot;
	conn->generation = ++conns->generations[slot] & 0xFFFFFF;
	conn->opened_ns = sys->ops->now_ns(sys->ctx, CLOCK_REALTIME);
	name_conn(conn, sys);
	pthread_mutex_lock(&conns->lock);
	conns->slots[slot] = conn;
	conns->first_free = slot + 1;
	conns->open++;
	pthread_mutex_unlock(&conns->lock);
	return conn;
}

static void describe(const struct za_conn *conn, struct za_conn_info *info)
{
	memset(info, 0, sizeof(*info));
	info->id = conn->id;
	info->opened_ns = conn->opened_ns;
	info->bytes = atomic_load_explicit(&conn->bytes, memory_order_relaxed);
	info->rows = atomic_load_explicit(&conn->rows, memory_order_relaxed);
	memcpy(info->local, conn->local, sizeof(info->local));
	memcpy(info->peer, conn->peer, sizeof(info->peer));
}

static void remember(struct za_conns *conns, const struct za_conn_info *info)
{
	if (!conns->history_max)
		return;
	if (conns->history_n == conns->history_max) {
		conns->history_head = (conns->history_head + 1) % conns->history_max;
		conns->history_n--;
	}
	conns->history[(conns->history_head + conns->history_n++) % conns->history_max] = *info;
}

void za_conns_close(struct za_conns *conns, const struct za_sys *sys, struct za_area *area,
		    struct za_conn *conn, uint32_t partial_bytes)
{
	struct za_conn_info info;

	sys->ops->close_socket(sys->ctx, conn->fd);
	za_tail_fini(&conn->tail, area);
	describe(conn, &info);
	info.reason = (uint8_t)conn->reason;
	info.error = -conn->error;
	info.partial_bytes = partial_bytes;
	info.closed_ns = sys->ops->now_ns(sys->ctx, CLOCK_REALTIME);
	memcpy(info.detail, conn->detail, sizeof(info.detail));
	pthread_mutex_lock(&conns->lock);
	remember(conns, &info);
	conns->slots[conn->slot] = NULL;
	if (conn->slot < conns->first_free)
		conns->first_free = conn->slot;
	conns->open--;
	pthread_mutex_unlock(&conns->lock);
	free(conn);
}

size_t za_conns_list(struct za_conns *conns, bool with_closed, struct za_conn_info *out,
		     size_t room)
{
	uint32_t closed;
	size_t n = 0;

	pthread_mutex_lock(&conns->lock);
	closed = with_closed ? conns->history_n : 0;
	for (uint32_t i = 0; i < closed && n < room; i++)
		out[n++] = conns->history[(conns->history_head + i) % conns->history_max];
	for (uint32_t i = 0; i < conns->max && n < room; i++)
		if (conns->slots[i])
			describe(conns->slots[i], &out[n++]);
	n = (size_t)closed + conns->open;
	pthread_mutex_unlock(&conns->lock);
	return n;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - what a configuration must be, and which of its values is wrong. */
#include "config.h"

#include <errno.h>

#include "error.h"

static int config_fail(struct za_error *error, const char *text, uint64_t value, uint64_t limit)
{
	return za_fail(error, -EINVAL, "config", "%s (it is %llu, the limit %llu)", text,
		       (unsigned long long)value, (unsigned long long)limit);
}

static int check_window(const struct za_config *c, struct za_error *error)
{
	if (c->window_bytes < 2ULL * c->chunk_bytes)
		return config_fail(error, "window must hold two chunks", c->window_bytes,
				   2ULL * c->chunk_bytes);
	if (c->window_bytes / c->chunk_bytes > 32768)
		return config_fail(error, "window must be at most 32768 chunks", c->window_bytes,
				   32768ULL * c->chunk_bytes);
	if (c->window_bytes > c->area_bytes / 2)
		return config_fail(error, "area is too small: window is more than half of it",
				   c->window_bytes, c->area_bytes / 2);
	return 0;
}

static int check_zcrx(const struct za_config *c, struct za_error *error)
{
	if (c->transport > ZA_TRANSPORT_NODEV)
		return config_fail(error, "transport is unknown", c->transport, ZA_TRANSPORT_NODEV);
	/* io_zcrx_queue_cqe() of kernels up to 7.2 shifts the chunk's number as a 32-bit value: what
	 * lies higher would be reported 4 GiB too low. */
	if (c->area_bytes > 4ULL << 30)
		return config_fail(error,
				   "area must be at most 4 GiB with zero-copy receive: kernels up "
				   "to 7.2 compute offsets in it with 32 bits",
				   c->area_bytes, 4ULL << 30);
	if (c->refill_entries > 32768)
		return config_fail(error, "zcrx.refill_entries must be at most 32768",
				   c->refill_entries, 32768);
	return 0;
}

static int check_memory(const struct za_config *c, struct za_error *error)
{
	if (c->chunk_bytes < 4096 || c->chunk_bytes > 16U << 20 ||
	    (c->chunk_bytes & (c->chunk_bytes - 1)))
		return config_fail(error, "chunk must be a power of two from 4 KiB to 16 MiB",
				   c->chunk_bytes, 16U << 20);
	if (c->area_bytes % c->chunk_bytes)
		return config_fail(error, "area must be a multiple of chunk", c->area_bytes,
				   c->chunk_bytes);
	if (c->area_bytes / c->chunk_bytes < 8)
		return config_fail(error, "area is too small: it must hold 8 chunks", c->area_bytes,
				   8ULL * c->chunk_bytes);
	if (c->area_bytes / c->chunk_bytes > UINT32_MAX / 4)
		return config_fail(error, "area has too many chunks", c->area_bytes,
				   (uint64_t)UINT32_MAX / 4 * c->chunk_bytes);
	return c->transport == ZA_TRANSPORT_COPY ? check_window(c, error) : check_zcrx(c, error);
}

static int check_batches(const struct za_config *c, struct za_error *error)
{
	if (!c->max_batch_rows || c->max_batch_rows > INT32_MAX)
		return config_fail(error, "batching.max_rows must be 1 to 2147483647",
				   c->max_batch_rows, INT32_MAX);
	if (!c->max_batch_bytes || c->max_batch_bytes > c->area_bytes / 4 ||
	    c->max_batch_bytes > 1U << 30)
		return config_fail(
			error,
			"area is too small: batching.max_bytes must be at most a quarter "
			"of it and 1 GiB",
			c->max_batch_bytes, c->area_bytes / 4);
	if (!c->queue_batches || c->queue_batches > 65536)
		return config_fail(error, "limits.queue_batches must be 1 to 65536",
				   c->queue_batches, 65536);
	if (!c->max_connections || c->max_connections > 1U << 20)
		return config_fail(error, "limits.connections must be 1 to 1048576",
				   c->max_connections, 1U << 20);
	if (c->max_delay_ns > INT64_MAX / 4 || c->coalesce_ns > INT64_MAX / 4)
		return config_fail(error, "batching.max_delay and coalesce must be below 73 years",
				   c->max_delay_ns, INT64_MAX / 4);
	if (c->copy_out > ZA_COPY_OUT_ALWAYS || c->payload > ZA_PAYLOAD_LARGE_STRING)
		return config_fail(error, "copy_out or payload_type is unknown", c->payload,
				   ZA_PAYLOAD_LARGE_STRING);
	if (c->framing.kind == ZA_FRAMING_RAW &&
	    (c->payload == ZA_PAYLOAD_STRING_VIEW || c->payload == ZA_PAYLOAD_LARGE_STRING))
		return za_fail(
			error, -EINVAL, "config",
			"payload_type: raw framing cuts anywhere, also within a character, so "
			"its payload cannot be a string");
	return 0;
}

int za_config_check(const struct za_config *config, struct za_error *error)
{
	int code = check_memory(config, error);

	return code ? code : check_batches(config, error);
}

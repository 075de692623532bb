/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ipc.c - any bytes as an Arrow IPC message: nothing outside of them is read, and what is said
 * of them is true.
 */
#include <errno.h>
#include <string.h>

#include "../decode/ipc.h"
#include "input.h"

/* However much of a message is there, it measures the same, or asks for more of it. */
static void check_measure(const uint8_t *data, size_t size)
{
	size_t need, total, more, all;
	int code = size ? za_ipc_measure(data, size, UINT32_MAX, &need, &total) : 0;

	for (size_t len = 1; len < size; len = len < 12 ? len + 1 : 2 * len) {
		/* Of its own, so that reading on is noticed. */
		uint8_t *part = malloc(len);
		int partly;

		CHECK(part, "out of memory");
		memcpy(part, data, len);
		partly = za_ipc_measure(part, len, UINT32_MAX, &more, &all);
		free(part);
		CHECK(!partly || partly == code, "%zu bytes: %d, all: %d", len, partly, code);
		if (partly)
			return;
		CHECK(!more || more > len, "%zu bytes are there and asked for", more);
		CHECK(more || code || (!need && all == total), "%zu bytes: %zu in all", len, all);
	}
}

static void check_inspect(const uint8_t *data, size_t size)
{
	struct za_ipc_info info, untouched;
	struct za_error error = {0};
	int code;

	memset(&info, 0x5A, sizeof(info));
	memset(&untouched, 0x5A, sizeof(untouched));
	code = za_ipc_inspect(data, size, &info, &error);
	if (code) {
		CHECK(code == -EBADMSG && error.code == code && error.detail[0], "error %d", code);
		CHECK(!memcmp(&info, &untouched, sizeof(info)), "an error, and a result");
		return;
	}
	CHECK(info.body_offset >= ZA_IPC_PREFIX_BYTES && info.body_offset <= size &&
		      info.body_bytes == size - info.body_offset,
	      "a body of %llu bytes at %llu", (unsigned long long)info.body_bytes,
	      (unsigned long long)info.body_offset);
	CHECK((info.kind == ZA_IPC_END) == (size == ZA_IPC_PREFIX_BYTES),
	      "the end of a stream has %zu bytes", size);
	CHECK(info.rows >= 0 && info.rows <= INT32_MAX, "%lld rows", (long long)info.rows);
	CHECK(info.buffers <= info.body_offset / 16, "%u buffers", info.buffers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size);

	CHECK(copy || !size, "out of memory");
	if (size)
		memcpy(copy, data, size);
	check_measure(copy, size);
	check_inspect(copy, size);
	free(copy);
	return 0;
}

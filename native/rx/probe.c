/* SPDX-License-Identifier: Apache-2.0 */
#include "probe.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "../uapi/query.h"
#include "zcrx_register.h"

#define TRIAL_AREA_BYTES (16U << 12)
#define NO_INTERFACE 0x7FFFFFFFU

/* 0 or -errno. `answer` is cleared first, and filled as far as the kernel knows it. */
static int query(const struct za_sys *sys, uint32_t op, void *answer, uint32_t bytes)
{
	struct za_query_hdr header = {
		.query_data = (uint64_t)(uintptr_t)answer,
		.query_op = op,
		.size = bytes,
	};
	int code;

	memset(answer, 0, bytes);
	code = sys->ops->reg(sys->ctx, -1, ZA_REGISTER_QUERY, &header, 0);
	return code ? code : header.result;
}

void za_features_query(const struct za_sys *sys, struct za_features *features)
{
	struct za_query_opcode opcodes;
	struct za_query_zcrx zcrx;
	struct za_query_zcrx_event event;

	features->query = query(sys, ZA_QUERY_OPCODES, &opcodes, sizeof(opcodes));
	if (features->query)
		return;
	features->request_opcodes = opcodes.nr_request_opcodes;
	features->register_opcodes = opcodes.nr_register_opcodes;
	features->setup_flags = opcodes.ring_setup_flags;
	if (query(sys, ZA_QUERY_ZCRX, &zcrx, sizeof(zcrx)))
		return;
	features->zcrx_register_flags = zcrx.register_flags;
	features->zcrx_area_flags = zcrx.area_flags;
	features->zcrx_ctrl_opcodes = zcrx.nr_ctrl_opcodes;
	features->zcrx_features = zcrx.features;
	if (zcrx.rq_hdr_alignment)
		features->refill_header_bytes = (zcrx.rq_hdr_size + zcrx.rq_hdr_alignment - 1) /
						zcrx.rq_hdr_alignment * zcrx.rq_hdr_alignment;
	if (!query(sys, ZA_QUERY_ZCRX_EVENT, &event, sizeof(event)))
		features->event_stats_bytes = event.stats_size;
}

/* A registration of a small area: without a device, or with one that does not exist. */
static int try_zcrx(const struct za_sys *sys, bool nodev)
{
	struct za_zcrx_region region;
	struct za_zcrx_request request = {
		.area_bytes = TRIAL_AREA_BYTES,
		.nodev = nodev,
		.interface_index = NO_INTERFACE,
		.entries = 16,
	};
	struct za_ring ring;
	int code = za_ring_init(&ring, sys, 8, 16, ZA_SETUP_CQE32 | ZA_SETUP_DEFER_TASKRUN, NULL);

	if (code)
		return code;
	request.area = mmap(NULL, TRIAL_AREA_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	code = request.area == MAP_FAILED ? -errno : za_zcrx_register(&ring, &request, &region);
	za_ring_fini(&ring);
	if (!code)
		za_zcrx_region_unmap(sys, &region);
	if (request.area != MAP_FAILED)
		munmap(request.area, TRIAL_AREA_BYTES);
	return code;
}

void za_probe(const struct za_sys *sys, struct za_features *out)
{
	struct za_sys linux_sys = za_sys_linux();
	struct za_ring ring;

	memset(out, 0, sizeof(*out));
	sys = sys ? sys : &linux_sys;
	za_features_query(sys, out);
	out->ring = za_ring_init(&ring, sys, 8, 16, 0, NULL);
	if (!out->ring)
		za_ring_fini(&ring);
	out->zcrx_ring =
		za_ring_init(&ring, sys, 8, 16, ZA_SETUP_CQE32 | ZA_SETUP_DEFER_TASKRUN, NULL);
	if (!out->zcrx_ring)
		za_ring_fini(&ring);
	/* Constants are answered even by kernels without zcrx: only a trial tells. */
	out->zcrx = try_zcrx(sys, false);
	if (out->zcrx == -ENODEV)
		out->zcrx = 0;
	out->nodev = try_zcrx(sys, true);
}

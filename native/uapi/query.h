/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uapi/query.h - asking the kernel what it can do (6.18), with ring fd -1 and nr_args 0.
 *
 * Source: include/uapi/linux/io_uring/query.h, Linux 7.3. Checked against the newest headers:
 * tests/kernel/test_uapi.py.
 */
#ifndef ZA_UAPI_QUERY_H
#define ZA_UAPI_QUERY_H

#include <linux/types.h>

#define ZA_QUERY_OPCODES 0
#define ZA_QUERY_ZCRX 1       /* 6.19 */
#define ZA_QUERY_ZCRX_EVENT 3 /* 7.2 */

struct za_query_hdr {
	__u64 next_entry;
	__u64 query_data;
	__u32 query_op;
	__u32 size; /* of the answer: what there is room for, then what was filled */
	__s32 result;
	__u32 resv[3];
};

struct za_query_opcode {
	__u32 nr_request_opcodes;
	__u32 nr_register_opcodes;
	__u64 feature_flags;
	__u64 ring_setup_flags;
	__u64 enter_flags;
	__u64 sqe_flags;
	__u32 nr_query_opcodes;
	__u32 pad;
};

struct za_query_zcrx {
	__u64 register_flags;
	__u64 area_flags;
	__u32 nr_ctrl_opcodes;
	__u32 features;
	__u32 rq_hdr_size;
	__u32 rq_hdr_alignment;
	__u64 resv2;
};

struct za_query_zcrx_event {
	__u32 event_flags;
	__u32 stats_size;
	__u32 stats_off_alignment;
	__u32 resv1;
	__u64 resv2[4];
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uapi/zcrx.h - the ABI of zero-copy receive: a NIC queue, an area, a refill ring.
 *
 * Source: include/uapi/linux/io_uring/zcrx.h, Linux 7.3 (before 6.19: linux/io_uring.h). What came
 * when: docs/zcrx.md. Checked against the newest headers: tests/kernel/test_uapi.py.
 */
#ifndef ZA_UAPI_ZCRX_H
#define ZA_UAPI_ZCRX_H

#include <linux/types.h>

/* An entry of the refill ring: one for each completion that carried bytes. */
struct za_zcrx_rqe {
	__u64 off; /* of any byte of the chunk in the area | the area's token */
	__u32 len; /* ignored */
	__u32 pad; /* 0, or the entry is skipped */
};

/* The second half of a completion. */
struct za_zcrx_cqe {
	__u64 off; /* of the bytes in the area; the area's id from bit ZA_ZCRX_AREA_SHIFT on */
	__u64 pad;
};

#define ZA_ZCRX_AREA_SHIFT 48
#define ZA_ZCRX_AREA_MASK (~(((__u64)1 << ZA_ZCRX_AREA_SHIFT) - 1))

/* Where in the region things are: differs by kernel, so only the reply counts. */
struct za_zcrx_offsets {
	__u32 head;
	__u32 tail;
	__u32 rqes;
	__u32 resv2;
	__u64 resv[2];
};

struct za_zcrx_area_reg {
	__u64 addr; /* page-aligned */
	__u64 len;
	__u64 rq_area_token; /* reply */
	__u32 flags;
	__u32 dmabuf_fd;
	__u64 resv2[2];
};

#define ZA_ZCRX_REG_IMPORT 1U
#define ZA_ZCRX_REG_NODEV 2U /* 7.1: no device, the kernel copies */

#define ZA_ZCRX_FEATURE_RX_PAGE_SIZE (1U << 0) /* 7.0: rx_buf_len */
#define ZA_ZCRX_FEATURE_EVENT (1U << 1)        /* 7.2: event_desc */

#define ZA_ZCRX_EVENT_ALLOC_FAIL 0 /* the NIC found no free chunk: packets were dropped */
#define ZA_ZCRX_EVENT_COPY 1       /* bytes were copied into the area */

#define ZA_ZCRX_EVENT_DESC_FLAG_STATS 1U

struct za_zcrx_stats {
	__u64 copy_count;
	__u64 copy_bytes;
};

struct za_zcrx_event_desc {
	__u64 user_data;
	__u32 type_mask;
	__u32 flags;
	__u64 stats_offset; /* in the region, behind the entries */
	__u64 resv2[9];
};

/* Argument of IORING_REGISTER_ZCRX_IFQ. */
struct za_zcrx_ifq_reg {
	__u32 if_idx;
	__u32 if_rxq;
	__u32 rq_entries; /* reply: a power of two */
	__u32 flags;
	__u64 area_ptr;
	__u64 region_ptr;
	struct za_zcrx_offsets offsets; /* reply */
	__u32 zcrx_id;                  /* reply */
	__u32 rx_buf_len;
	__u64 event_desc;
	__u64 resv[2];
};

#define ZA_ZCRX_CTRL_FLUSH_RQ 0  /* 6.19 */
#define ZA_ZCRX_CTRL_EXPORT 1    /* 6.19 */
#define ZA_ZCRX_CTRL_ARM_EVENT 2 /* 7.2 */

/* Argument of IORING_REGISTER_ZCRX_CTRL. */
struct za_zcrx_ctrl {
	__u32 zcrx_id;
	__u32 op;
	__u64 resv[2];
	union {
		__u32 zcrx_fd;    /* EXPORT: reply */
		__u32 event_type; /* ARM_EVENT */
		__u64 all[6];
	};
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uapi/io_uring.h - the io_uring ABI that distribution headers may lack.
 *
 * <linux/io_uring.h> of Linux 6.0 has multishot receive, provided-buffer rings and
 * SINGLE_ISSUER; everything newer that this project uses is named here with a ZA_ prefix, so
 * that it compiles the same with any header from 6.0 on.
 * Source: include/uapi/linux/io_uring.h, Linux 7.3. Checked against the newest headers that a
 * package archive offers: tests/kernel/test_uapi.py.
 */
#ifndef ZA_UAPI_IO_URING_H
#define ZA_UAPI_IO_URING_H

#include <linux/io_uring.h>

/* io_uring_setup(2) flags */
#define ZA_SETUP_SINGLE_ISSUER (1U << 12) /* 6.0 */
#define ZA_SETUP_DEFER_TASKRUN (1U << 13) /* 6.1 */
#define ZA_SETUP_CQE32 (1U << 11)         /* 5.19: every CQE has 16 bytes more */
#define ZA_SETUP_CQE_MIXED (1U << 18)     /* 6.18: only those CQEs that say so */

/* opcodes of requests and of io_uring_register(2) */
#define ZA_OP_RECV_ZC 58         /* 6.15 */
#define ZA_REGISTER_NAPI 27      /* 6.9 */
#define ZA_REGISTER_ZCRX_IFQ 32  /* 6.15 */
#define ZA_REGISTER_QUERY 35     /* 6.18 */
#define ZA_REGISTER_ZCRX_CTRL 36 /* 6.19 */

/* struct io_uring_buf_reg.flags (the field was "pad" before 6.4) */
#define ZA_PBUF_RING_INC 2U /* 6.12: a buffer is filled piece by piece */

/* struct io_uring_buf_reg: headers before 6.4 call the flags "pad". */
struct za_buf_reg {
	__u64 ring_addr;
	__u32 ring_entries;
	__u16 bgid;
	__u16 flags;
	__u64 resv[3];
};
_Static_assert(sizeof(struct za_buf_reg) == sizeof(struct io_uring_buf_reg), "io_uring_buf_reg");

/* struct io_uring_cqe.flags */
#define ZA_CQE_F_BUFFER (1U << 0)
#define ZA_CQE_F_MORE (1U << 1)
#define ZA_CQE_F_SOCK_NONEMPTY (1U << 2)
#define ZA_CQE_F_BUF_MORE (1U << 4) /* 6.12: the buffer stays at the head of its ring */

/* struct io_uring_region_desc (6.13): memory that the kernel and the program share */
#define ZA_REGION_USER 1U /* .flags: at user_addr; else the kernel's, to be mapped at mmap_offset */

struct za_region_desc {
	__u64 user_addr;
	__u64 size;
	__u32 flags;
	__u32 id;
	__u64 mmap_offset;
	__u64 resv[4];
};

/* struct io_uring_napi (6.9), argument of IORING_REGISTER_NAPI */
struct za_napi {
	__u32 busy_poll_to; /* microseconds */
	__u8 prefer_busy_poll;
	__u8 opcode; /* 0: register */
	__u8 pad[2];
	__u32 op_param; /* tracking strategy; 0: dynamic */
	__u32 resv;
};

#endif

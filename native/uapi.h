/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uapi.h - the io_uring ABI that distribution headers may lack.
 *
 * <linux/io_uring.h> of Linux 6.0 has multishot receive, provided-buffer rings and
 * SINGLE_ISSUER; everything newer that this project uses is named here with a ZA_ prefix, so
 * that it compiles the same with any header from 6.0 on.
 * Source: include/uapi/linux/io_uring.h, Linux 6.18.
 */
#ifndef ZA_UAPI_H
#define ZA_UAPI_H

#include <linux/io_uring.h>

/* io_uring_setup(2) flags */
#define ZA_SETUP_SINGLE_ISSUER (1U << 12) /* 6.0 */
#define ZA_SETUP_DEFER_TASKRUN (1U << 13) /* 6.1 */

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

#endif

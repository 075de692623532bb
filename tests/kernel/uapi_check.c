/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uapi_check.c - our names for the kernel's ABI against the kernel's own headers. It is enough
 * that this compiles; see test_uapi.py.
 */
#include <linux/io_uring.h>
#include <linux/io_uring/query.h>
#include <linux/io_uring/zcrx.h>
#include <stddef.h>

#include "../../native/uapi/io_uring.h"
#include "../../native/uapi/query.h"
#include "../../native/uapi/zcrx.h"

#define SAME(ours, theirs) _Static_assert((ours) == (theirs), #ours)
#define SIZE(ours, theirs) SAME(sizeof(struct ours), sizeof(struct theirs))
#define FIELD(ours, a, theirs, b)                                                                \
	_Static_assert(offsetof(struct ours, a) == offsetof(struct theirs, b) &&                 \
			       sizeof(((struct ours *)0)->a) == sizeof(((struct theirs *)0)->b), \
		       #ours "." #a)

/* --- io_uring ------------------------------------------------------------------------------ */
SAME(ZA_SETUP_SINGLE_ISSUER, IORING_SETUP_SINGLE_ISSUER);
SAME(ZA_SETUP_DEFER_TASKRUN, IORING_SETUP_DEFER_TASKRUN);
SAME(ZA_SETUP_CQE32, IORING_SETUP_CQE32);
SAME(ZA_SETUP_CQE_MIXED, IORING_SETUP_CQE_MIXED);
SAME(ZA_OP_RECV_ZC, (int)IORING_OP_RECV_ZC);
SAME(ZA_REGISTER_NAPI, (int)IORING_REGISTER_NAPI);
SAME(ZA_REGISTER_ZCRX_IFQ, (int)IORING_REGISTER_ZCRX_IFQ);
SAME(ZA_REGISTER_QUERY, (int)IORING_REGISTER_QUERY);
SAME(ZA_REGISTER_ZCRX_CTRL, (int)IORING_REGISTER_ZCRX_CTRL);
SAME(ZA_PBUF_RING_INC, (unsigned int)IOU_PBUF_RING_INC);
SAME(ZA_CQE_F_BUFFER, IORING_CQE_F_BUFFER);
SAME(ZA_CQE_F_MORE, IORING_CQE_F_MORE);
SAME(ZA_CQE_F_SOCK_NONEMPTY, IORING_CQE_F_SOCK_NONEMPTY);
SAME(ZA_CQE_F_BUF_MORE, IORING_CQE_F_BUF_MORE);
SIZE(za_buf_reg, io_uring_buf_reg);
FIELD(za_buf_reg, ring_addr, io_uring_buf_reg, ring_addr);
FIELD(za_buf_reg, ring_entries, io_uring_buf_reg, ring_entries);
FIELD(za_buf_reg, bgid, io_uring_buf_reg, bgid);
FIELD(za_buf_reg, flags, io_uring_buf_reg, flags);
SAME(ZA_REGION_USER, (unsigned int)IORING_MEM_REGION_TYPE_USER);
SIZE(za_region_desc, io_uring_region_desc);
FIELD(za_region_desc, user_addr, io_uring_region_desc, user_addr);
FIELD(za_region_desc, size, io_uring_region_desc, size);
FIELD(za_region_desc, flags, io_uring_region_desc, flags);
FIELD(za_region_desc, id, io_uring_region_desc, id);
FIELD(za_region_desc, mmap_offset, io_uring_region_desc, mmap_offset);
SIZE(za_napi, io_uring_napi);
FIELD(za_napi, busy_poll_to, io_uring_napi, busy_poll_to);
FIELD(za_napi, prefer_busy_poll, io_uring_napi, prefer_busy_poll);
FIELD(za_napi, opcode, io_uring_napi, opcode);
FIELD(za_napi, op_param, io_uring_napi, op_param);
/* The queue of a receive shares its place with a field that older headers have. */
_Static_assert(offsetof(struct io_uring_sqe, zcrx_ifq_idx) ==
		       offsetof(struct io_uring_sqe, file_index),
	       "zcrx_ifq_idx");

/* --- zcrx ---------------------------------------------------------------------------------- */
SIZE(za_zcrx_rqe, io_uring_zcrx_rqe);
FIELD(za_zcrx_rqe, off, io_uring_zcrx_rqe, off);
FIELD(za_zcrx_rqe, len, io_uring_zcrx_rqe, len);
FIELD(za_zcrx_rqe, pad, io_uring_zcrx_rqe, __pad);
SIZE(za_zcrx_cqe, io_uring_zcrx_cqe);
FIELD(za_zcrx_cqe, off, io_uring_zcrx_cqe, off);
SAME(ZA_ZCRX_AREA_SHIFT, IORING_ZCRX_AREA_SHIFT);
SAME(ZA_ZCRX_AREA_MASK, IORING_ZCRX_AREA_MASK);
SIZE(za_zcrx_offsets, io_uring_zcrx_offsets);
FIELD(za_zcrx_offsets, head, io_uring_zcrx_offsets, head);
FIELD(za_zcrx_offsets, tail, io_uring_zcrx_offsets, tail);
FIELD(za_zcrx_offsets, rqes, io_uring_zcrx_offsets, rqes);
SIZE(za_zcrx_area_reg, io_uring_zcrx_area_reg);
FIELD(za_zcrx_area_reg, addr, io_uring_zcrx_area_reg, addr);
FIELD(za_zcrx_area_reg, len, io_uring_zcrx_area_reg, len);
FIELD(za_zcrx_area_reg, rq_area_token, io_uring_zcrx_area_reg, rq_area_token);
FIELD(za_zcrx_area_reg, flags, io_uring_zcrx_area_reg, flags);
FIELD(za_zcrx_area_reg, dmabuf_fd, io_uring_zcrx_area_reg, dmabuf_fd);
SAME(ZA_ZCRX_REG_IMPORT, (unsigned int)ZCRX_REG_IMPORT);
SAME(ZA_ZCRX_REG_NODEV, (unsigned int)ZCRX_REG_NODEV);
SAME(ZA_ZCRX_FEATURE_RX_PAGE_SIZE, (unsigned int)ZCRX_FEATURE_RX_PAGE_SIZE);
SAME(ZA_ZCRX_FEATURE_EVENT, (unsigned int)ZCRX_FEATURE_EVENT);
SAME(ZA_ZCRX_EVENT_ALLOC_FAIL, (int)ZCRX_EVENT_ALLOC_FAIL);
SAME(ZA_ZCRX_EVENT_COPY, (int)ZCRX_EVENT_COPY);
SAME(ZA_ZCRX_EVENT_DESC_FLAG_STATS, (unsigned int)ZCRX_EVENT_DESC_FLAG_STATS);
SIZE(za_zcrx_stats, zcrx_stats);
FIELD(za_zcrx_stats, copy_count, zcrx_stats, copy_count);
FIELD(za_zcrx_stats, copy_bytes, zcrx_stats, copy_bytes);
SIZE(za_zcrx_event_desc, zcrx_event_desc);
FIELD(za_zcrx_event_desc, user_data, zcrx_event_desc, user_data);
FIELD(za_zcrx_event_desc, type_mask, zcrx_event_desc, type_mask);
FIELD(za_zcrx_event_desc, flags, zcrx_event_desc, flags);
FIELD(za_zcrx_event_desc, stats_offset, zcrx_event_desc, stats_offset);
SIZE(za_zcrx_ifq_reg, io_uring_zcrx_ifq_reg);
FIELD(za_zcrx_ifq_reg, if_idx, io_uring_zcrx_ifq_reg, if_idx);
FIELD(za_zcrx_ifq_reg, if_rxq, io_uring_zcrx_ifq_reg, if_rxq);
FIELD(za_zcrx_ifq_reg, rq_entries, io_uring_zcrx_ifq_reg, rq_entries);
FIELD(za_zcrx_ifq_reg, flags, io_uring_zcrx_ifq_reg, flags);
FIELD(za_zcrx_ifq_reg, area_ptr, io_uring_zcrx_ifq_reg, area_ptr);
FIELD(za_zcrx_ifq_reg, region_ptr, io_uring_zcrx_ifq_reg, region_ptr);
FIELD(za_zcrx_ifq_reg, offsets, io_uring_zcrx_ifq_reg, offsets);
FIELD(za_zcrx_ifq_reg, zcrx_id, io_uring_zcrx_ifq_reg, zcrx_id);
FIELD(za_zcrx_ifq_reg, rx_buf_len, io_uring_zcrx_ifq_reg, rx_buf_len);
FIELD(za_zcrx_ifq_reg, event_desc, io_uring_zcrx_ifq_reg, event_desc);
SAME(ZA_ZCRX_CTRL_FLUSH_RQ, (int)ZCRX_CTRL_FLUSH_RQ);
SAME(ZA_ZCRX_CTRL_EXPORT, (int)ZCRX_CTRL_EXPORT);
SAME(ZA_ZCRX_CTRL_ARM_EVENT, (int)ZCRX_CTRL_ARM_EVENT);
SIZE(za_zcrx_ctrl, zcrx_ctrl);
FIELD(za_zcrx_ctrl, zcrx_id, zcrx_ctrl, zcrx_id);
FIELD(za_zcrx_ctrl, op, zcrx_ctrl, op);
FIELD(za_zcrx_ctrl, zcrx_fd, zcrx_ctrl, zc_export.zcrx_fd);
FIELD(za_zcrx_ctrl, event_type, zcrx_ctrl, zc_arm_event.event_type);

/* --- query --------------------------------------------------------------------------------- */
SAME(ZA_QUERY_OPCODES, (int)IO_URING_QUERY_OPCODES);
SAME(ZA_QUERY_ZCRX, (int)IO_URING_QUERY_ZCRX);
SAME(ZA_QUERY_ZCRX_EVENT, (int)IO_URING_QUERY_ZCRX_EVENT);
SIZE(za_query_hdr, io_uring_query_hdr);
FIELD(za_query_hdr, next_entry, io_uring_query_hdr, next_entry);
FIELD(za_query_hdr, query_data, io_uring_query_hdr, query_data);
FIELD(za_query_hdr, query_op, io_uring_query_hdr, query_op);
FIELD(za_query_hdr, size, io_uring_query_hdr, size);
FIELD(za_query_hdr, result, io_uring_query_hdr, result);
SIZE(za_query_opcode, io_uring_query_opcode);
FIELD(za_query_opcode, nr_request_opcodes, io_uring_query_opcode, nr_request_opcodes);
FIELD(za_query_opcode, nr_register_opcodes, io_uring_query_opcode, nr_register_opcodes);
FIELD(za_query_opcode, feature_flags, io_uring_query_opcode, feature_flags);
FIELD(za_query_opcode, ring_setup_flags, io_uring_query_opcode, ring_setup_flags);
FIELD(za_query_opcode, enter_flags, io_uring_query_opcode, enter_flags);
FIELD(za_query_opcode, sqe_flags, io_uring_query_opcode, sqe_flags);
FIELD(za_query_opcode, nr_query_opcodes, io_uring_query_opcode, nr_query_opcodes);
SIZE(za_query_zcrx, io_uring_query_zcrx);
FIELD(za_query_zcrx, register_flags, io_uring_query_zcrx, register_flags);
FIELD(za_query_zcrx, area_flags, io_uring_query_zcrx, area_flags);
FIELD(za_query_zcrx, nr_ctrl_opcodes, io_uring_query_zcrx, nr_ctrl_opcodes);
FIELD(za_query_zcrx, features, io_uring_query_zcrx, features);
FIELD(za_query_zcrx, rq_hdr_size, io_uring_query_zcrx, rq_hdr_size);
FIELD(za_query_zcrx, rq_hdr_alignment, io_uring_query_zcrx, rq_hdr_alignment);
SIZE(za_query_zcrx_event, io_uring_query_zcrx_event);
FIELD(za_query_zcrx_event, event_flags, io_uring_query_zcrx_event, event_flags);
FIELD(za_query_zcrx_event, stats_size, io_uring_query_zcrx_event, stats_size);
FIELD(za_query_zcrx_event, stats_off_alignment, io_uring_query_zcrx_event, stats_off_alignment);

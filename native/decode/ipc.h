/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ipc.h - reading the metadata of an Arrow IPC message that may be hostile.
 *
 * Every offset in it is checked against the bytes that are there before anything is read.
 *
 * Source: Arrow columnar format, "Encapsulated message format" and "IPC Streaming Format";
 * format/Message.fbs; FlatBuffers, "FlatBuffer Internals" (tables, vtables, vectors).
 */
#ifndef ZA_DECODE_IPC_H
#define ZA_DECODE_IPC_H

#include "../za.h"

#define ZA_IPC_PREFIX_BYTES 8 /* continuation marker, length of the metadata */

/* What `len` > 0 bytes at the beginning of a message say. *need: how many must be there to say more,
 * or 0: then *total is the message's length, the prefix included. 0, -EBADMSG or -EMSGSIZE (metadata
 * and body are more than `limit`). */
int za_ipc_measure(const uint8_t *data, size_t len, uint64_t limit, size_t *need, size_t *total);

#endif

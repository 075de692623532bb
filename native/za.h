/* SPDX-License-Identifier: Apache-2.0 */
/*
 * za.h - the public interface of the core.
 *
 * A *source* owns one receiver (a thread, an io_uring and an area) and one bounded queue of
 * batches. Batches leave as Arrow arrays of views into the area; releasing the last one of a
 * batch gives its chunks back to the kernel.
 *
 * Errors: functions return 0 or a value >= 0, or -errno; where a `struct za_error *` is passed it
 * is filled when the call fails. Out-parameters come last and are untouched on failure.
 * Threads: every function may be called from any thread unless it says otherwise. None calls back
 * into the caller, none needs or takes Python's GIL.
 * Fork: a source belongs to the process that made it. In a child every call but za_source_put()
 * gives -EOWNERDEAD, and releasing a batch frees the child's memory only.
 */
#ifndef ZA_H
#define ZA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arrow_abi.h"

struct za_source;
struct za_sys;

enum za_framing_kind {
	ZA_FRAMING_RAW = 0,       /* a row is a fragment: the bytes of one completion */
	ZA_FRAMING_DELIMITED = 1, /* a row is what stands before a delimiter of 1 to 8 bytes */
};

enum za_payload_type {
	ZA_PAYLOAD_BINARY_VIEW = 0,  /* "vz": views into the area */
	ZA_PAYLOAD_STRING_VIEW = 1,  /* "vu": the same, every message checked to be UTF-8 */
	ZA_PAYLOAD_LARGE_BINARY = 2, /* "Z": one copy, fragments go back at once */
	ZA_PAYLOAD_LARGE_STRING = 3, /* "U": the same, every message checked to be UTF-8 */
};

enum za_copy_out {
	ZA_COPY_OUT_AUTO = 0,   /* copy while free area is under the low watermark */
	ZA_COPY_OUT_NEVER = 1,  /* wait for the consumer instead */
	ZA_COPY_OUT_ALWAYS = 2, /* every batch owns its bytes */
};

enum za_transport_kind {
	ZA_TRANSPORT_COPY = 0,  /* the kernel copies from socket buffers; any kernel from 6.0 */
	ZA_TRANSPORT_ZCRX = 1,  /* a queue of a NIC writes into the area */
	ZA_TRANSPORT_NODEV = 2, /* the interface of zcrx without a NIC: the kernel copies (7.1) */
};

/* All fields must be set; za_source_new() checks them and names the one that is wrong. */
struct za_config {
	uint64_t area_bytes;      /* multiple of chunk_bytes */
	uint32_t chunk_bytes;     /* power of two, 4 KiB to 16 MiB */
	uint32_t window_bytes;    /* offered to the kernel at a time, at least two chunks */
	uint32_t max_batch_rows;  /* >= 1 */
	uint32_t max_batch_bytes; /* payload bytes, <= a quarter of the area */
	uint64_t max_delay_ns;    /* from a batch's first row until it leaves */
	uint64_t coalesce_ns;     /* longest wait for more, at high rates, when a consumer waits */
	uint32_t queue_batches;   /* >= 1 */
	uint32_t max_message_bytes; /* >= 1; a longer message is a framing error */
	uint32_t max_connections;   /* open at a time; one more is refused */
	uint32_t closed_history;    /* closed connections kept for za_source_connections() */
	uint32_t accept_limit;      /* close the listener after that many; 0: never */
	uint64_t exhausted_ns;      /* ZA_COPY_OUT_NEVER: a dry area becomes an error after that */
	uint8_t copy_out;           /* enum za_copy_out */
	uint8_t payload;            /* enum za_payload_type */
	uint8_t framing;            /* enum za_framing_kind */
	uint8_t delimiter_bytes;    /* 1 to 8 */
	uint8_t delimiter[8];
	uint8_t emit_unterminated; /* bytes after the last delimiter become a row at end of stream */
	uint8_t no_incremental;    /* do not ask for incremental buffers (a test's knob) */
	uint8_t transport;         /* enum za_transport_kind */
	uint8_t huge_pages;        /* the area consists of reserved huge pages, or fails */
	uint8_t kernel_refill_memory; /* zcrx: the refill ring lies in memory of the kernel's */
	uint8_t prefer_busy_poll;     /* zcrx: see napi_busy_poll in ip-sysctl */
	uint32_t interface_index;     /* zcrx: if_nametoindex() */
	uint32_t queue;               /* zcrx: receive queue of that interface */
	uint32_t refill_entries;      /* zcrx: of the refill ring; 0: one a chunk, at most 32768 */
	uint32_t busy_poll_us;        /* zcrx: 0: no busy polling */
	uint32_t turn_bytes;          /* zcrx: a connection's receive ends after that many and takes
				       * its place behind the others; 0: no limit */
	uint32_t receive_buffer_bytes; /* SO_RCVBUF of each connection; 0: the kernel's own tuning,
					* with zcrx a share of half the area */
};

/* What this kernel offers, by asking it and by trying. Error fields are 0 or -errno. */
struct za_features {
	int32_t ring;      /* of setting up an io_uring */
	int32_t zcrx_ring; /* of setting up one as zcrx needs it */
	int32_t zcrx;      /* of registering an area with an interface that does not exist; that it
			    * does not is no error */
	int32_t nodev;     /* of registering a small area without a device */
	int32_t query;     /* of IORING_REGISTER_QUERY (6.18); the rest is 0 without it */
	uint32_t request_opcodes, register_opcodes;
	uint64_t setup_flags;
	uint64_t zcrx_register_flags, zcrx_area_flags;
	uint32_t zcrx_ctrl_opcodes;
	uint32_t zcrx_features;
	uint32_t refill_header_bytes;
	uint32_t event_stats_bytes;
};

struct za_error {
	int code;         /* -errno */
	char step[32];    /* "io_uring_setup", "area", "config", ... */
	char detail[192]; /* in words; names the limit, the value and the option */
};

/* Why a connection ended. */
enum za_close_reason {
	ZA_OPEN = 0,
	ZA_CLOSE_EOF = 1,     /* the peer ended its stream */
	ZA_CLOSE_RESET = 2,   /* ECONNRESET */
	ZA_CLOSE_ERROR = 3,   /* any other errno of the read */
	ZA_CLOSE_FRAMING = 4, /* the bytes broke the framing; detail says how */
	ZA_CLOSE_LOCAL = 5,   /* this side closed it */
};

struct za_conn_info {
	uint32_t id;    /* from 1, never used twice in a source */
	uint8_t reason; /* enum za_close_reason */
	uint8_t reserved[3];
	int32_t error;          /* errno, 0 if none */
	uint32_t partial_bytes; /* bytes of an unfinished message that were not delivered */
	int64_t opened_ns;      /* CLOCK_REALTIME */
	int64_t closed_ns;      /* 0 while open */
	uint64_t bytes;         /* received from the kernel */
	uint64_t rows;          /* delivered to batches */
	char local[64];         /* "127.0.0.1:9000", "[::1]:9000"; "" if unknown */
	char peer[64];
	char detail[128];
};

enum za_event_kind {
	ZA_EVENT_OPENED = 1,      /* connection */
	ZA_EVENT_CLOSED = 2,      /* connection, value = reason, error */
	ZA_EVENT_REFUSED = 3,     /* value = the limit */
	ZA_EVENT_ACCEPT = 4,      /* accept failed with error; tried again after a pause */
	ZA_EVENT_PAUSED = 5,      /* the queue is full, nothing is received */
	ZA_EVENT_RESUMED = 6,     /* value = nanoseconds paused */
	ZA_EVENT_COPY_OUT_ON = 7, /* value = free bytes */
	ZA_EVENT_COPY_OUT_OFF = 8,
	ZA_EVENT_STARVED = 9, /* no free chunk, no buffer offered */
	ZA_EVENT_FAILED = 10, /* the receiver stopped with error */
	ZA_EVENT_ENDED = 11,  /* the receiver has ended; always the last one */
	ZA_EVENT_LOST = 12,   /* value = events that did not fit since the one before */
};

struct za_event {
	uint32_t kind; /* enum za_event_kind */
	uint32_t connection;
	int32_t error;
	uint32_t reserved;
	uint64_t value;
	int64_t at_ns; /* CLOCK_REALTIME */
};

/* Counters since the source was made, and gauges (marked =). */
struct za_metrics {
	uint64_t bytes;     /* received from the kernel */
	uint64_t fragments; /* completions that carried bytes */
	uint64_t rows;
	uint64_t batches;
	uint64_t seams;            /* messages that crossed fragments not adjacent in the area */
	uint64_t stitched_bytes;   /* copied because of seams */
	uint64_t copied_out_bytes; /* payload copied out of the area by policy or payload type */
	uint64_t copied_out_batches;
	uint64_t zero_copy_batches;
	uint64_t partial_bytes;  /* of messages that never ended */
	uint64_t discarded_rows; /* in batches that nobody had pulled when the source closed */
	uint64_t stalls;         /* times that receiving paused because the queue was full */
	uint64_t stalled_ns;
	uint64_t starved; /* times that no chunk was free */
	uint64_t rearms;  /* receives submitted again after they had ended */
	uint64_t nobufs;  /* receives ended by ENOBUFS */
	uint64_t cancelled;
	uint64_t enters; /* io_uring_enter(2) calls */
	uint64_t wakes;  /* wake-ups of the receiver by other threads */
	uint64_t accepted;
	uint64_t refused;
	uint64_t accept_errors;
	uint64_t framing_errors;
	uint64_t events_lost;
	uint64_t chunks;         /* = */
	uint64_t chunks_free;    /* = neither offered nor leased */
	uint64_t chunks_offered; /* = in the kernel's hands */
	uint64_t chunks_leased;  /* = held by batches or by an unfinished message */
	uint64_t batches_held;   /* = emitted, not yet released, queued ones included */
	uint64_t queue_batches;  /* = */
	uint64_t queue_bytes;    /* = payload bytes */
	uint64_t connections;    /* = open */
	uint64_t paused;         /* = 0 or 1 */
	uint64_t copying_out;    /* = 0 or 1 */
	uint64_t flushes;        /* zcrx: FLUSH_RQ calls */
	uint64_t alloc_fails;    /* zcrx: events "no chunk for the NIC": packets were dropped */
	uint64_t copy_events;    /* zcrx: events "copied"; each is told once until looked at */
	uint64_t
		returns_pending; /* = zcrx: chunks whose returns wait for room in the refill ring */
	uint64_t
		kernel_copied_bytes; /* = zcrx: copied into the area by the kernel, where it says */
	uint64_t lease_faults;       /* leases returned that were not out: a bug if not 0 */
};

/* Probes. Takes a moment: sets up rings. `sys` as for za_source_new(). Any thread. */
void za_probe(const struct za_sys *sys, struct za_features *out);

/* Makes a source and starts its receiver thread. `sys` is copied; NULL is the real kernel. */
int za_source_new(const struct za_config *config, const struct za_sys *sys, struct za_error *error,
		  struct za_source **out);
/* Another owner; pairs with za_source_put(). */
struct za_source *za_source_take(struct za_source *source);
/* Gives up one ownership. The last one closes the source and frees it; batches stay readable. */
void za_source_put(struct za_source *source);

/* Accept connections from a listening socket. Moves `fd` (closed by the source) on success. */
int za_source_listen(struct za_source *source, int fd);
/* Receive from a connected socket. Moves `fd` on success; -ENOBUFS at max_connections. */
int za_source_add(struct za_source *source, int fd, uint32_t *id);
/* No more connections will be added: the source ends when the open ones have. With code < 0
 * pullers get that instead of the end, and `detail` says why (copied; may be NULL). */
int za_source_finish(struct za_source *source, int code, const char *detail);
/* Stops receiving and closes connections. What is queued can still be pulled, then the stream
 * ends. Does not wait. */
void za_source_stop(struct za_source *source);
/* za_source_stop(), waits for the receiver, drops what is queued. Idempotent. */
void za_source_close(struct za_source *source);

/* Pulls the next batch into `out`, which the caller then owns. Waits up to timeout_ns (< 0: as
 * long as it takes). 0; -EAGAIN timed out; -ENODATA the stream has ended (or was closed); -EINTR a
 * signal came; -ENOBUFS the area is exhausted (ZA_COPY_OUT_NEVER); else why the receiver failed,
 * see za_source_error(). */
int za_source_next(struct za_source *source, int64_t timeout_ns, struct ArrowArray *out);
/* A stream over the same queue: every batch goes to exactly one puller. The stream owns a share
 * of the source. It may outlive the caller's. */
int za_source_stream(struct za_source *source, struct ArrowArrayStream *out);
int za_source_schema(struct za_source *source, struct ArrowSchema *out);
/* An eventfd that becomes readable when a batch or the end can be pulled after
 * za_source_notify_arm(). Borrowed; valid as long as the source. */
int za_source_notify_fd(struct za_source *source);
/* 1: something is there already; 0: armed. */
int za_source_notify_arm(struct za_source *source);
/* Why the receiver failed; code 0 if it did not. */
void za_source_error(struct za_source *source, struct za_error *out);

void za_source_metrics(struct za_source *source, struct za_metrics *out);
/* Copies up to `room` connections, returns how many there are: the open ones, and before them, if
 * asked for, those closed ones that are remembered, the oldest first. */
size_t za_source_connections(struct za_source *source, bool with_closed, struct za_conn_info *out,
			     size_t room);
/* The next event, in order. 0; -EAGAIN timed out; -ENODATA after ZA_EVENT_ENDED was taken. */
int za_source_event(struct za_source *source, int64_t timeout_ns, struct za_event *out);
/* "copy", "zcrx", "nodev"; static. */
const char *za_source_transport(struct za_source *source);
/* Whether the kernel fills buffers piece by piece (6.12+). */
bool za_source_incremental(struct za_source *source);
/* What the kernel recycles at a time: with zcrx not always what was asked for. */
uint32_t za_source_chunk_bytes(struct za_source *source);

/* Process-wide, for the caller's signal and exit handling. */
/* A non-blocking descriptor on which signal numbers arrive as bytes (what Python's
 * signal.set_wakeup_fd() writes to); -1: none. Borrowed. A SIGINT on it makes every waiting
 * za_source_next() and get_next return -EINTR. */
void za_interrupt_fd(int fd);
/* From now on every get_next of every stream gives the end of the stream. Any thread. */
void za_exiting(void);
/* CLOCK_REALTIME in nanoseconds, the clock of every *_ns field that is a point in time. */
int64_t za_realtime_ns(void);
/* Leases in the whole process that are not yet back: chunk holds of batches that somebody (a
 * queue included) still has. For tests. */
uint64_t za_outstanding(void);
/* Areas in the whole process that are still mapped. For tests. */
uint64_t za_live_areas(void);

#endif

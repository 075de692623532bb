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
	ZA_FRAMING_PREFIXED = 2,  /* a header of fixed size holds the length */
	ZA_FRAMING_VARINT = 3,    /* the length is a varint, as protobuf writes it */
	ZA_FRAMING_FIXED = 4,     /* every message has the same length */
	ZA_FRAMING_SYSLOG = 5, /* RFC 6587: counted or ended by LF, told apart message by message */
	ZA_FRAMING_IPC = 6,    /* a row is an Arrow IPC message with its prefix */
};

/* The header of a length-prefixed message. */
struct za_prefix {
	uint32_t header_bytes; /* 1 to 65536: all that stands before the counted bytes */
	uint32_t offset;       /* of the length in the header */
	uint32_t unit;         /* >= 1: the length counts so many bytes */
	uint8_t width;         /* of the length: 1, 2, 4 or 8 bytes */
	uint8_t swap;          /* it is in the other byte order than this machine's */
	uint8_t counts_header; /* the length includes the header */
	uint8_t keep_header;   /* the header is part of the payload */
};

/* How a stream is cut into messages. What the kind does not use is ignored. */
struct za_framing_config {
	uint8_t kind;   /* enum za_framing_kind */
	uint8_t blocks; /* fixed, and delimited by one byte: a row is as many whole messages
				     * as lie together, with their delimiters */
	uint8_t emit_unterminated; /* bytes after the last delimiter become a row at end of stream */
	uint8_t delimiter_bytes;   /* 1 to 8 */
	uint8_t delimiter[8];
	uint32_t max_message_bytes; /* 1 to 2^30; a longer payload is a framing error */
	uint32_t fixed_bytes;       /* 1 to 2^30 */
	struct za_prefix prefix;
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
	struct za_framing_config framing;
	struct za_framing_config preamble; /* neither raw nor in blocks */
	uint64_t area_bytes;               /* multiple of chunk_bytes */
	uint32_t chunk_bytes;              /* power of two, 4 KiB to 16 MiB */
	uint32_t window_bytes;    /* offered to the kernel at a time, at least two chunks */
	uint32_t max_batch_rows;  /* >= 1 */
	uint32_t max_batch_bytes; /* payload bytes, <= a quarter of the area */
	uint64_t max_delay_ns;    /* from a batch's first row until it leaves */
	uint64_t coalesce_ns;     /* longest wait for more, at high rates, when a consumer waits */
	uint32_t queue_batches;   /* >= 1 */
	uint32_t max_connections; /* open at a time; one more is refused */
	uint32_t closed_history;  /* closed connections kept for za_source_connections() */
	uint32_t accept_limit;    /* close the listener after that many; 0: never */
	uint64_t exhausted_ns;    /* ZA_COPY_OUT_NEVER: a dry area becomes an error after that */
	uint8_t copy_out;         /* enum za_copy_out */
	uint8_t payload;          /* enum za_payload_type */
	uint8_t has_preamble;     /* the first message of each connection is cut by `preamble` */
	uint8_t drop_preamble;    /* and is not a row */
	uint8_t no_incremental;   /* do not ask for incremental buffers (a test's knob) */
	uint8_t transport;        /* enum za_transport_kind */
	uint8_t adjacent_chunks;  /* copy: chunks are offered so that long messages lie together */
	uint8_t huge_pages;       /* the area consists of reserved huge pages, or fails */
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

/* What becomes of a chunk at this moment; bits. With both, the kernel goes on filling a chunk of which
 * somebody reads the beginning. */
enum za_chunk_state {
	ZA_CHUNK_FREE = 0,
	ZA_CHUNK_OFFERED =
		1,           /* in the kernel's hands; with zcrx and nodev all that is not leased */
	ZA_CHUNK_LEASED = 2, /* held by batches or by an unfinished message */
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
/* Closes a connection whose messages nobody can read, as if its bytes had broken the framing:
 * `detail` says how (copied). What it sent before may still be pulled. Does not wait; without effect
 * on a connection that has closed. 0 or -ENOMEM. */
int za_source_dismiss(struct za_source *source, uint32_t connection, const char *detail);
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
/* Writes the state of up to `room` chunks, an enum za_chunk_state each, in the order of their
 * addresses; returns how many chunks there are. Each state is one that its chunk had during the call,
 * but not all of them at the same moment: the receiver goes on. 0 in a forked child. */
size_t za_source_area_map(struct za_source *source, uint8_t *out, size_t room);
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

/*
 * Replay: the same framing and batches over bytes that are in memory already, as connection 1, on
 * the caller's thread and without a ring. One thread at a time.
 */
struct za_replay;
int za_replay_new(const struct za_config *config, struct za_error *error, struct za_replay **out);
/* Batches stay readable. */
void za_replay_free(struct za_replay *replay);
/* Copies bytes into the area as the next of the stream and cuts them. *taken of them were, at least
 * one unless a full batch waits for za_replay_next(). 0, or what broke the framing, see
 * za_replay_error(): rows before that can be pulled, no bytes are taken any more. */
int za_replay_feed(struct za_replay *replay, const uint8_t *data, size_t len, size_t *taken);
/* The stream ends here: what is unfinished becomes a row, or is counted in *partial. As feed; -EAGAIN
 * if a full batch must be pulled first. */
int za_replay_end(struct za_replay *replay, uint32_t *partial);
/* Moves the batch out if it is full, or, with `now`, if it has a row. 0; -EAGAIN there is none;
 * -ENOMEM. */
int za_replay_next(struct za_replay *replay, bool now, struct ArrowArray *out);
int za_replay_schema(struct za_replay *replay, struct ArrowSchema *out);
void za_replay_error(struct za_replay *replay, struct za_error *out);
void za_replay_metrics(struct za_replay *replay, struct za_metrics *out);

/* Whether the payloads' i-th variadic buffer, of a batch of this library, lies in the receive area and
 * was not put together elsewhere. */
bool za_in_area(const struct ArrowArray *batch, int64_t i);

/* What an Arrow IPC message is, see za_ipc_inspect(). */
enum za_ipc_kind {
	ZA_IPC_END = 0, /* the end of a stream: a message without metadata */
	ZA_IPC_SCHEMA = 1,
	ZA_IPC_DICTIONARY = 2,
	ZA_IPC_RECORD_BATCH = 3,
};

struct za_ipc_info {
	uint8_t kind; /* enum za_ipc_kind, or what else the metadata says */
	bool compressed;
	bool delta; /* a dictionary is added to and not replaced */
	uint32_t buffers;
	int64_t dictionary; /* its id */
	uint64_t body_offset, body_bytes;
	int64_t rows;
	uint64_t expanded_bytes; /* of all buffers, after decompression */
};

/* Looks at one whole encapsulated message and trusts nothing in it: metadata that can be read,
 * buffers inside of the body, lengths that are possible. 0, or -EBADMSG and why. Any thread. */
int za_ipc_inspect(const uint8_t *data, size_t len, struct za_ipc_info *out,
		   struct za_error *error);
struct za_ipc_message {
	const uint8_t *data; /* valid as long as the batch is */
	uint32_t length, connection;
	uint64_t position;
	int64_t received;
	bool in_area;
	int32_t code;            /* of za_ipc_inspect() */
	struct za_ipc_info info; /* if that is 0 */
};
/* Does so with each message of a batch of the core; `out` has room for all of its rows. */
void za_ipc_look(const struct ArrowArray *batch, struct za_ipc_message *out);

/*
 * Records: binary messages of fixed layout become columns. The caller lays out what there is and owns
 * every buffer; nothing here allocates. Any thread.
 */

/* How a field's bytes become a column's. All but ZA_FIELD_TEXT write `out_bytes` an element. */
enum za_field_kind {
	ZA_FIELD_COPY = 0, /* as they are; with `swap` in reverse order */
	ZA_FIELD_WIDE = 1, /* an integer of any width up to 8, made 8 or 16 bytes wide */
	ZA_FIELD_BOOL = 2, /* not 0 becomes a bit */
	ZA_FIELD_TEXT = 3, /* less trailing NULs and blanks; int32 offsets and bytes */
	ZA_FIELD_VIEW = 4, /* of up to 12 bytes, the same; views of 16 bytes that hold them */
};

enum za_field_check {
	ZA_CHECK_NONE = 0,
	ZA_CHECK_UTF8 = 1,  /* TEXT, VIEW: must be well-formed */
	ZA_CHECK_BELOW = 2, /* the integer must be from 0 to less than `below` */
};

/* A leaf of a layout: where its elements lie in a record, and which column they go to. */
struct za_field {
	const uint32_t *offsets; /* of each element in the record, `elements` of them */
	uint32_t elements;       /* a record; >= 1 */
	uint32_t column;
	uint32_t bytes;      /* of an element in the record */
	uint32_t out_bytes;  /* COPY: as `bytes`; WIDE: 8 or 16; VIEW: 16 */
	uint8_t kind;        /* enum za_field_kind */
	uint8_t check;       /* enum za_field_check */
	bool swap;           /* the other byte order than this machine's */
	bool is_signed;      /* WIDE */
	bool has_null;       /* this value of an integer of up to 8 bytes is null */
	uint64_t null_value; /* as read, in this machine's order, not extended */
	uint64_t below;
};

struct za_layout {
	uint32_t bytes; /* of a record */
	bool longer;    /* records may have more, which is left alone */
	uint32_t n_fields;
	const struct za_field *fields;
};

enum {
	ZA_LAYOUT_SKIP = 254, /* in za_records.layout_of */
	ZA_LAYOUT_NONE = 255,
};

struct za_records {
	uint32_t n_layouts; /* 1 to 255 */
	const struct za_layout *layouts;
	int32_t discriminator; /* offset of the byte that selects the layout; -1: there is one */
	uint8_t layout_of
		[256];        /* by that byte; ZA_LAYOUT_NONE: unknown, ZA_LAYOUT_SKIP: left out */
	uint32_t block_bytes; /* rows are blocks of records of this size; 0: each is one record */
	uint32_t n_columns;
	bool null_bad_values; /* a value that fails its check is null; else its record is bad */
	bool skip_short;      /* a message that ends before the discriminator is left out */
};

/* Where a column goes. For `n` records that are added at most: */
struct za_column {
	uint8_t *values;   /* n * elements * out_bytes; BOOL: bits; TEXT: n * elements * bytes */
	int32_t *offsets;  /* TEXT: n * elements + 1 */
	uint8_t *validity; /* bits, one an element; NULL: there can be no nulls */
	uint64_t nulls;    /* out */
	uint64_t bytes;    /* out, TEXT: of values */
};

/* Why a record is not in the columns. */
enum za_bad_record {
	ZA_BAD_LENGTH = 1,        /* not its layout's */
	ZA_BAD_DISCRIMINATOR = 2, /* no such layout */
	ZA_BAD_UTF8 = 3,
	ZA_BAD_RANGE = 4, /* ZA_CHECK_BELOW */
};

struct za_bad {
	uint64_t row;    /* of the batch */
	uint32_t offset; /* in the row's payload: of the record */
	uint32_t bytes;  /* of the record */
	uint32_t reason; /* enum za_bad_record */
	uint32_t field;  /* of the layout that `layout` names, with ZA_BAD_UTF8 and ZA_BAD_RANGE */
	uint32_t layout;
};

/* The columns of where a record comes from; each may be NULL. */
struct za_origins {
	uint32_t *connections;
	uint64_t *positions; /* of the record's first byte */
	int64_t *received;
	uint8_t *layouts;
	uint64_t *nulled; /* one number: records of which a bad value became null */
};

/* How many records lie in the rows of a batch with binary_view payloads. */
uint64_t za_records_count(const struct za_records *records, const struct ArrowArray *batch);
/* Appends them to columns that are empty. *rows: how many were. Those that are bad go to `bad`, at
 * most `room`; when that is full it stops. Returns how many are bad. */
uint32_t za_records_decode(const struct za_records *records, const struct ArrowArray *batch,
			   struct za_column *columns, const struct za_origins *origins,
			   struct za_bad *bad, uint32_t room, uint64_t *rows);
/* The same as a whole batch, for one layout of plain copies with blocks, where nothing can be bad and
 * nobody asks for origins: 0 or -ENOMEM. */
int za_records_flat(const struct za_records *records, const struct ArrowArray *batch,
		    struct ArrowArray *out);

/* What a line begins and ends with (0: anything; a CR at its end aside), and the quote (0: none). */
struct za_text_kind {
	uint8_t first, last, quote;
};
struct za_text_look {
	int64_t lines; /* that are not empty; -1: one does not begin or end so, or has a CR inside */
	uint8_t utf8;  /* well-formed */
	uint8_t quoted;      /* the quote occurs */
	uint8_t null_behind; /* of objects: `null` stands behind a } and JSON's white space, in a
			      * string or not */
};
/* Looks at lines of text without parsing them. Any thread. */
void za_text_look(const uint8_t *data, size_t len, const struct za_text_kind *kind,
		  struct za_text_look *out);
/* True if these bytes are well-formed UTF-8 (Unicode 15, table 3-7). Any thread. */
bool za_utf8_valid(const uint8_t *data, size_t len);

/*
 * Text to typed columns, where the text is *plain*: in the form in which programs usually write it.
 * Whatever is not, or is wrong, or has no room in memory, is left as a whole to a general parser, which
 * would give the same columns for what is taken here. Any thread.
 */
enum za_value_kind {
	ZA_VALUE_INT = 0,  /* signed, of `bytes` bytes */
	ZA_VALUE_UINT = 1, /* unsigned */
	ZA_VALUE_REAL = 2, /* float, or double with 8 bytes */
	ZA_VALUE_BOOL = 3, /* true, false; bits */
	ZA_VALUE_TIME = 4, /* YYYY-MM-DD HH:MM:SS[.f][Z], also with a T: int64 */
	ZA_VALUE_DAY = 5,  /* YYYY-MM-DD: int32; CSV only */
	ZA_VALUE_TEXT = 6, /* int32 offsets and bytes */
	ZA_VALUE_VIEW = 7, /* views, and one buffer for the bytes of those over 12 */
};

enum { ZA_NOWHERE = 0xFFFFFFFF };

struct za_text_column {
	uint32_t place; /* CSV: of its value in a row; ZA_NOWHERE: always null */
	uint8_t kind;   /* enum za_value_kind */
	uint8_t bytes; /* of an element; INT, UINT: 1, 2, 4, 8; REAL: 4, 8; TIME: 8; DAY: 4; VIEW: 16 */
	uint8_t digits; /* TIME: of a fraction at most, which is also its unit: 0, 3, 6, 9 */
	bool zone;      /* TIME: a Z may be there */
	bool no_zone;   /* TIME: it may be missing */
	bool nullable;
};

struct za_text_word {
	const uint8_t *text;
	uint32_t bytes;
};

/* Rows of values between delimiters, each ended by LF or CR LF. */
struct za_csv {
	const struct za_text_column *columns;
	uint32_t n_columns;
	uint32_t n_values; /* of each row, at least 1 */
	uint8_t delimiter;
	uint8_t quote;                    /* around values, not within them; 0: none */
	bool empty_is_null;               /* and else an empty value is an empty text */
	uint32_t n_nulls;                 /* other texts that are null */
	const struct za_text_word *nulls; /* none is empty */
	uint8_t begins_null[256];         /* whether one begins so */
};
/* True: `out` is the batch, a row a line. */
bool za_csv_plain(const struct za_csv *csv, const uint8_t *data, size_t len,
		  struct ArrowArray *out);

/* One JSON object a line, of which no columns are objects or arrays. */
struct za_ndjson {
	const struct za_text_column *columns;
	const struct za_text_word *names; /* of the members that are columns, in their order */
	uint32_t n_columns;               /* at most 64 */
	bool ignore_others; /* other members are left out; else text with them is not plain */
};
/* True: `out` is the batch, a row for each line that is not blank. */
bool za_ndjson_plain(const struct za_ndjson *ndjson, const uint8_t *data, size_t len,
		     struct ArrowArray *out);

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

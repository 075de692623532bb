/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receiver.h - one thread, one ring, one area: the motor of the circle.
 *
 *   receiver.c  the thread: commands, waiting, reaping, the end
 *   accept.c    the listener
 *   receive.c   receives: armed, completed, cut into rows; how connections end
 *   share.c     how much a connection may have waiting in the kernel
 *   emit.c      batches leave: when, copied or not, and what happens when they cannot
 *
 * Thread: all of it is the receiver thread's but the functions marked "any thread".
 */
#ifndef ZA_RX_RECEIVER_H
#define ZA_RX_RECEIVER_H

#include "../decode/cut.h"
#include "../events.h"
#include "../export/queue.h"
#include "transport.h"

enum za_request_kind {
	ZA_REQUEST_WAKER = 1,
	ZA_REQUEST_ALARM,
	ZA_REQUEST_ACCEPT,
	ZA_REQUEST_RECEIVE,
	ZA_REQUEST_CANCEL,        /* of a receive: carries its generation and slot */
	ZA_REQUEST_NOTICE,        /* the transport's own; see ZA_NOTICE_DATA */
	ZA_REQUEST_CANCEL_SINGLE, /* of a request of which there is one: its kind is the slot */
};

/* A connection that shall close, and why. */
struct za_dismissal {
	struct za_dismissal *next;
	uint32_t id;
	char detail[128];
};

/* What other threads ask of the receiver. */
struct za_inbox {
	pthread_mutex_t lock;
	struct za_arrival {
		uint32_t id;
		int fd;
	} *arrivals; /* connected sockets, owned */
	uint32_t n, capacity;
	struct za_dismissal *dismissals; /* owned */
	int listen_fd;                   /* owned; -1 if none is waiting */
	bool finish;                     /* no more will come */
	bool stop;                       /* stop receiving */
	bool discard;                    /* and drop what nobody has pulled */
	za_u32 news;                     /* anything of the above is set */
};

struct za_listener {
	int fd; /* -1: none (any more) */
	bool armed, cancelling;
	uint32_t accepted;
	int64_t retry_ns; /* after a failure: not before that time */
};

/* A timer in the ring. It is set once and left to fire, even when it turns out that nobody needs
 * it at that time: setting a timer for each wait (IORING_ENTER_EXT_ARG) costs more than receiving
 * 64 KiB where the timer is the hypervisor's. */
struct za_alarm {
	bool armed, cancelling;
	int64_t due_ns; /* CLOCK_MONOTONIC */
	struct __kernel_timespec delay;
};

struct za_receiver {
	struct za_config config;
	struct za_sys sys;
	struct za_area *area;   /* a share */
	struct za_stats *stats; /* the area's */
	struct za_queue *queue; /* borrowed from the source, which outlives the thread */
	struct za_events *events;
	struct za_inbox inbox;

	struct za_ring ring;
	struct za_transport transport;
	struct za_conns conns;
	struct za_listener listener;
	struct za_alarm alarm;
	struct za_cutter cutter;
	struct za_cut cut;           /* the fragment being cut, if cut.conn */
	struct za_fragment fragment; /* where it came from */
	struct za_conn *arm_passed;  /* the last of those who lost their turn: they come first */
	struct za_conn *arm_first, *arm_last; /* to be armed, in turn */
	uint32_t in_flight;                   /* requests in the kernel, cancels not counted */

	int waker_fd;
	bool waker_armed, waker_cancelling;
	uint64_t waker_value; /* where the kernel reads the waker to */
	za_u32 asleep;        /* 1: waiting in the kernel, somebody must wake it */
	za_u32 pending;       /* 1: asleep with rows that a hungry puller may have at once */

	int64_t now_ns;       /* CLOCK_MONOTONIC, when the last completions were seen */
	int64_t now_real_ns;  /* CLOCK_REALTIME */
	int64_t first_row_ns; /* monotonic: age of the batch being filled */
	int64_t window_start_ns;
	uint64_t window_bytes; /* received since then */
	uint64_t nap_bytes,
		nap_nobufs; /* received, and ended for want of a chunk, before the last wait */
	bool busy;          /* bytes come so fast that waiting a little fills batches */

	uint32_t share_bytes; /* see share.c */
	bool copying;         /* free area is low: batches are copied out */
	uint64_t alloc_fails; /* as many as were looked at */
	bool finished;        /* no more connections will come */
	bool stopping, discarding;
	bool retry; /* the ring took no request: try again without sleeping */
	bool paused, pause_cancelled;
	int64_t paused_ns;
	uint64_t starved_said_ns; /* when that was last an event: not more than one a second */
	za_u32 gathering;         /* 0: asleep, and every row is in the queue */
	za_u64 starved_since_ns;  /* monotonic, 0: not starved. Any thread reads. */

	pthread_mutex_t error_lock;
	struct za_error error; /* why it failed; code 0 */
};

enum za_step {
	ZA_STEP_AGAIN,   /* call again */
	ZA_STEP_BLOCKED, /* a full batch waits for room in the queue */
	ZA_STEP_ENDED,   /* all is said: tear down */
};

/* Any thread, before the receiver thread starts. */
int za_receiver_init(struct za_receiver *receiver, const struct za_config *config,
		     const struct za_sys *sys, struct za_queue *queue, struct za_events *events,
		     struct za_error *error);
/* Any thread, after it has ended. */
void za_receiver_fini(struct za_receiver *receiver);

/* The receiver thread's life. setup() on failure leaves nothing to tear down. */
int za_receiver_setup(struct za_receiver *receiver, struct za_error *error);
enum za_step za_receiver_step(struct za_receiver *receiver);
void za_receiver_teardown(struct za_receiver *receiver);
/* Step until the end. */
void za_receiver_run(struct za_receiver *receiver);

/* Any thread: makes the receiver look at its inbox and its queue. */
void za_receiver_wake(struct za_receiver *receiver);
/* Any thread: a puller found nothing. Wakes the receiver if it sits on rows. */
void za_receiver_hungry(struct za_receiver *receiver);
/* Any thread. Moves fd on success. */
int za_receiver_add(struct za_receiver *receiver, int fd, uint32_t *id);
int za_receiver_listen(struct za_receiver *receiver, int fd);
/* See za_source_dismiss(). */
int za_receiver_dismiss(struct za_receiver *receiver, uint32_t id, const char *detail);
void za_receiver_finish(struct za_receiver *receiver, int code, const char *detail);
void za_receiver_stop(struct za_receiver *receiver, bool discard);

/* --- between the files of the receiver --- */

uint64_t za_request_data(enum za_request_kind kind, uint32_t generation, uint32_t slot);
/* An SQE for a request of that kind, or NULL: then it must be tried again. */
struct io_uring_sqe *za_receiver_sqe(struct za_receiver *receiver, uint64_t user_data);
/* Asks for the end of a request; false: try again. The kernel may answer that there is no such request
 * although there is (it is between two tries): then it must be asked again, see not_cancelled(). */
bool za_receiver_cancel(struct za_receiver *receiver, uint64_t user_data);
void za_receiver_event(struct za_receiver *receiver, enum za_event_kind kind, uint32_t connection,
		       int error, uint64_t value);
/* The receiver cannot go on: everything is dropped, pullers get `code`. */
void za_receiver_fail(struct za_receiver *receiver, int code, const char *step, const char *detail);

/* accept.c */
void za_listener_arm(struct za_receiver *receiver);
void za_listener_close(struct za_receiver *receiver);
void za_listener_completed(struct za_receiver *receiver, const struct za_completion *cqe);
/* Takes a connected socket in, or closes it if the limit is reached. */
void za_receiver_open(struct za_receiver *receiver, uint32_t id, int fd);

/* share.c */
/* Bounds the receive buffer of a connection that was just opened, and those of the others if their
 * share has changed. */
void za_receiver_share(struct za_receiver *receiver, struct za_conn *conn);

/* receive.c */
/* Puts a connection among those to be armed: at the end, or, if it was armed for a chunk and another
 * took that, behind those who lost their turn in the same way. */
void za_receive_wait(struct za_receiver *receiver, struct za_conn *conn, bool passed_over);
void za_receive_arm_waiting(struct za_receiver *receiver);
/* False: the fragment cannot be cut to its end now, see za_receive_resume(). */
bool za_receive_completed(struct za_receiver *receiver, const struct za_completion *cqe);
bool za_receive_resume(struct za_receiver *receiver);
/* A receive that was asked to end goes on: it is asked again if its connection shall close. */
void za_receive_not_cancelled(struct za_receiver *receiver, const struct za_completion *answer);
/* A connection's messages cannot be read: it closes as if they had broken the framing. */
void za_receive_dismiss(struct za_receiver *receiver, uint32_t id, const char *detail);
/* Asks every armed receive to end; those that are asked already are left alone. */
void za_receive_cancel_all(struct za_receiver *receiver);
/* Closes what is still open, after every receive has ended. */
void za_receive_close_all(struct za_receiver *receiver);
/* Drops the fragment that is being cut. */
void za_receive_abandon(struct za_receiver *receiver);
/* Frees the area from unfinished messages. */
void za_receive_sweep_tails(struct za_receiver *receiver);

/* emit.c */
/* There is a batch to put rows into; false: out of memory, the receiver has failed. */
bool za_emit_ready(struct za_receiver *receiver);
/* Moves the batch to the queue if it has rows. False: the queue is full. */
bool za_emit_flush(struct za_receiver *receiver);
/* After completions were reaped: watermarks, and whether the batch should leave now. */
void za_emit_drained(struct za_receiver *receiver);
/* How long the receiver may sleep as far as the batch is concerned; -1: no limit. */
int64_t za_emit_patience_ns(struct za_receiver *receiver);
void za_emit_discard(struct za_receiver *receiver);
void za_emit_count_rate(struct za_receiver *receiver, uint64_t bytes);

#endif

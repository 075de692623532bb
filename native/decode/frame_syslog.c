/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_syslog.c - syslog over TCP, as its senders mix it.
 *
 * Source: RFC 6587. Section 3.4.1, octet counting: MSG-LEN SP SYSLOG-MSG, where MSG-LEN is a
 * NONZERO-DIGIT and more digits. Section 3.4.2, non-transparent framing: the message ends with LF.
 * Which of them it is can be told by the first byte of each message, since a syslog message begins
 * with "<": a digit from 1 to 9 is a count, everything else is a line.
 */
#include <errno.h>
#include <string.h>

#include "frame_measured.h"

#define MOST_DIGITS 10 /* of a 32-bit number, which no limit exceeds */

static inline bool counts_octets(uint8_t first)
{
	return first >= '1' && first <= '9';
}

static int measure_count(const struct za_framing *framing, const uint8_t *data, size_t len,
			 struct za_measure *out)
{
	uint64_t value = 0;
	size_t n = 0;

	for (;; n++) {
		if (n == len) {
			out->need = len + 1;
			return 0;
		}
		if (n && data[n] == ' ')
			break;
		if (data[n] < '0' || data[n] > '9')
			return -EBADMSG;
		if (n == MOST_DIGITS)
			return -EMSGSIZE;
		value = value * 10 + (uint64_t)(data[n] - '0');
		if (value > framing->max_message_bytes)
			return -EMSGSIZE;
	}
	out->start = n + 1;
	out->length = (size_t)value;
	out->total = out->start + out->length;
	return 0;
}

static int measure_line(const struct za_framing *framing, const uint8_t *data, size_t len,
			size_t from, struct za_measure *out)
{
	const uint8_t *end = from < len ? memchr(data + from, '\n', len - from) : NULL;
	size_t length = end ? (size_t)(end - data) : len;

	if (length > framing->max_message_bytes)
		return -EMSGSIZE;
	out->need = end ? 0 : len + 1;
	out->start = 0;
	out->length = length;
	out->total = length + 1;
	return 0;
}

static int syslog_scan(const struct za_framing *framing, const uint8_t *data, size_t len,
		       size_t from, struct za_bound *bounds, uint32_t room, size_t *consumed)
{
	uint32_t n = 0;
	size_t at = 0;
	int code = 0;

	for (; n < room && at < len; from = 0) {
		struct za_measure m = {0};

		code = counts_octets(data[at])
			       ? measure_count(framing, data + at, len - at, &m)
			       : measure_line(framing, data + at, len - at, from, &m);
		if (code || m.need || m.total > len - at)
			break;
		bounds[n++] = (struct za_bound){.start = (uint32_t)(at + m.start),
						.length = (uint32_t)m.length};
		at += m.total;
	}
	*consumed = at;
	return n ? (int)n : code;
}

static int syslog_extend(const struct za_framing *framing, const uint8_t *head, size_t head_len,
			 const uint8_t *next, size_t next_len, size_t *taken, bool *whole)
{
	const uint8_t *end;

	if (counts_octets(head[0]))
		return za_measured_extend(framing, head, head_len, next_len, taken, whole,
					  measure_count);
	end = memchr(next, '\n', next_len);
	*whole = end;
	*taken = end ? (size_t)(end - next) + 1 : next_len;
	return head_len + *taken - *whole > framing->max_message_bytes ? -EMSGSIZE : 0;
}

/* A line may end with the stream; a counted message that is short may not. */
static bool syslog_finish(const struct za_framing *framing, const uint8_t *head, size_t head_len,
			  struct za_bound *bound)
{
	*bound = (struct za_bound){.start = 0, .length = (uint32_t)head_len};
	return framing->emit_unterminated && !counts_octets(head[0]);
}

const struct za_framing_ops za_framing_syslog = {
	.name = "syslog",
	.broken =
		"a message begins with a digit, and no count and a space follow (RFC 6587, 3.4.1)",
	.scan = syslog_scan,
	.extend = syslog_extend,
	.finish = syslog_finish,
};

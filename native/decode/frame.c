/* SPDX-License-Identifier: Apache-2.0 */
/* frame.c - choosing a framing. */
#include "frame.h"

#include <errno.h>
#include <string.h>

#include "../error.h"

#define MOST_MESSAGE_BYTES (1U << 30)
#define MOST_HEADER_BYTES (64U << 10)

static int wrong(struct za_error *error, const char *text, uint32_t value)
{
	return za_fail(error, -EINVAL, "config", "%s, not %u", text, value);
}

static int check_delimited(const struct za_framing_config *c, struct za_error *error)
{
	if (c->delimiter_bytes < 1 || c->delimiter_bytes > 8)
		return wrong(error, "delimiter must have 1 to 8 bytes", c->delimiter_bytes);
	if (c->blocks && c->delimiter_bytes != 1)
		return wrong(error, "delimiter must have 1 byte if rows are blocks",
			     c->delimiter_bytes);
	return 0;
}

static int check_prefixed(const struct za_framing_config *c, struct za_error *error)
{
	const struct za_prefix *p = &c->prefix;

	if (p->width != 1 && p->width != 2 && p->width != 4 && p->width != 8)
		return wrong(error, "width of a length must be 1, 2, 4 or 8", p->width);
	if (p->header_bytes > MOST_HEADER_BYTES)
		return wrong(error, "header_size must be at most 65536", p->header_bytes);
	if (p->offset > p->header_bytes || p->header_bytes - p->offset < p->width)
		return wrong(error, "header_size must be large enough for the length in it",
			     p->header_bytes);
	if (!p->unit || p->unit > MOST_HEADER_BYTES)
		return wrong(error, "unit must be 1 to 65536", p->unit);
	return 0;
}

static int check_fixed(const struct za_framing_config *c, struct za_error *error)
{
	if (c->fixed_bytes < 1 || c->fixed_bytes > MOST_MESSAGE_BYTES)
		return wrong(error, "size must be 1 byte to 1 GiB", c->fixed_bytes);
	return 0;
}

int za_framing_init(struct za_framing *framing, const struct za_framing_config *config,
		    struct za_error *error)
{
	static const struct {
		const struct za_framing_ops *ops;
		int (*check)(const struct za_framing_config *config, struct za_error *error);
	} kinds[] = {
		[ZA_FRAMING_RAW] = {&za_framing_raw, NULL},
		[ZA_FRAMING_DELIMITED] = {&za_framing_delimited, check_delimited},
		[ZA_FRAMING_PREFIXED] = {&za_framing_prefixed, check_prefixed},
		[ZA_FRAMING_VARINT] = {&za_framing_varint, NULL},
		[ZA_FRAMING_FIXED] = {&za_framing_fixed, check_fixed},
		[ZA_FRAMING_SYSLOG] = {&za_framing_syslog, NULL},
		[ZA_FRAMING_IPC] = {&za_framing_ipc, NULL},
	};
	int code;

	if (config->kind >= sizeof(kinds) / sizeof(kinds[0]))
		return wrong(error, "framing is unknown", config->kind);
	if (config->kind != ZA_FRAMING_RAW && config->kind != ZA_FRAMING_FIXED &&
	    (config->max_message_bytes < 1 || config->max_message_bytes > MOST_MESSAGE_BYTES))
		return wrong(error, "max_message must be 1 byte to 1 GiB",
			     config->max_message_bytes);
	code = kinds[config->kind].check ? kinds[config->kind].check(config, error) : 0;
	if (code)
		return code;
	*framing = (struct za_framing){
		.ops = kinds[config->kind].ops,
		.max_message_bytes = config->max_message_bytes,
		.fixed_bytes = config->fixed_bytes,
		.prefix = config->prefix,
		.delimiter_bytes = config->delimiter_bytes,
		.blocks = config->blocks,
		.emit_unterminated = config->emit_unterminated,
	};
	memcpy(framing->delimiter, config->delimiter, sizeof(framing->delimiter));
	return 0;
}

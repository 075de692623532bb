/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - where JSON values end.
 *
 * Values lie in lines: an LF ends whatever it is in, and nothing is read further than ZA_VALUE_SLACK
 * bytes behind it. Functions that give what is behind a value give NULL if it is none, or an unusual
 * one. `high` becomes other than 0 if there may be more than ASCII.
 *
 * Source: RFC 8259, sections 2 to 7.
 */
#ifndef ZA_DECODE_JSON_H
#define ZA_DECODE_JSON_H

#include "values.h"

struct za_json_string {
	const uint8_t *text;
	uint32_t bytes; /* as it is written */
	bool escaped;
};

struct za_json_number {
	struct za_decimal decimal;
	bool exponent;
};

static inline const uint8_t *za_json_spaces(const uint8_t *at)
{
	while (*at == ' ' || *at == '\t')
		at++;
	return at;
}

/* The next quote, backslash or control character. */
static inline const uint8_t *za_json_stop(const uint8_t *at, uint32_t *high)
{
	for (;; at += 16) {
		za_bytes16 v = za_load16(at);
		uint32_t stops = za_equal16(v, '"') | za_equal16(v, '\\') | za_at_most16(v, 0x1F);

		*high |= za_high16(v);
		if (stops)
			return at + __builtin_ctz(stops);
	}
}

/* From the first backslash on; see za_json_string_end(). */
const uint8_t *za_json_string_rest(const uint8_t *at, uint32_t *high);

/* `at` is a quote. */
static inline const uint8_t *za_json_string_end(const uint8_t *at, struct za_json_string *string,
						uint32_t *high)
{
	const uint8_t *end = za_json_stop(at + 1, high);

	string->text = at + 1;
	string->escaped = *end == '\\';
	if (string->escaped) {
		end = za_json_string_rest(end, high);
		if (!end)
			return NULL;
	} else if (*end++ != '"') {
		return NULL;
	}
	string->bytes = (uint32_t)(end - string->text - 1);
	return end;
}

/* What an escaped string means: at most as many bytes as it has, to `out`. Gives how many. */
uint32_t za_json_unescape(const struct za_json_string *string, uint8_t *out);

/* How many digits there are, up to 31. */
static inline uint32_t za_json_digits(const uint8_t *at)
{
	uint32_t others = ~za_digits16(za_load16(at)) & 0xFFFF;

	if (others)
		return (uint32_t)__builtin_ctz(others);
	return 16 + (uint32_t)__builtin_ctz(~za_digits16(za_load16(at + 16)) | 1U << 15);
}

static inline const uint8_t *za_json_number_end(const uint8_t *at, struct za_json_number *number)
{
	struct za_decimal *decimal = &number->decimal;
	uint32_t digits;
	uint64_t power;

	decimal->minus = *at == '-';
	decimal->at = at += decimal->minus;
	decimal->a = za_json_digits(at);
	decimal->b = 0;
	number->exponent = false;
	if (!decimal->a || decimal->a > 30 || (decimal->a > 1 && *at == '0'))
		return NULL;
	at += decimal->a;
	if (*at == '.') {
		decimal->b = za_json_digits(at + 1);
		if (!decimal->b || decimal->b > 20)
			return NULL;
		at += decimal->b + 1;
	}
	if ((*at | 0x20) == 'e') {
		at++;
		at += *at == '-' || *at == '+';
		digits = za_json_digits(at);
		/* Not so large that a double could not hold it. */
		if (!digits || digits > 3 || !za_digits8(at, digits, &power) || power > 250)
			return NULL;
		number->exponent = true;
		at += digits;
	}
	return at;
}

/* For words of up to 5 bytes. */
static inline bool za_json_is(const uint8_t *at, const char *word, size_t n)
{
	return !memcmp(at, word, n);
}

/* Any object or array in one line, of moderate depth. */
const uint8_t *za_json_nested_end(const uint8_t *at, uint32_t *high);

/* Any value. */
static inline const uint8_t *za_json_value_end(const uint8_t *at, uint32_t *high)
{
	struct za_json_number number;
	struct za_json_string string;

	switch (*at) {
	case '"':
		return za_json_string_end(at, &string, high);
	case 't':
		return za_json_is(at, "true", 4) ? at + 4 : NULL;
	case 'f':
		return za_json_is(at, "false", 5) ? at + 5 : NULL;
	case 'n':
		return za_json_is(at, "null", 4) ? at + 4 : NULL;
	case '{':
	case '[':
		return za_json_nested_end(at, high);
	default:
		return za_json_number_end(at, &number);
	}
}

#endif

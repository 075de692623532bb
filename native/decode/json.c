/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.c - escapes, and values within values.
 */
#include "json.h"

#define DEEPEST 64U

/* --- escapes --------------------------------------------------------------------------------- */

/* Four hexadecimal digits; more than 0xFFFF for what is none. */
static uint32_t code_unit(const uint8_t *at)
{
	uint32_t value = 0;

	for (uint32_t i = 0; i < 4; i++) {
		uint8_t digit = at[i], letter = digit | 0x20;

		if (digit >= '0' && digit <= '9')
			value = value << 4 | (uint32_t)(digit - '0');
		else if (letter >= 'a' && letter <= 'f')
			value = value << 4 | (uint32_t)(letter - 'a' + 10);
		else
			return UINT32_MAX;
	}
	return value;
}

static bool is_low_surrogate(uint32_t unit)
{
	return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* The character that an escape at `at` means, and what is behind it; NULL: it means none. */
static const uint8_t *escape_end(const uint8_t *at, uint32_t *character)
{
	static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	const char *letter = at[1] ? strchr(letters, at[1]) : NULL;
	uint32_t unit, low;

	if (letter) {
		*character = (uint8_t)meant[letter - letters];
		return at + 2;
	}
	if (at[1] != 'u')
		return NULL;
	unit = code_unit(at + 2);
	if (unit > 0xFFFF || is_low_surrogate(unit))
		return NULL;
	at += 6;
	if (unit >= 0xD800 && unit <= 0xDBFF) {
		if (at[0] != '\\' || at[1] != 'u')
			return NULL;
		low = code_unit(at + 2);
		if (!is_low_surrogate(low))
			return NULL;
		unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
		at += 6;
	}
	*character = unit;
	return at;
}

const uint8_t *za_json_string_rest(const uint8_t *at, uint32_t *high)
{
	uint32_t character;

	while (*at == '\\') {
		at = escape_end(at, &character);
		if (!at)
			return NULL;
		at = za_json_stop(at, high);
	}
	return *at == '"' ? at + 1 : NULL;
}

/* As UTF-8 (Unicode 15, table 3-6); an escape is never shorter. */
static uint8_t *put_character(uint8_t *out, uint32_t character)
{
	if (character < 0x80) {
		*out++ = (uint8_t)character;
		return out;
	}
	if (character < 0x800) {
		*out++ = (uint8_t)(0xC0 | character >> 6);
	} else {
		if (character < 0x10000) {
			*out++ = (uint8_t)(0xE0 | character >> 12);
		} else {
			*out++ = (uint8_t)(0xF0 | character >> 18);
			*out++ = (uint8_t)(0x80 | (character >> 12 & 0x3F));
		}
		*out++ = (uint8_t)(0x80 | (character >> 6 & 0x3F));
	}
	*out++ = (uint8_t)(0x80 | (character & 0x3F));
	return out;
}

uint32_t za_json_unescape(const struct za_json_string *string, uint8_t *out)
{
	const uint8_t *at = string->text, *end = at + string->bytes;
	uint8_t *to = out;

	while (at < end) {
		const uint8_t *escape = memchr(at, '\\', (size_t)(end - at));
		size_t plain = (size_t)((escape ? escape : end) - at);
		uint32_t character;

		memcpy(to, at, plain);
		to += plain;
		if (!escape)
			break;
		at = escape_end(escape, &character);
		if (!at) /* it was one when it was looked for */
			break;
		to = put_character(to, character);
	}
	return (uint32_t)(to - out);
}

/* --- values within values --------------------------------------------------------------------- */

static const uint8_t *nested_end(const uint8_t *at, uint32_t depth, uint32_t *high)
{
	uint8_t close = *at == '{' ? '}' : ']';
	struct za_json_string name;

	if (!depth)
		return NULL;
	at = za_json_spaces(at + 1);
	if (*at == close)
		return at + 1;
	for (;;) {
		if (close == '}') {
			if (*at != '"' || !(at = za_json_string_end(at, &name, high)))
				return NULL;
			at = za_json_spaces(at);
			if (*at != ':')
				return NULL;
			at = za_json_spaces(at + 1);
		}
		if (*at == '{' || *at == '[')
			at = nested_end(at, depth - 1, high);
		else
			at = za_json_value_end(at, high);
		if (!at)
			return NULL;
		at = za_json_spaces(at);
		if (*at == close)
			return at + 1;
		if (*at != ',')
			return NULL;
		at = za_json_spaces(at + 1);
	}
}

const uint8_t *za_json_nested_end(const uint8_t *at, uint32_t *high)
{
	return nested_end(at, DEEPEST, high);
}

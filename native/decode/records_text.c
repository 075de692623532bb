/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records_text.c - text of a fixed width, padded with NULs or blanks, becomes strings.
 *
 * Source of the views: Arrow columnar format, "Variable-size Binary View Layout": the length, and
 * up to 12 bytes behind it, the rest zero.
 */
#include <string.h>

#include "frame.h"
#include "records.h"

#define WORD 8U
/* NUL and blank become 0, and no other byte does. */
#define LESS_BLANKS 0xDFDFDFDFDFDFDFDFULL
#define HIGH_BITS 0x8080808080808080ULL

static inline uint64_t word_at(const uint8_t *text)
{
	uint64_t word;

	memcpy(&word, text, WORD);
	return word;
}

uint32_t za_text_trimmed(const uint8_t *text, uint32_t bytes)
{
	for (; bytes >= WORD; bytes -= WORD) {
		/* The last byte is the most significant one. */
		uint64_t word = word_at(text + bytes - WORD) & LESS_BLANKS;

		if (word)
			return bytes - (uint32_t)__builtin_clzll(word) / 8;
	}
	while (bytes && !(text[bytes - 1] & (uint8_t)LESS_BLANKS))
		bytes--;
	return bytes;
}

bool za_text_is_good(const uint8_t *text, uint32_t bytes)
{
	if (bytes == WORD && !(word_at(text) & HIGH_BITS))
		return true;
	return za_utf8_valid(text, za_text_trimmed(text, bytes));
}

void za_text_append(const struct za_field *field, const uint8_t *at, struct za_column *column,
		    uint64_t to)
{
	uint32_t bytes = za_text_trimmed(at, field->bytes);

	/* There is room for all bytes of each element. */
	if (field->bytes == WORD)
		memcpy(column->values + column->bytes, at, WORD);
	else
		memcpy(column->values + column->bytes, at, bytes);
	column->bytes += bytes;
	column->offsets[to + 1] = (int32_t)column->bytes;
}

void za_text_view(const struct za_field *field, const uint8_t *at, struct za_column *column,
		  uint64_t to)
{
	uint8_t *view = column->values + to * ZA_VIEW_BYTES;
	uint32_t bytes = za_text_trimmed(at, field->bytes);

	memset(view, 0, ZA_VIEW_BYTES);
	memcpy(view, &bytes, sizeof(bytes));
	if (field->bytes == WORD) {
		uint64_t kept = bytes == WORD ? UINT64_MAX : (1ULL << 8 * bytes) - 1;
		uint64_t word = word_at(at) & kept;

		memcpy(view + sizeof(bytes), &word, WORD);
	} else {
		memcpy(view + sizeof(bytes), at, bytes);
	}
}

void za_records_text(const struct za_record_group *group, const struct za_field *field,
		     struct za_column *column, uint64_t row)
{
	uint64_t to = row * field->elements;

	for (uint32_t i = 0; i < group->n; i++) {
		for (uint32_t e = 0; e < field->elements; e++, to++) {
			const uint8_t *at = group->at[i] + field->offsets[e];

			if (field->kind == ZA_FIELD_VIEW)
				za_text_view(field, at, column, to);
			else
				za_text_append(field, at, column, to);
		}
	}
}

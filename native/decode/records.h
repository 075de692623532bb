/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records.h - between the files of the record decoder:
 *
 *   records.c        which records are good, of which layout, and their columns
 *   records_move.c   fields of fixed size that stay as they are: the fast loops
 *   records_text.c   text of a fixed width
 *   records_batch.c  plain layouts as a whole batch, in one call
 */
#ifndef ZA_DECODE_RECORDS_H
#define ZA_DECODE_RECORDS_H

#include "../za.h"

#define ZA_RECORDS_GROUP 256U /* so few that they stay in the first cache */

/* Records that are good and of which some layout is known. */
struct za_record_group {
	uint32_t n;
	size_t step; /* not 0: each lies so many bytes behind the one before */
	const uint8_t *at[ZA_RECORDS_GROUP];
	uint8_t layout[ZA_RECORDS_GROUP];
};

/* Moves one element of each record of a group of one layout, `offset` bytes into the record, to a
 * column without nulls. `first`: where the first goes, `stride`: how far apart they are, in elements. */
void za_records_move(const struct za_record_group *group, const struct za_field *field,
		     uint32_t offset, struct za_column *column, uint64_t first, uint32_t stride);

#define ZA_VIEW_BYTES 16U

/* Its length without trailing NULs and blanks. */
uint32_t za_text_trimmed(const uint8_t *text, uint32_t bytes);
/* Whether it is UTF-8, so trimmed. */
bool za_text_is_good(const uint8_t *text, uint32_t bytes);
/* As element `to` of a column of offsets and bytes; elements come in order. */
void za_text_append(const struct za_field *field, const uint8_t *at, struct za_column *column,
		    uint64_t to);
/* As element `to` of a column of views; at most 12 bytes. */
void za_text_view(const struct za_field *field, const uint8_t *at, struct za_column *column,
		  uint64_t to);
/* All of a group, for a column without nulls, as either. */
void za_records_text(const struct za_record_group *group, const struct za_field *field,
		     struct za_column *column, uint64_t row);

#endif

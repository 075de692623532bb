/* SPDX-License-Identifier: Apache-2.0 */
/*
 * values.h - numbers and times from text, where it is plain what they are.
 *
 * Each function takes the `n` bytes of a value and gives false for what is not plain: longer than
 * usual, signed with a plus, in a form of its own, out of range. That is no verdict: another parser
 * has it. What is taken is exact. Up to ZA_VALUE_SLACK bytes from the value's first one on are read,
 * whatever n is.
 */
#ifndef ZA_DECODE_VALUES_H
#define ZA_DECODE_VALUES_H

#include "bytes16.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "digits are taken to be in words whose first byte is the lowest"
#endif

#define ZA_VALUE_SLACK 48U
#define ZA_ZEROS 0x3030303030303030ULL

static inline uint64_t za_word(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

static inline bool za_all_digits(uint64_t word)
{
	/* The high half of a digit is 3, also when 6 is added: which rules out what follows 9. */
	return ((word & 0xF0F0F0F0F0F0F0F0ULL) |
		((word + 0x0606060606060606ULL) & 0xF0F0F0F0F0F0F0F0ULL) >> 4) ==
	       0x3333333333333333ULL;
}

/* Pairs of neighbours are put together, three times. */
static inline uint64_t za_digits_value(uint64_t word)
{
	word = (word & 0x0F0F0F0F0F0F0F0FULL) * 2561 >> 8;
	word = (word & 0x00FF00FF00FF00FFULL) * 6553601 >> 16;
	return (word & 0x0000FFFF0000FFFFULL) * 42949672960001 >> 32;
}

/* 1 to 8 digits. */
static inline bool za_digits8(const uint8_t *at, uint32_t n, uint64_t *out)
{
	uint32_t shift = 64 - 8 * n;
	uint64_t word = za_word(at) << shift | (ZA_ZEROS & ((1ULL << shift) - 1));

	*out = za_digits_value(word);
	return za_all_digits(word);
}

/* 1 to 20 digits whose number fits. */
static inline bool za_digits(const uint8_t *at, uint32_t n, uint64_t *out)
{
	const uint8_t *last;
	uint64_t high, low;
	bool good;

	if (n <= 8)
		return za_digits8(at, n, out);
	last = at + n - 8;
	if (n <= 16) {
		good = za_digits8(at, n - 8, &high);
	} else if (n <= 19) {
		good = za_digits8(at, n - 16, &high);
		good &= za_digits8(last - 8, 8, &low);
		high = high * 100000000 + low;
	} else if (n == 20) {
		good = za_digits8(at, 4, &high);
		good &= za_digits8(last - 8, 8, &low);
		high = high * 100000000 + low;
		good &= high <= UINT64_MAX / 100000000;
	} else {
		return false;
	}
	good &= za_digits8(last, 8, &low);
	*out = high * 100000000 + low;
	return good && *out >= low; /* else it did not fit */
}

extern const double za_powers_of_ten[23];
extern const int64_t za_whole_powers_of_ten[10];

/* The same by the C library, for numbers whose grammar was checked; at most 60 bytes. */
bool za_number_slowly(const uint8_t *at, uint32_t n, uint32_t bytes, void *out);

/* An integer of 1, 2, 4 or 8 bytes, n > 0. */
static inline bool za_integer(const uint8_t *at, uint32_t n, uint32_t bytes, bool is_signed,
			      uint64_t *out)
{
	bool minus = is_signed && *at == '-';
	uint64_t value, most = UINT64_MAX >> (64 - 8 * bytes + is_signed);

	if (n <= minus || !za_digits(at + minus, n - minus, &value))
		return false;
	*out = minus ? -value : value;
	return value <= most + minus;
}

/* Of a number: -a.b, a >= 1 digits and b digits behind a point, and whatever follows. */
struct za_decimal {
	const uint8_t *at; /* of the a digits */
	uint32_t a, b;
	bool minus;
};

/* As a double or, with 4 bytes, a float. Correctly rounded: both numbers that are divided are exact
 * (W. D. Clinger, "How to Read Floating Point Numbers Accurately", 1990). */
static inline bool za_real(const struct za_decimal *decimal, uint32_t bytes, void *out)
{
	uint32_t a = decimal->a, b = decimal->b;
	uint64_t whole, part = 0;

	if (a + b > 15 || b > 8 || !za_digits(decimal->at, a, &whole))
		return false;
	if (b) {
		if (!za_digits8(decimal->at + a + 1, b, &part))
			return false;
		whole = whole * (uint64_t)za_whole_powers_of_ten[b] + part;
	}
	if (bytes == sizeof(double)) {
		double value = (double)whole / za_powers_of_ten[b];

		value = decimal->minus ? -value : value;
		memcpy(out, &value, sizeof(value));
	} else {
		float value = (float)whole / (float)za_powers_of_ten[b];

		if (whole > 1U << 24)
			return false;
		value = decimal->minus ? -value : value;
		memcpy(out, &value, sizeof(value));
	}
	return true;
}

/* What a time may have behind its seconds. */
struct za_time_form {
	uint8_t digits; /* of a fraction at most, which are also its unit: 0, 3, 6, 9 */
	bool zone;      /* a Z may be there */
	bool no_zone;   /* and may be missing */
};

/* The day that was asked for last: most times are of the same one. */
struct za_day {
	uint64_t text; /* YYYY-MM- */
	uint16_t rest; /* DD */
	bool known;
	int64_t days; /* since 1970 */
};

/* The days from 1970 to YYYY-MM-DD, of which 10 bytes are there; years 1678 to 2261, whose times fit
 * into 64 bits even in nanoseconds. */
bool za_day_of(const uint8_t *at, struct za_day *day);

/* YYYY-MM-DD HH:MM:SS[.f][Z], also with a T. Source: ISO 8601 as Arrow's parsers take it. */
static inline bool za_time(const uint8_t *at, uint32_t n, const struct za_time_form *form,
			   struct za_day *day, int64_t *out)
{
	uint64_t word, hours, minutes, seconds, fraction = 0;
	uint32_t digits = 0;
	uint16_t rest;

	if (n < 19)
		return false;
	memcpy(&rest, at + 8, sizeof(rest));
	if (!day->known || day->text != za_word(at) || day->rest != rest)
		if (!za_day_of(at, day))
			return false;
	if (form->zone && at[n - 1] == 'Z')
		n--;
	else if (!form->no_zone)
		return false;
	/* HH:MM:SS with its colons made zeros */
	word = za_word(at + 11) ^ 0x00000A00000A0000ULL;
	if ((at[10] != ' ' && at[10] != 'T') || !za_all_digits(word) || at[13] != ':' ||
	    at[16] != ':')
		return false;
	word = za_digits_value(word);
	hours = word / 1000000;
	minutes = word / 1000 % 1000;
	seconds = word % 1000;
	if (hours > 23 || minutes > 59 || seconds > 59)
		return false;
	if (n > 19) {
		digits = n - 20;
		if (at[19] != '.' || !digits || digits > form->digits ||
		    !za_digits(at + 20, digits, &fraction))
			return false;
	}
	*out = (day->days * 86400 + (int64_t)(hours * 3600 + minutes * 60 + seconds)) *
		       za_whole_powers_of_ten[form->digits] +
	       (int64_t)fraction * za_whole_powers_of_ten[form->digits - digits];
	return true;
}

#endif

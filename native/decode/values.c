/* SPDX-License-Identifier: Apache-2.0 */
/*
 * values.c - numbers and times from text: tables, and what is seldom.
 */
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "values.h"

#define LONGEST 60U

const double za_powers_of_ten[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
				     1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
				     1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
const int64_t za_whole_powers_of_ten[10] = {1,      10,      100,      1000,      10000,
					    100000, 1000000, 10000000, 100000000, 1000000000};

/* Never freed: numbers may be read as long as there is a thread. */
static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void)
{
	c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

bool za_number_slowly(const uint8_t *at, uint32_t n, uint32_t bytes, void *out)
{
	char text[LONGEST + 1];

	pthread_once(&c_locale_once, make_c_locale);
	if (n > LONGEST || !c_locale)
		return false;
	memcpy(text, at, n);
	text[n] = '\0';
	/* glibc rounds correctly. */
	if (bytes == sizeof(double)) {
		double value = strtod_l(text, NULL, c_locale);

		memcpy(out, &value, sizeof(value));
		return isfinite(value);
	}
	float value = strtof_l(text, NULL, c_locale);

	memcpy(out, &value, sizeof(value));
	return isfinite(value);
}

/* Days from 1970-01-01; years count from March, so that a leap day is a year's last one. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 9 : month - 3;

	return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

bool za_day_of(const uint8_t *at, struct za_day *day)
{
	static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	uint64_t year, month, of_month;
	bool leap;

	if (!za_digits8(at, 4, &year) || at[4] != '-' || !za_digits8(at + 5, 2, &month) ||
	    at[7] != '-' || !za_digits8(at + 8, 2, &of_month))
		return false;
	if (year < 1678 || year > 2261 || month < 1 || month > 12)
		return false;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (of_month < 1 || of_month > (uint64_t)lengths[month - 1] + (leap && month == 2))
		return false;
	day->text = za_word(at);
	memcpy(&day->rest, at + 8, sizeof(day->rest));
	day->known = true;
	day->days = days_of((int64_t)year, (int64_t)month, (int64_t)of_month);
	return true;
}

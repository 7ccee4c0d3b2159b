/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

static void a_time_is_iso_8601_in_utc(void **state)
{
	char text[CLOCK_ISO_SIZE];

	(void)state;
	assert_string_equal(clock_format_iso(text, 0), "1970-01-01T00:00:00.000000Z");
	assert_string_equal(clock_format_iso(text, 1709251199999999),
			    "2024-02-29T23:59:59.999999Z");
	assert_string_equal(clock_format_iso(text, 253402300800000000),
			    "9999-12-31T23:59:59.000000Z");
	assert_string_equal(clock_format_iso(text, UINT64_MAX), "9999-12-31T23:59:59.551615Z");
	for (uint64_t us = 1; us < 253402300799000000; us += 7654321987654321) {
		time_t seconds = (time_t)(us / 1000000);
		char expected[64];
		size_t length =
			strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S", gmtime(&seconds));

		(void)snprintf(expected + length, sizeof(expected) - length, ".%06uZ",
			       (unsigned)(us % 1000000));
		assert_string_equal(clock_format_iso(text, us), expected);
	}
}

static void a_boot_has_an_id(void **state)
{
	(void)state;
	assert_int_equal(strlen(clock_boot_id()), 36);
	assert_string_equal(clock_boot_id(), clock_boot_id());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_time_is_iso_8601_in_utc),
		cmocka_unit_test(a_boot_has_an_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

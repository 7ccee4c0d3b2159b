/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>

#include "base/attr.h"
#include "dut/expiry.h"

static const uint64_t SECOND_US = 1000000;

static const struct moment begin = { "this-boot", UINT64_C(1000) * 1000000,
				     UINT64_C(1700000000) * 1000000 };

static void within_a_boot_the_wall_clock_does_not_matter(void **state)
{
	const struct expiry expiry = { begin, 60 * SECOND_US };
	struct moment now = begin;
	uint64_t realtime_us;

	(void)state;
	assert_int_equal(expiry_left_us(&expiry, &now), 60 * SECOND_US);
	now.boottime_us += 59 * SECOND_US;
	now.realtime_us += UINT64_C(86400) * SECOND_US;
	assert_int_equal(expiry_left_us(&expiry, &now), SECOND_US);
	now.realtime_us = 0;
	assert_int_equal(expiry_left_us(&expiry, &now), SECOND_US);
	assert_false(expiry_is_by_wall(&expiry, &now, &realtime_us));
	now.boottime_us += SECOND_US;
	assert_int_equal(expiry_left_us(&expiry, &now), 0);
	now.boottime_us += SECOND_US;
	assert_int_equal(expiry_left_us(&expiry, &now), 0);
}

static void after_a_reboot_the_wall_clock_decides(void **state)
{
	const struct expiry expiry = { begin, 600 * SECOND_US };
	struct moment now = { "next-boot", 10 * SECOND_US,
			      begin.realtime_us + UINT64_C(100) * SECOND_US };
	uint64_t realtime_us = 0;

	(void)state;
	assert_true(expiry_is_by_wall(&expiry, &now, &realtime_us));
	assert_int_equal(realtime_us, begin.realtime_us + UINT64_C(600) * SECOND_US);
	assert_int_equal(expiry_left_us(&expiry, &now), 500 * SECOND_US);
	now.realtime_us += UINT64_C(1000) * SECOND_US;
	assert_int_equal(expiry_left_us(&expiry, &now), 0);
}

static void a_clock_that_was_lost_makes_no_expiry_longer(void **state)
{
	const struct expiry expiry = { begin, 600 * SECOND_US };
	const struct moment now = { "next-boot", 10 * SECOND_US, 5 * SECOND_US };

	(void)state;
	assert_int_equal(expiry_left_us(&expiry, &now), 600 * SECOND_US);
}

static void what_is_kept_comes_back(void **state)
{
	const struct expiry expiry = { begin, UINT64_C(7200) * SECOND_US };
	json_auto_t *object = expiry_to_json(&expiry);
	struct expiry read;
	struct error err;

	(void)state;
	assert_int_equal(expiry_from_json(&read, object, &err), 0);
	assert_string_equal(read.from.boot_id, begin.boot_id);
	assert_int_equal(read.from.boottime_us, begin.boottime_us);
	assert_int_equal(read.from.realtime_us, begin.realtime_us);
	assert_int_equal(read.span_us, expiry.span_us);
}

static void what_is_none_is_refused(void **state)
{
#define FROM "\"from\": {\"boot_id\": \"x\", \"boottime_us\": 1, \"realtime_us\": 1}"
	static const char *const bad[] = {
		"[]",
		"{}",
		"{" FROM "}",
		"{" FROM ", \"span_us\": 0}",
		"{" FROM ", \"span_us\": -1}",
		"{" FROM ", \"span_us\": 1.5}",
		"{" FROM ", \"span_us\": 9000000000000000000}",
		"{\"from\": {\"boot_id\": 1, \"boottime_us\": 1, \"realtime_us\": 1}, \"span_us\": 1}",
		"{\"from\": {\"boot_id\": \"x\", \"realtime_us\": 1}, \"span_us\": 1}",
		"{\"from\": {\"boot_id\": \"x\", \"boottime_us\": 1}, \"span_us\": 1}",
	};
	struct expiry expiry;
	struct error err;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		json_auto_t *object = json_loads(bad[i], 0, NULL);

		assert_non_null(object);
		if (expiry_from_json(&expiry, object, &err) != -EBADMSG)
			fail_msg("%s was taken", bad[i]);
		assert_string_equal(err.text, "it does not say when it ends");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(within_a_boot_the_wall_clock_does_not_matter),
		cmocka_unit_test(after_a_reboot_the_wall_clock_decides),
		cmocka_unit_test(a_clock_that_was_lost_makes_no_expiry_longer),
		cmocka_unit_test(what_is_kept_comes_back),
		cmocka_unit_test(what_is_none_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

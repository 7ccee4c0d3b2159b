/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include "dut/moment.h"

static const struct moment now = { "this-boot", 500, 1000000 };

static void the_wall_clock_does_not_matter_while_the_gateway_runs(void **state)
{
	const struct moment earlier = { "this-boot", 300, 999 },
			    ahead = { "this-boot", 300, 2000000 };

	(void)state;
	assert_int_equal(moment_on_boottime(&earlier, &now), 300);
	assert_int_equal(moment_on_boottime(&ahead, &now), 300);
}

static void over_a_restart_of_the_gateway_the_wall_clock_counts(void **state)
{
	const struct moment earlier = { "another", 77777, 999000 };

	(void)state;
	assert_int_equal(moment_on_boottime(&earlier, &now), 500 - 1000);
}

static void a_clock_that_was_set_back_makes_nobody_wait_longer(void **state)
{
	const struct moment ahead = { "another", 77777, 5000000 };

	(void)state;
	assert_int_equal(moment_on_boottime(&ahead, &now), 500);
}

static void a_record_brings_it_back(void **state)
{
	json_t *object = moment_to_json(&now);
	struct moment read;

	(void)state;
	moment_from_json(&read, object, 7);
	assert_memory_equal(&read, &now, sizeof(now));
	json_decref(object);
}

static void what_is_none_is_the_fallback(void **state)
{
	json_t *object = json_pack("{s:s, s:I, s:s}", "boot_id", "b", "boottime_us", (json_int_t)-1,
				   "realtime_us", "x");
	struct moment read;

	(void)state;
	moment_from_json(&read, NULL, 7);
	assert_string_equal(read.boot_id, "");
	assert_int_equal(read.realtime_us, 7);
	moment_from_json(&read, object, 7);
	assert_int_equal(read.boottime_us, 0);
	assert_int_equal(read.realtime_us, 0);
	json_decref(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_wall_clock_does_not_matter_while_the_gateway_runs),
		cmocka_unit_test(over_a_restart_of_the_gateway_the_wall_clock_counts),
		cmocka_unit_test(a_clock_that_was_set_back_makes_nobody_wait_longer),
		cmocka_unit_test(a_record_brings_it_back),
		cmocka_unit_test(what_is_none_is_the_fallback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

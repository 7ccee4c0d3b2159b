/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/timeouts.h"

enum { SEC = 1000000 };

static char suite[] = "suite", idle[] = "idle";

/* overall 100 s, boot_cycle 10 s with 2 retries, console_activity 3 s with 1, watchdog suite 4 s;
 * the rest is infinite. */
static void make(struct timeouts *timeouts)
{
	static struct watchdog watchdogs[2];
	struct description description = { .watchdogs = watchdogs, .n_watchdogs = 2 };

	for (size_t i = 0; i < TIMEOUT_NAMES; i++)
		description.timeouts[i] = (struct timeout_spec){ .limit_us = DURATION_INFINITE };
	watchdogs[0] = (struct watchdog){ .name = suite, .timeout = { 4 * SEC, 0 } };
	watchdogs[1] = (struct watchdog){ .name = idle, .timeout = { DURATION_INFINITE, 0 } };
	description.timeouts[TIMEOUT_OVERALL].limit_us = 100 * SEC;
	description.timeouts[TIMEOUT_BOOT_CYCLE] = (struct timeout_spec){ 10 * SEC, 2 };
	description.timeouts[TIMEOUT_CONSOLE_ACTIVITY] = (struct timeout_spec){ 3 * SEC, 1 };
	assert_int_equal(timeouts_init(timeouts, &description, 20 * SEC), 0);
}

static void assert_expires(struct timeouts *timeouts, uint64_t now_us, size_t index)
{
	size_t which = SIZE_MAX;

	assert_true(timeouts_expired(timeouts, now_us, &which));
	assert_int_equal(which, index);
}

static void assert_quiet(struct timeouts *timeouts, uint64_t now_us)
{
	size_t which;

	assert_false(timeouts_expired(timeouts, now_us, &which));
}

static void one_expires_strictly_after_its_limit_and_once(void **state)
{
	cleanup_(timeouts_done) struct timeouts timeouts = { 0 };

	(void)state;
	make(&timeouts);
	assert_int_equal(timeouts_next_us(&timeouts), UINT64_MAX);
	timeouts_start(&timeouts, TIMEOUT_BOOT_CYCLE, 5 * SEC);
	assert_int_equal(timeouts_next_us(&timeouts), 15 * SEC);
	assert_quiet(&timeouts, 15 * SEC);
	assert_expires(&timeouts, 15 * SEC + 1, TIMEOUT_BOOT_CYCLE);
	assert_quiet(&timeouts, 100 * SEC);
	assert_int_equal(timeouts_next_us(&timeouts), UINT64_MAX);
}

static void a_restart_moves_the_deadline(void **state)
{
	cleanup_(timeouts_done) struct timeouts timeouts = { 0 };

	(void)state;
	make(&timeouts);
	timeouts_start(&timeouts, TIMEOUT_CONSOLE_ACTIVITY, 0);
	timeouts_start(&timeouts, TIMEOUT_CONSOLE_ACTIVITY, 2 * SEC);
	assert_quiet(&timeouts, 4 * SEC);
	assert_expires(&timeouts, 5 * SEC + 1, TIMEOUT_CONSOLE_ACTIVITY);
}

static void an_infinite_one_never_runs(void **state)
{
	cleanup_(timeouts_done) struct timeouts timeouts = { 0 };

	(void)state;
	make(&timeouts);
	timeouts_start(&timeouts, TIMEOUT_FIRST_CONSOLE_ACTIVITY, 0);
	timeouts_start(&timeouts, TIMEOUT_WATCHDOGS + 1, 0);
	assert_int_equal(timeouts_next_us(&timeouts), UINT64_MAX);
	assert_quiet(&timeouts, UINT64_MAX);
}

static void boot_timers_stand_still_during_a_power_request(void **state)
{
	cleanup_(timeouts_done) struct timeouts timeouts = { 0 };

	(void)state;
	make(&timeouts);
	timeouts_start(&timeouts, TIMEOUT_OVERALL, 0);
	timeouts_start(&timeouts, TIMEOUT_BOOT_CYCLE, 0);
	timeouts_pause(&timeouts, 4 * SEC);
	timeouts_pause(&timeouts, 5 * SEC);
	timeouts_start(&timeouts, TIMEOUT_DAEMON, 4 * SEC);
	assert_int_equal(timeouts_next_us(&timeouts), 24 * SEC);
	assert_quiet(&timeouts, 24 * SEC);
	/* A watchdog that a line starts meanwhile has its whole time from the answer on. */
	timeouts_start(&timeouts, TIMEOUT_WATCHDOGS, 20 * SEC);
	assert_int_equal(timeouts_left_us(&timeouts, TIMEOUT_BOOT_CYCLE, 20 * SEC), 6 * SEC);
	timeouts_resume(&timeouts, 30 * SEC);
	assert_int_equal(timeouts_left_us(&timeouts, TIMEOUT_BOOT_CYCLE, 30 * SEC), 6 * SEC);
	assert_int_equal(timeouts_left_us(&timeouts, TIMEOUT_WATCHDOGS, 30 * SEC), 4 * SEC);
	assert_expires(&timeouts, 30 * SEC, TIMEOUT_DAEMON);
	assert_expires(&timeouts, 34 * SEC + 1, TIMEOUT_WATCHDOGS);
	assert_expires(&timeouts, 36 * SEC + 1, TIMEOUT_BOOT_CYCLE);
	assert_expires(&timeouts, 100 * SEC + 1, TIMEOUT_OVERALL);
}

static void retries_count_over_the_whole_job(void **state)
{
	cleanup_(timeouts_done) struct timeouts timeouts = { 0 };

	(void)state;
	make(&timeouts);
	for (unsigned i = 0; i < 2; i++) {
		timeouts_start(&timeouts, TIMEOUT_BOOT_CYCLE, 0);
		assert_int_equal(timeouts_spend(&timeouts, TIMEOUT_BOOT_CYCLE), TIMEOUT_RETRY);
		timeouts_stop_boot(&timeouts);
	}
	assert_int_equal(timeouts_spend(&timeouts, TIMEOUT_BOOT_CYCLE), TIMEOUT_ABORT);
	assert_int_equal(timeouts.items[TIMEOUT_BOOT_CYCLE].retried, 2);
	assert_int_equal(timeouts_spend(&timeouts, TIMEOUT_CONSOLE_ACTIVITY), TIMEOUT_RETRY);
	assert_int_equal(timeouts_spend(&timeouts, TIMEOUT_OVERALL), TIMEOUT_ABORT);
}

static void the_end_of_a_boot_stops_its_timers_only(void **state)
{
	cleanup_(timeouts_done) struct timeouts timeouts = { 0 };

	(void)state;
	make(&timeouts);
	timeouts_start(&timeouts, TIMEOUT_OVERALL, 0);
	timeouts_start(&timeouts, TIMEOUT_BOOT_CYCLE, 0);
	timeouts_start(&timeouts, TIMEOUT_CONSOLE_ACTIVITY, 0);
	timeouts_start(&timeouts, TIMEOUT_WATCHDOGS, 0);
	timeouts_stop_boot(&timeouts);
	assert_int_equal(timeouts_next_us(&timeouts), 100 * SEC);
}

static void results_name_every_timeout_in_seconds(void **state)
{
	cleanup_(timeouts_done) struct timeouts timeouts = { 0 };
	json_t *result, *boot_cycle;

	(void)state;
	make(&timeouts);
	assert_int_equal(timeouts_spend(&timeouts, TIMEOUT_BOOT_CYCLE), TIMEOUT_RETRY);
	result = timeouts_result(&timeouts);
	boot_cycle = json_object_get(result, "boot_cycle");
	assert_int_equal(json_integer_value(json_object_get(boot_cycle, "limit")), 10);
	assert_int_equal(json_integer_value(json_object_get(boot_cycle, "retries")), 2);
	assert_int_equal(json_integer_value(json_object_get(boot_cycle, "retried")), 1);
	assert_true(
		json_is_null(json_object_get(json_object_get(result, "watchdogs.idle"), "limit")));
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(result, "watchdogs.suite"), "limit")),
			 4);
	assert_int_equal(json_object_size(result), 9);
	json_decref(result);
}

static void the_state_tells_what_remains_of_those_that_run(void **state)
{
	cleanup_(timeouts_done) struct timeouts timeouts = { 0 };
	struct jsontext json = { 0 };
	size_t length = 0;
	char *text;

	(void)state;
	make(&timeouts);
	timeouts_start(&timeouts, TIMEOUT_OVERALL, 0);
	jsontext_open_object(&json, NULL);
	timeouts_write_state(&timeouts, SEC / 2, &json);
	jsontext_close_object(&json);
	text = jsontext_finish(&json, &length);
	assert_string_equal(text, "{\"timeouts\":{\"overall\":{\"limit\":100,\"retries\":0,"
				  "\"retried\":0,\"remaining\":99.5}}}\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_expires_strictly_after_its_limit_and_once),
		cmocka_unit_test(a_restart_moves_the_deadline),
		cmocka_unit_test(an_infinite_one_never_runs),
		cmocka_unit_test(boot_timers_stand_still_during_a_power_request),
		cmocka_unit_test(retries_count_over_the_whole_job),
		cmocka_unit_test(the_end_of_a_boot_stops_its_timers_only),
		cmocka_unit_test(results_name_every_timeout_in_seconds),
		cmocka_unit_test(the_state_tells_what_remains_of_those_that_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

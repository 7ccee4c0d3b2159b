/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

#include "cli/replay.h"

/* One event of a job, told apart by its text. */
static bool tell(struct replay *replay, int seq, const char *text)
{
	char line[64];
	json_t *event;
	bool is_new;

	(void)snprintf(line, sizeof(line), "{\"seq\": %d, \"text\": \"%s\"}", seq, text);
	event = json_loads(line, 0, NULL);
	assert_non_null(event);
	is_new = replay_is_new(replay, event, line, strlen(line));
	json_decref(event);
	return is_new;
}

static void each_event_is_new_once(void **state)
{
	struct replay replay = { 0 };

	(void)state;
	for (int seq = 0; seq < 3; seq++)
		assert_true(tell(&replay, seq, "a"));
	for (int seq = 0; seq < 3; seq++)
		assert_false(tell(&replay, seq, "a"));
	assert_true(tell(&replay, 3, "a"));
	/* Only the beginning came before it broke again. */
	assert_false(tell(&replay, 0, "a"));
	assert_false(tell(&replay, 0, "a"));
	assert_false(tell(&replay, 3, "a"));
	assert_true(tell(&replay, 4, "a"));
	replay_done(&replay);
}

static void a_job_that_is_begun_again_has_new_events(void **state)
{
	struct replay replay = { 0 };

	(void)state;
	for (int seq = 0; seq < 3; seq++)
		assert_true(tell(&replay, seq, "a"));
	for (int seq = 0; seq < 5; seq++)
		assert_true(tell(&replay, seq, "b"));
	assert_false(tell(&replay, 0, "b"));
	assert_false(tell(&replay, 4, "b"));
	assert_true(tell(&replay, 5, "b"));
	replay_done(&replay);
}

static void what_has_no_number_is_new(void **state)
{
	json_t *event = json_loads("{\"seq\": \"x\"}", 0, NULL);
	struct replay replay = { 0 };

	(void)state;
	assert_true(replay_is_new(&replay, event, "x", 1));
	assert_true(replay_is_new(&replay, event, "x", 1));
	assert_true(tell(&replay, -1, "a"));
	assert_true(tell(&replay, 0, "a"));
	json_decref(event);
	replay_done(&replay);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_event_is_new_once),
		cmocka_unit_test(a_job_that_is_begun_again_has_new_events),
		cmocka_unit_test(what_has_no_number_is_new),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

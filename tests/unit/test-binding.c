/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "dut/binding.h"

static const uint64_t LIMIT_US = 60000;

struct fixture {
	sd_event *event;
	struct binding binding;
	unsigned lost;
};

static void on_lost(void *data)
{
	struct fixture *f = data;

	f->lost++;
	/* Its owner may look at it: it has ended. */
	assert_false(binding_is_on(&f->binding));
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct binding_config config = {
		.token = "secret",
		.limit_us = LIMIT_US,
		.lost = on_lost,
		.data = f,
	};
	struct error err;

	assert_non_null(f);
	assert_true(sd_event_new(&f->event) >= 0);
	config.event = f->event;
	assert_int_equal(binding_begin(&f->binding, &config, &err), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	binding_end(&f->binding);
	sd_event_unref(f->event);
	free(f);
	return 0;
}

/* Runs the loop for some time; the microseconds until the loss, or 0. */
static uint64_t run(struct fixture *f, uint64_t us)
{
	uint64_t begun = clock_now_us(), now = begun;

	while (f->lost == 0 && now - begun < us) {
		assert_true(sd_event_run(f->event, us - (now - begun)) >= 0);
		now = clock_now_us();
	}
	return f->lost ? now - begun : 0;
}

static void nobody_who_comes_is_a_loss(void **state)
{
	struct fixture *f = *state;

	assert_true(binding_is_on(&f->binding));
	assert_in_range(run(f, 100 * LIMIT_US), LIMIT_US - 1000, 99 * LIMIT_US);
	/* Once. */
	f->lost = 0;
	assert_int_equal(run(f, 2 * LIMIT_US), 0);
}

static void a_stream_holds_until_the_last_one_is_gone(void **state)
{
	struct fixture *f = *state;

	binding_attach(&f->binding);
	binding_attach(&f->binding);
	assert_int_equal(run(f, 3 * LIMIT_US), 0);
	binding_detach(&f->binding);
	assert_int_equal(run(f, 3 * LIMIT_US), 0);
	binding_detach(&f->binding);
	assert_in_range(run(f, 100 * LIMIT_US), LIMIT_US - 1000, 99 * LIMIT_US);
}

static void each_stream_begins_the_time_anew(void **state)
{
	struct fixture *f = *state;
	uint64_t before, when;

	assert_int_equal(sd_event_source_get_time(f->binding.timer, &before), 0);
	assert_int_equal(run(f, LIMIT_US / 3), 0);
	binding_attach(&f->binding);
	binding_detach(&f->binding);
	assert_int_equal(sd_event_source_get_time(f->binding.timer, &when), 0);
	assert_true(when > before);
}

static void what_has_ended_is_not_lost(void **state)
{
	struct fixture *f = *state;

	binding_attach(&f->binding);
	binding_end(&f->binding);
	assert_false(binding_knows(&f->binding, "secret"));
	binding_detach(&f->binding);
	assert_int_equal(run(f, 3 * LIMIT_US), 0);
}

static void only_the_token_is_known(void **state)
{
	static const char *const others[] = { "", "secre", "secret ", "Secret", "secreT" };
	struct fixture *f = *state;
	struct binding nothing = { 0 };

	assert_true(binding_knows(&f->binding, "secret"));
	assert_false(binding_knows(&f->binding, NULL));
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		assert_false(binding_knows(&f->binding, others[i]));
	assert_false(binding_knows(&nothing, "secret"));
	binding_end(&nothing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nobody_who_comes_is_a_loss, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_stream_holds_until_the_last_one_is_gone, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(each_stream_begins_the_time_anew, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_has_ended_is_not_lost, set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_the_token_is_known, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "hw/drivers.h"

/* Only hw/power.c is linked: the drivers are the test's. */
static struct {
	enum power_operation operation;
	struct power power;
	bool finish_at_once, closed;
	unsigned checks;
} fake;

static void fake_check(const struct yaml_node *keys, struct problems *problems)
{
	(void)keys;
	(void)problems;
	fake.checks++;
}

static int fake_open(struct power **ret, const struct power_config *config, struct error *err)
{
	(void)config;
	(void)err;
	*ret = &fake.power;
	return 0;
}

static int fake_start(struct power *power, enum power_operation operation,
		      const struct power_deploy *deploy, struct error *err)
{
	(void)deploy;
	fake.operation = operation;
	if (operation == POWER_OP_OFF)
		return error_set(err, -EIO, "cannot begin");
	if (fake.finish_at_once)
		power_finish(power, &(struct power_result){ .state = operation == POWER_OP_PREPARE
									     ? POWER_OFF
									     : POWER_ON });
	return 0;
}

static void fake_close(struct power *power)
{
	(void)power;
	fake.closed = true;
}

const struct power_driver power_sim = {
	.name = "sim",
	.check = fake_check,
	.open = fake_open,
	.start = fake_start,
	.close = fake_close,
};
const struct power_driver power_qemu = {
	.name = "qemu",
	.has_deploy = true,
	.check = fake_check,
	.open = fake_open,
	.start = fake_start,
	.close = fake_close,
};

static sd_event *event;
static unsigned calls;
static bool inside;

static void on_done(struct power *power, const struct power_result *result, void *data)
{
	(void)power;
	(void)data;
	assert_false(inside);
	assert_int_equal(result->state, POWER_ON);
	calls++;
}

static struct power *open_power(void)
{
	const struct power_config config = { .board = "b", .driver = "sim", .event = event };
	struct power *power = NULL;
	struct error err;

	memset(&fake, 0, sizeof(fake));
	calls = 0;
	assert_int_equal(power_open(&power, &config, &err), 0);
	return power;
}

static void turn(void)
{
	while (sd_event_run(event, 0) > 0)
		;
}

static void done_runs_once_and_only_from_the_loop(void **state)
{
	struct power *power = open_power();

	(void)state;
	fake.finish_at_once = true;
	inside = true;
	assert_int_equal(power_switch(power, true, on_done, NULL, NULL), 0);
	inside = false;
	assert_int_equal(calls, 0);
	turn();
	assert_int_equal(calls, 1);
	turn();
	assert_int_equal(calls, 1);
	assert_null(power_close(power));
	assert_true(fake.closed);
}

static void done_never_runs_after_close(void **state)
{
	struct power *power = open_power();

	(void)state;
	fake.finish_at_once = true;
	assert_int_equal(power_read(power, on_done, NULL, NULL), 0);
	power_close(power);
	turn();
	assert_int_equal(calls, 0);
}

static void a_second_operation_is_busy(void **state)
{
	struct power *power = open_power();
	struct error err;

	(void)state;
	assert_int_equal(power_read(power, on_done, NULL, &err), 0);
	assert_int_equal(power_prepare(power, NULL, on_done, NULL, &err), -EBUSY);
	assert_string_equal(err.text, "a power operation is under way already");
	power_finish(power, &(struct power_result){ .state = POWER_ON });
	turn();
	assert_int_equal(calls, 1);
	assert_int_equal(power_prepare(power, NULL, on_done, NULL, &err), 0);
	assert_int_equal(fake.operation, POWER_OP_PREPARE);
	power_close(power);
}

static void one_that_cannot_begin_is_over(void **state)
{
	struct power *power = open_power();
	struct error err;

	(void)state;
	assert_int_equal(power_switch(power, false, on_done, NULL, &err), -EIO);
	assert_string_equal(err.text, "cannot begin");
	assert_int_equal(power_read(power, on_done, NULL, &err), 0);
	power_close(power);
}

static void on_prepared(struct power *power, const struct power_result *result, void *data)
{
	(void)power;
	(void)data;
	assert_int_equal(result->state, POWER_OFF);
	calls++;
}

static void on_done_again(struct power *power, const struct power_result *result, void *data)
{
	(void)data;
	assert_int_equal(power_prepare(power, NULL, on_prepared, NULL, NULL), 0);
	/* What the next operation says does not change it. */
	on_done(power, result, NULL);
}

static void done_may_begin_the_next_operation(void **state)
{
	struct power *power = open_power();

	(void)state;
	fake.finish_at_once = true;
	assert_int_equal(power_read(power, on_done_again, NULL, NULL), 0);
	turn();
	assert_int_equal(calls, 2);
	power_close(power);
}

static void on_done_close(struct power *power, const struct power_result *result, void *data)
{
	power_close(power);
	on_done(NULL, result, data);
}

static void done_may_close(void **state)
{
	struct power *power = open_power();

	(void)state;
	assert_int_equal(power_read(power, on_done_close, NULL, NULL), 0);
	power_finish(power, &(struct power_result){ .state = POWER_ON });
	turn();
	assert_int_equal(calls, 1);
	assert_true(fake.closed);
}

static void on_changed(void *data)
{
	++*(unsigned *)data;
}

static void a_change_is_told_unless_an_operation_will(void **state)
{
	struct power *power = open_power();
	unsigned changes = 0;

	(void)state;
	power_changed(power); /* nobody watches */
	power_watch(power, on_changed, &changes);
	power_changed(power);
	assert_int_equal(changes, 1);
	assert_int_equal(power_read(power, on_done, NULL, NULL), 0);
	power_changed(power);
	assert_int_equal(changes, 1);
	power_finish(power, &(struct power_result){ .state = POWER_ON });
	turn();
	assert_int_equal(calls, 1);
	power_changed(power);
	assert_int_equal(changes, 2);
	power_close(power);
}

static void a_driver_that_is_not_there_cannot_be_opened(void **state)
{
	const struct power_config config = { .board = "b", .driver = "gpio", .event = event };
	struct power *power = NULL;
	struct error err;

	(void)state;
	assert_int_equal(power_open(&power, &config, &err), -ENOENT);
	assert_string_equal(err.text, "there is no power driver 'gpio'");
	assert_null(power);
	assert_null(power_close(NULL));
}

static void states_have_their_names(void **state)
{
	(void)state;
	assert_string_equal(power_state_name(POWER_ON), "ON");
	assert_string_equal(power_state_name(POWER_OFF), "OFF");
	assert_string_equal(power_state_name(POWER_UNKNOWN), "UNKNOWN");
}

static void drivers_are_known_by_name(void **state)
{
	struct yaml_node keys = { .kind = YAML_MAPPING };
	struct problems problems = { 0 };

	(void)state;
	fake.checks = 0;
	assert_int_equal(power_check("sim", &keys, &problems), 0);
	assert_int_equal(fake.checks, 1);
	assert_int_equal(power_check("gpio", &keys, &problems), -ENOENT);
	assert_string_equal(problems.items[0].text, "not yet: driver 'gpio'");
	assert_int_equal(power_check("qemo", &keys, &problems), -ENOENT);
	assert_string_equal(problems.items[1].text,
			    "there is no power driver 'qemo'; did you mean 'qemu'?");
	assert_true(power_driver_has_deploy("qemu"));
	assert_false(power_driver_has_deploy("sim"));
	assert_false(power_driver_has_deploy("gpio"));
	problems_done(&problems);
}

static int set_up(void **state)
{
	(void)state;
	return sd_event_new(&event);
}

static int tear_down(void **state)
{
	(void)state;
	event = sd_event_unref(event);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(done_runs_once_and_only_from_the_loop),
		cmocka_unit_test(done_never_runs_after_close),
		cmocka_unit_test(a_second_operation_is_busy),
		cmocka_unit_test(one_that_cannot_begin_is_over),
		cmocka_unit_test(done_may_begin_the_next_operation),
		cmocka_unit_test(done_may_close),
		cmocka_unit_test(a_change_is_told_unless_an_operation_will),
		cmocka_unit_test(a_driver_that_is_not_there_cannot_be_opened),
		cmocka_unit_test(states_have_their_names),
		cmocka_unit_test(drivers_are_known_by_name),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

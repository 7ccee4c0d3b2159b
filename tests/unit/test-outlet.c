/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "dut/outlet.h"

/* The driver is played by the test: it notes what it is asked for and answers when told. */
static struct {
	char asked[64]; /* p: prepare, 1: on, 0: off, r: read */
	power_done_fn done;
	void *data;
	bool closed, refuses;
	void (*changed)(void *data);
	void *changed_data;
} driver;

static int note(char what, power_done_fn done, void *data, struct error *err)
{
	size_t length = strlen(driver.asked);

	if (driver.refuses)
		return error_set(err, -ENOENT, "there is no device");
	driver.asked[length] = what;
	driver.done = done;
	driver.data = data;
	return 0;
}

int power_prepare(struct power *power, const struct power_deploy *deploy, power_done_fn done,
		  void *data, struct error *err)
{
	(void)power;
	(void)deploy;
	return note('p', done, data, err);
}

int power_switch(struct power *power, bool on, power_done_fn done, void *data, struct error *err)
{
	(void)power;
	return note(on ? '1' : '0', done, data, err);
}

int power_read(struct power *power, power_done_fn done, void *data, struct error *err)
{
	(void)power;
	return note('r', done, data, err);
}

int power_end(struct power *power, power_done_fn done, void *data, struct error *err)
{
	(void)power;
	return note('e', done, data, err);
}

struct power *power_close(struct power *power)
{
	(void)power;
	driver.closed = true;
	return NULL;
}

void power_watch(struct power *power, void (*changed)(void *data), void *data)
{
	(void)power;
	driver.changed = changed;
	driver.changed_data = data;
}

const char *power_state_name(enum power_state state)
{
	return state == POWER_ON ? "ON" : state == POWER_OFF ? "OFF" : "UNKNOWN";
}

struct fixture {
	sd_event *event;
	struct outlet *outlet;
	unsigned before_on, after, calls;
	struct power_result result;
};

static void before_on(void *data)
{
	((struct fixture *)data)->before_on++;
}

static void after(enum outlet_verb verb, void *data)
{
	(void)verb;
	((struct fixture *)data)->after++;
}

static void on_done(const struct power_result *result, void *data)
{
	struct fixture *f = data;

	f->calls++;
	f->result = *result;
}

static void make(struct fixture *f, uint64_t min_off_us, uint64_t settle_us)
{
	const struct outlet_config config = {
		.event = f->event,
		.power = (struct power *)&driver,
		.min_off_us = min_off_us,
		.settle_us = settle_us,
		.before_on = before_on,
		.after = after,
		.data = f,
	};
	struct error err;

	memset(&driver, 0, sizeof(driver));
	assert_int_equal(outlet_new(&f->outlet, &config, &err), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(sd_event_new(&f->event), 0);
	make(f, 0, 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	outlet_free(f->outlet);
	assert_true(driver.closed);
	sd_event_unref(f->event);
	free(f);
	return 0;
}

static void turn(const struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}

static void ask(struct fixture *f, enum outlet_verb verb)
{
	struct error err;

	assert_int_equal(outlet_request(f->outlet, verb, NULL, on_done, f, &err), 0);
}

static void answer(struct fixture *f, int r, enum power_state state)
{
	const struct power_result result = {
		.error = r, .state = state, .verified = r >= 0, .text = { "the fuse is blown" }
	};

	driver.done(NULL, &result, driver.data);
	turn(f);
}

static void an_on_is_prepared_and_waits_for_the_console(void **state)
{
	struct fixture *f = *state;

	ask(f, OUTLET_ON);
	assert_string_equal(driver.asked, ""); /* never from within the call */
	turn(f);
	assert_string_equal(driver.asked, "p");
	answer(f, 0, POWER_OFF);
	assert_int_equal(f->before_on, 1);
	assert_true(outlet_waits(f->outlet));
	assert_string_equal(driver.asked, "p");
	outlet_continue(f->outlet, 0, NULL);
	assert_string_equal(driver.asked, "p1");
	answer(f, 0, POWER_ON);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->after, 1);
	assert_int_equal(f->result.error, 0);
	assert_int_equal(outlet_status(f->outlet)->state, POWER_ON);
	assert_false(outlet_busy(f->outlet));
}

static void a_console_that_cannot_be_lent_ends_the_on(void **state)
{
	struct fixture *f = *state;
	const struct error why = { "no console" };

	ask(f, OUTLET_ON);
	turn(f);
	answer(f, 0, POWER_OFF);
	outlet_continue(f->outlet, -ENODEV, &why);
	assert_int_equal(f->result.error, -ENODEV);
	assert_string_equal(f->result.text.text, "no console");
	assert_string_equal(outlet_status(f->outlet)->text, "no console");
	assert_string_equal(driver.asked, "p");
}

static void what_does_not_read_back_is_an_error(void **state)
{
	struct fixture *f = *state;

	ask(f, OUTLET_OFF);
	turn(f);
	answer(f, 0, POWER_ON);
	assert_int_equal(f->result.error, -EIO);
	assert_string_equal(f->result.text.text, "switched off, but the power reads back ON");
	assert_string_equal(outlet_status(f->outlet)->text, f->result.text.text);
	assert_int_equal(outlet_status(f->outlet)->state, POWER_ON);
}

static void a_failure_has_the_words_of_the_driver(void **state)
{
	struct fixture *f = *state;

	ask(f, OUTLET_READ);
	turn(f);
	answer(f, -EIO, POWER_UNKNOWN);
	assert_int_equal(f->result.error, -EIO);
	assert_string_equal(outlet_status(f->outlet)->text, "the fuse is blown");
	/* The next success takes it away. */
	ask(f, OUTLET_READ);
	turn(f);
	answer(f, 0, POWER_OFF);
	assert_string_equal(outlet_status(f->outlet)->text, "");
}

static void one_that_cannot_begin_leaves_the_state_unknown(void **state)
{
	static const enum outlet_verb verbs[] = { OUTLET_ON, OUTLET_OFF, OUTLET_READ };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		driver.refuses = false;
		ask(f, OUTLET_READ);
		turn(f);
		answer(f, 0, POWER_OFF);
		assert_true(outlet_status(f->outlet)->verified);
		driver.refuses = true;
		ask(f, verbs[i]);
		turn(f);
		assert_int_equal(f->calls, 2 * i + 2);
		assert_int_equal(f->result.error, -ENOENT);
		assert_int_equal(f->result.state, POWER_UNKNOWN);
		assert_int_equal(outlet_status(f->outlet)->state, POWER_UNKNOWN);
		assert_false(outlet_status(f->outlet)->verified);
		assert_string_equal(outlet_status(f->outlet)->text, "there is no device");
	}
}

static void one_that_cannot_be_prepared_says_so(void **state)
{
	struct fixture *f = *state;

	ask(f, OUTLET_ON);
	turn(f);
	answer(f, -EIO, POWER_OFF);
	assert_string_equal(driver.asked, "p");
	assert_int_equal(f->before_on, 0);
	assert_int_equal(f->after, 1);
	assert_int_equal(f->result.error, -EIO);
	assert_string_equal(f->result.text.text, "the fuse is blown");
	assert_int_equal(outlet_status(f->outlet)->state, POWER_OFF);
	assert_string_equal(outlet_status(f->outlet)->text, "the fuse is blown");
}

static void an_outlet_that_is_freed_calls_nobody(void **state)
{
	struct fixture *f = *state;

	ask(f, OUTLET_OFF);
	turn(f);
	ask(f, OUTLET_ON);
	f->outlet = outlet_free(f->outlet);
	turn(f);
	assert_int_equal(f->calls, 0);
	assert_int_equal(f->after, 0);
}

static void what_is_to_be_booted_is_taken_over(void **state)
{
	struct fixture *f = *state;
	struct error err;
	int kernel_fd = -1;

	for (unsigned i = 0; i <= 16; i++) {
		struct power_deploy deploy = { .kernel_fd = open("/dev/null", O_RDONLY | O_CLOEXEC),
					       .initramfs_fd = -1,
					       .dtb_fd = -1,
					       .cmdline = strdup("quiet") };
		int r = outlet_request(f->outlet, OUTLET_ON, &deploy, on_done, f, &err);

		kernel_fd = deploy.kernel_fd;
		/* The last one is one too many. */
		assert_int_equal(r, i < 16 ? 0 : -EAGAIN);
	}
	assert_int_equal(fcntl(kernel_fd, F_GETFD), -1);
}

static void on_off_then_on(const struct power_result *result, void *data)
{
	on_done(result, data);
	ask(data, OUTLET_ON);
}

static void who_asks_again_in_the_callback_is_served(void **state)
{
	struct fixture *f = *state;
	struct error err;

	assert_int_equal(outlet_request(f->outlet, OUTLET_OFF, NULL, on_off_then_on, f, &err), 0);
	assert_true(outlet_switches(f->outlet));
	turn(f);
	answer(f, 0, POWER_OFF);
	assert_string_equal(driver.asked, "0p");
	answer(f, 0, POWER_OFF);
	outlet_continue(f->outlet, 0, NULL);
	answer(f, 0, POWER_ON);
	assert_int_equal(f->calls, 2);
	assert_false(outlet_switches(f->outlet));
	outlet_continue(f->outlet, -EIO, NULL); /* nobody waits for it */
	assert_int_equal(outlet_status(f->outlet)->state, POWER_ON);
}

static void operations_run_one_after_the_other(void **state)
{
	struct fixture *f = *state;

	ask(f, OUTLET_READ);
	ask(f, OUTLET_OFF);
	ask(f, OUTLET_READ);
	turn(f);
	assert_string_equal(driver.asked, "r");
	answer(f, 0, POWER_ON);
	assert_string_equal(driver.asked, "r0");
	answer(f, 0, POWER_OFF);
	assert_string_equal(driver.asked, "r0r");
	answer(f, 0, POWER_OFF);
	assert_int_equal(f->calls, 3);
}

static void one_that_ends_is_not_judged_by_its_state(void **state)
{
	struct fixture *f = *state;

	ask(f, OUTLET_END);
	turn(f);
	assert_string_equal(driver.asked, "e");
	assert_true(outlet_switches(f->outlet));
	answer(f, 0, POWER_ON); /* no board of ours */
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->result.error, 0);
	assert_false(outlet_busy(f->outlet));
}

static void more_than_a_few_may_not_wait(void **state)
{
	struct fixture *f = *state;
	struct error err;
	int r = 0;

	for (unsigned i = 0; i < 100 && r >= 0; i++)
		r = outlet_request(f->outlet, OUTLET_READ, NULL, on_done, f, &err);
	assert_int_equal(r, -EAGAIN);
	assert_string_equal(err.text, "16 power operations wait already");
}

static void a_change_that_nobody_asked_for_is_read(void **state)
{
	struct fixture *f = *state;

	driver.changed(driver.changed_data);
	driver.changed(driver.changed_data); /* said twice, read once */
	turn(f);
	assert_string_equal(driver.asked, "r");
	answer(f, 0, POWER_ON);
	assert_int_equal(outlet_status(f->outlet)->state, POWER_ON);
	assert_int_equal(f->after, 1);
	assert_int_equal(f->calls, 0);
	/* What is under way tells by itself. */
	ask(f, OUTLET_OFF);
	turn(f);
	driver.changed(driver.changed_data);
	answer(f, 0, POWER_OFF);
	assert_string_equal(driver.asked, "r0");
	assert_false(outlet_busy(f->outlet));
}

static void who_has_left_is_not_called(void **state)
{
	struct fixture *f = *state;

	ask(f, OUTLET_OFF);
	turn(f);
	ask(f, OUTLET_READ);
	outlet_forget(f->outlet, f);
	answer(f, 0, POWER_OFF);
	answer(f, 0, POWER_OFF);
	assert_int_equal(f->calls, 0);
	assert_string_equal(driver.asked, "0r");
}

static void an_on_that_is_abandoned_does_not_switch(void **state)
{
	struct fixture *f = *state;

	/* while it is prepared */
	ask(f, OUTLET_ON);
	turn(f);
	outlet_abandon(f->outlet, f);
	answer(f, 0, POWER_OFF);
	assert_string_equal(driver.asked, "p");
	assert_int_equal(f->before_on, 0);
	/* while the console is lent */
	ask(f, OUTLET_ON);
	turn(f);
	answer(f, 0, POWER_OFF);
	assert_true(outlet_waits(f->outlet));
	outlet_abandon(f->outlet, f);
	assert_false(outlet_busy(f->outlet));
	/* while it waits behind another; an off goes on */
	ask(f, OUTLET_OFF);
	ask(f, OUTLET_ON);
	turn(f);
	outlet_abandon(f->outlet, f);
	answer(f, 0, POWER_OFF);
	assert_string_equal(driver.asked, "pp0");
	assert_false(outlet_busy(f->outlet));
	assert_int_equal(f->calls, 0);
}

/* Runs the loop until something was called, or for ever if it is not. */
static void run_until(struct fixture *f, const unsigned *count, unsigned wanted)
{
	while (*count < wanted)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
}

static void the_off_time_and_the_settle_time_are_kept(void **state)
{
	enum { MIN_OFF_US = 60000, SETTLE_US = 40000 };
	struct fixture *f = *state;
	uint64_t begun_us;

	outlet_free(f->outlet);
	make(f, MIN_OFF_US, SETTLE_US);
	ask(f, OUTLET_READ);
	turn(f);
	answer(f, 0, POWER_ON);
	assert_int_equal(f->calls, 1);

	ask(f, OUTLET_OFF);
	turn(f);
	begun_us = clock_now_us();
	answer(f, 0, POWER_OFF);
	assert_int_equal(f->calls, 1); /* it settles */
	run_until(f, &f->calls, 2);
	assert_true(clock_now_us() - begun_us >= SETTLE_US);

	ask(f, OUTLET_ON);
	turn(f);
	answer(f, 0, POWER_OFF);
	outlet_continue(f->outlet, 0, NULL);
	while (!strchr(driver.asked, '1'))
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	assert_true(clock_now_us() - begun_us >= MIN_OFF_US);
	answer(f, 0, POWER_ON);
	run_until(f, &f->calls, 3);
	assert_int_equal(f->result.state, POWER_ON);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_on_is_prepared_and_waits_for_the_console),
		TEST(a_console_that_cannot_be_lent_ends_the_on),
		TEST(what_does_not_read_back_is_an_error),
		TEST(a_failure_has_the_words_of_the_driver),
		TEST(one_that_cannot_begin_leaves_the_state_unknown),
		TEST(one_that_cannot_be_prepared_says_so),
		TEST(an_outlet_that_is_freed_calls_nobody),
		TEST(what_is_to_be_booted_is_taken_over),
		TEST(who_asks_again_in_the_callback_is_served),
		TEST(operations_run_one_after_the_other),
		TEST(one_that_ends_is_not_judged_by_its_state),
		TEST(more_than_a_few_may_not_wait),
		TEST(a_change_that_nobody_asked_for_is_read),
		TEST(who_has_left_is_not_called),
		TEST(an_on_that_is_abandoned_does_not_switch),
		TEST(the_off_time_and_the_settle_time_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

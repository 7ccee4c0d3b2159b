/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dut/users.h"

/*
 * The user database of this test: 1000 is alice, 1001 is nobody's, 1002 needs a large buffer, 1003
 * has a name that is too long; from 2000 on its server answers when the gate is opened.
 */
enum { ALICE = 1000, NOBODY = 1001, LARGE = 1002, LONG_NAME = 1003, SLOW = 2000 };

static int gate[2];

int __real_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size,
		      struct passwd **result);
int __wrap_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size,
		      struct passwd **result);

int __wrap_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size,
		      struct passwd **result)
{
	struct pollfd open_gate = { .fd = gate[0], .events = POLLIN };

	*result = NULL;
	if (uid == NOBODY)
		return 0;
	if (uid == LARGE && size < 100000)
		return ERANGE;
	if (uid >= SLOW)
		(void)poll(&open_gate, 1, -1);
	(void)snprintf(buffer, size, "%s", uid == ALICE ? "alice" : "large");
	if (uid == LONG_NAME)
		memset(buffer, 'x', USERS_NAME_SIZE);
	if (uid == LONG_NAME)
		buffer[USERS_NAME_SIZE] = '\0';
	if (uid >= SLOW)
		(void)snprintf(buffer, size, "slow-%u", (unsigned)uid);
	entry->pw_name = buffer;
	*result = entry;
	return 0;
}

struct fixture {
	sd_event *event;
	struct users *users;
	unsigned done;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	assert_int_equal(sd_event_new(&f->event), 0);
	assert_int_equal(users_new(&f->users, f->event, NULL), 0);
	*state = f;
	return 0;
}

/* The look-ups that hang end here, so that none outlives its test's pipe. */
static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->users = users_free(f->users);
	sd_event_unref(f->event);
	free(f);
	(void)close(gate[1]);
	return 0;
}

static void on_done(void *data)
{
	struct fixture *f = data;

	f->done++;
}

static void run_until(struct fixture *f, unsigned done)
{
	while (f->done < done)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
}

static void assert_name(struct fixture *f, uid_t uid, const char *expected, bool final)
{
	char name[USERS_NAME_SIZE];

	assert_int_equal(users_name(f->users, uid, name), final);
	assert_string_equal(name, expected);
}

static void ask(struct fixture *f, uid_t uid)
{
	unsigned before = f->done;

	assert_int_equal(users_ask(f->users, uid, on_done, f, NULL), 0);
	assert_int_equal(f->done, before); /* never inside the call */
}

static void a_name_is_a_number_until_it_is_known(void **state)
{
	struct fixture *f = *state;

	assert_name(f, ALICE, "uid:1000", false);
	ask(f, ALICE);
	assert_name(f, ALICE, "uid:1000", false);
	run_until(f, 1);
	assert_name(f, ALICE, "alice", true);
}

static void one_that_has_no_name_stays_a_number(void **state)
{
	struct fixture *f = *state;

	ask(f, NOBODY);
	ask(f, LONG_NAME);
	ask(f, LARGE);
	run_until(f, 3);
	assert_name(f, NOBODY, "uid:1001", true);
	assert_name(f, LONG_NAME, "uid:1003", true);
	assert_name(f, LARGE, "large", true);
}

static void a_slow_server_holds_up_nobody_else(void **state)
{
	struct fixture *f = *state;

	ask(f, SLOW);
	ask(f, SLOW);
	ask(f, ALICE);
	run_until(f, 1);
	assert_name(f, ALICE, "alice", true);
	assert_name(f, SLOW, "uid:2000", false);
	assert_int_equal(write(gate[1], "go", 2), 2);
	run_until(f, 3);
	assert_name(f, SLOW, "slow-2000", true);
}

static void nobody_waits_longer_than_two_seconds(void **state)
{
	struct fixture *f = *state;
	uint64_t began_us = clock_now_us();

	ask(f, SLOW);
	run_until(f, 1);
	assert_in_range(clock_now_us() - began_us, 1900000, 30000000);
	assert_name(f, SLOW, "uid:2000", true);
	/* Who comes later does not wait again, and gets the name once it is there. */
	began_us = clock_now_us();
	ask(f, SLOW);
	run_until(f, 2);
	assert_in_range(clock_now_us() - began_us, 0, 1500000);
	assert_int_equal(write(gate[1], "go", 2), 2);
	ask(f, SLOW);
	run_until(f, 3);
	while (users_name(f->users, SLOW, (char[USERS_NAME_SIZE]){ "" }) == false)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
}

static void look_ups_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct error err;

	for (unsigned i = 0; i < USERS_MAX_LOOKUPS; i++)
		ask(f, SLOW + i);
	assert_int_equal(users_ask(f->users, ALICE, on_done, f, &err), -EAGAIN);
	assert_string_equal(err.text, "16 users are being looked up, which is the limit");
	assert_name(f, ALICE, "uid:1000", false);
	assert_int_equal(write(gate[1], "go", 2), 2);
	run_until(f, USERS_MAX_LOOKUPS);
	ask(f, ALICE);
	run_until(f, USERS_MAX_LOOKUPS + 1);
	assert_name(f, ALICE, "alice", true);
}

static void what_is_kept_is_bounded(void **state)
{
	struct fixture *f = *state;

	ask(f, ALICE);
	run_until(f, 1);
	for (unsigned i = 0; i < USERS_MAX_KEPT; i++) {
		ask(f, 100000 + i);
		if (i == 0)
			assert_int_equal(write(gate[1], "go", 2), 2);
		run_until(f, i + 2);
	}
	assert_name(f, ALICE, "uid:1000", false);
	assert_name(f, 100000 + USERS_MAX_KEPT - 1, "slow-100999", true);
}

static void the_one_who_left_is_not_told(void **state)
{
	struct fixture *f = *state, other = { 0 };

	assert_int_equal(users_ask(f->users, ALICE, on_done, &other, NULL), 0);
	ask(f, ALICE);
	users_forget(f->users, &other);
	run_until(f, 1);
	assert_int_equal(other.done, 0);
}

static void the_end_does_not_wait_for_a_look_up(void **state)
{
	struct fixture *f = *state;

	ask(f, SLOW);
	f->users = users_free(f->users);
	assert_int_equal(f->done, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_name_is_a_number_until_it_is_known),
		TEST(one_that_has_no_name_stays_a_number),
		TEST(a_slow_server_holds_up_nobody_else),
		TEST(nobody_waits_longer_than_two_seconds),
		TEST(look_ups_are_bounded),
		TEST(what_is_kept_is_bounded),
		TEST(the_one_who_left_is_not_told),
		TEST(the_end_does_not_wait_for_a_look_up),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

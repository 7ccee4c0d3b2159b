/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "hw/qmp.h"

struct fixture {
	sd_event *event;
	struct qmp *qmp;
	int qemu; /* the other end */
	unsigned calls;
	int r;
	char text[300], status[32];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err;
	int pair[2];

	assert_int_equal(sd_event_new(&f->event), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
	f->qemu = pair[1];
	assert_int_equal(qmp_new(&f->qmp, f->event, pair[0], &err), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	qmp_free(f->qmp);
	(void)close_fd(f->qemu);
	sd_event_unref(f->event);
	free(f);
	return 0;
}

static void on_done(int r, const json_t *answer, const struct error *err, void *data)
{
	struct fixture *f = data;
	const char *status = json_string_value(json_object_get(answer, "status"));

	f->calls++;
	f->r = r;
	(void)snprintf(f->text, sizeof(f->text), "%s", r < 0 ? err->text : "");
	(void)snprintf(f->status, sizeof(f->status), "%s", status ? status : "");
}

static void turn(const struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}

static void say(const struct fixture *f, const char *text)
{
	assert_int_equal(send(f->qemu, text, strlen(text), 0), strlen(text));
	turn(f);
}

static void hear(const struct fixture *f, const char *expected)
{
	char text[256] = "";

	turn(f);
	(void)recv(f->qemu, text, sizeof(text) - 1, MSG_DONTWAIT);
	assert_string_equal(text, expected);
}

static void greet(const struct fixture *f)
{
	say(f, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
	hear(f, "{\"execute\": \"qmp_capabilities\"}\n");
}

static void a_command_waits_for_the_negotiation(void **state)
{
	struct fixture *f = *state;
	struct error err;

	assert_int_equal(qmp_command(f->qmp, "query-status", on_done, f, &err), 0);
	hear(f, "");
	greet(f);
	say(f, "{\"return\": {}}\r\n");
	hear(f, "{\"execute\": \"query-status\"}\n");
	/* Events come at any time, and lines in pieces. */
	say(f, "{\"event\": \"RESUME\"}\r\n{\"return\": {\"stat");
	assert_int_equal(f->calls, 0);
	say(f, "us\": \"running\"}}\r\n");
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->r, 0);
	assert_string_equal(f->status, "running");
}

static void one_command_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct error err;

	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	assert_int_equal(qmp_command(f->qmp, "quit", on_done, f, &err), -EBUSY);
	assert_string_equal(err.text, "QEMU is still at another command");
}

static void an_error_has_the_words_of_qemu(void **state)
{
	struct fixture *f = *state;
	struct error err;

	greet(f);
	say(f, "{\"return\": {}}\n");
	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	say(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n");
	assert_int_equal(f->r, -EIO);
	assert_string_equal(f->text, "QEMU: no");
	/* The connection goes on. */
	assert_int_equal(qmp_command(f->qmp, "quit", on_done, f, &err), 0);
}

static void a_connection_that_ends_ends_the_command(void **state)
{
	struct fixture *f = *state;
	struct error err;

	greet(f);
	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	f->qemu = close_fd(f->qemu);
	turn(f);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->r, -EPIPE);
	assert_string_equal(f->text, "QEMU has closed its control connection");
	assert_int_equal(qmp_command(f->qmp, "quit", on_done, f, &err), -EPIPE);
}

static void what_is_no_qmp_breaks_it_off(void **state)
{
	static const char *const wrong[] = { "hello\n", "[1]\n", "{\"return\": {}} x\n",
					     "{\"surprise\": 1}\n" };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct fixture *f = *state;
		struct error err;

		greet(f);
		say(f, "{\"return\": {}}\n");
		assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
		say(f, wrong[i]);
		assert_int_equal(f->r, -EBADMSG);
		assert_string_equal(f->text, "QEMU's control connection speaks no QMP");
		assert_int_equal(tear_down(state), 0);
		assert_int_equal(set_up(state), 0);
	}
}

static void negotiate(const struct fixture *f)
{
	greet(f);
	say(f, "{\"return\": {}}\n");
}

static void a_connection_that_ends_before_the_greeting_ends_the_command(void **state)
{
	struct fixture *f = *state;
	struct error err;

	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	say(f, "{\"QMP\": {}"); /* in the middle of a line */
	f->qemu = close_fd(f->qemu);
	turn(f);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->r, -EPIPE);
	assert_string_equal(f->text, "QEMU has closed its control connection");
}

static void an_end_is_found_also_when_nobody_waits(void **state)
{
	struct fixture *f = *state;
	struct error err;

	negotiate(f);
	f->qemu = close_fd(f->qemu);
	turn(f);
	assert_int_equal(f->calls, 0);
	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), -EPIPE);
	assert_string_equal(err.text, "QEMU's control connection is closed");
}

static void what_was_said_before_the_end_still_counts(void **state)
{
	struct fixture *f = *state;
	struct error err;
	const char last[] = "{\"event\": \"SHUTDOWN\"}\n{\"return\": {\"status\": \"last\"}}\n";

	negotiate(f);
	assert_int_equal(qmp_command(f->qmp, "quit", on_done, f, &err), 0);
	assert_int_equal(send(f->qemu, last, strlen(last), 0), strlen(last));
	f->qemu = close_fd(f->qemu);
	turn(f);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->r, 0);
	assert_string_equal(f->status, "last");
}

static void an_answer_that_nobody_asked_for_breaks_it_off(void **state)
{
	struct fixture *f = *state;
	struct error err;

	negotiate(f);
	say(f, "{\"return\": {}}\n");
	assert_int_equal(f->calls, 0);
	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), -EPIPE);
	assert_int_equal(tear_down(state), 0);
	assert_int_equal(set_up(state), 0);
	/* Nor is there an answer before the command was sent. */
	f = *state;
	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	greet(f);
	say(f, "{\"error\": {\"desc\": \"early\"}}\n");
	assert_int_equal(f->r, -EBADMSG);
	assert_string_equal(f->text, "QEMU's control connection speaks no QMP");
}

static void an_error_may_have_no_words(void **state)
{
	struct fixture *f = *state;
	struct error err;

	negotiate(f);
	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	say(f, "{\"error\": 7}\n");
	assert_int_equal(f->r, -EIO);
	assert_string_equal(f->text, "QEMU: an error without words");
}

static void on_done_free(int r, const json_t *answer, const struct error *err, void *data)
{
	struct fixture *f = data;

	on_done(r, answer, err, data);
	f->qmp = qmp_free(f->qmp);
}

static void done_may_free_the_connection(void **state)
{
	static const char *const ends[] = { "{\"return\": {}}\n{\"event\": 1}\nhello\n",
					    "{\"error\": {}}\n{\"event\": 1}\n", "hello\n", NULL };

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct fixture *f = *state;
		struct error err;

		negotiate(f);
		assert_int_equal(qmp_command(f->qmp, "cont", on_done_free, f, &err), 0);
		if (ends[i])
			say(f, ends[i]);
		else
			f->qemu = close_fd(f->qemu);
		turn(f);
		assert_int_equal(f->calls, 1);
		assert_null(f->qmp);
		assert_int_equal(tear_down(state), 0);
		assert_int_equal(set_up(state), 0);
	}
}

static void on_done_more(int r, const json_t *answer, const struct error *err, void *data)
{
	struct fixture *f = data;

	on_done(r, answer, err, data);
	assert_int_equal(qmp_command(f->qmp, "query-status", on_done, f, NULL), 0);
}

static void done_may_send_the_next_command(void **state)
{
	struct fixture *f = *state;
	struct error err;

	negotiate(f);
	assert_int_equal(qmp_command(f->qmp, "cont", on_done_more, f, &err), 0);
	hear(f, "{\"execute\": \"cont\"}\n");
	say(f, "{\"return\": {}}\n{\"event\": \"RESUME\"}\n");
	hear(f, "{\"execute\": \"query-status\"}\n");
	say(f, "{\"return\": {\"status\": \"running\"}}\n");
	assert_int_equal(f->calls, 2);
	assert_string_equal(f->status, "running");
}

static void no_done_runs_after_it_was_freed(void **state)
{
	struct fixture *f = *state;
	struct error err;

	negotiate(f);
	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	assert_int_equal(send(f->qemu, "{\"return\": {}}\n", 15, 0), 15);
	f->qmp = qmp_free(f->qmp);
	turn(f);
	assert_int_equal(f->calls, 0);
}

static void events_without_end_change_nothing(void **state)
{
	struct fixture *f = *state;
	static char many[8192];
	struct error err;

	negotiate(f);
	while (strlen(many) + 20 < sizeof(many))
		(void)strcat(many, "{\"event\": \"STOP\"}\n");
	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	for (unsigned i = 0; i < 20; i++)
		say(f, many);
	assert_int_equal(f->calls, 0);
	say(f, "{\"return\": {}}\n");
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->r, 0);
}

static void a_peer_that_never_reads_is_given_up(void **state)
{
	struct fixture *f = *state;
	struct error err;

	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	/* Each greeting is answered, until nothing goes in any more. */
	for (unsigned i = 0; i < 100000 && f->calls == 0; i++)
		say(f, "{\"QMP\": {}}\n");
	assert_int_equal(f->r, -EPIPE);
	assert_string_equal(f->text, "QEMU does not read its control connection");
}

static void a_line_without_end_is_bounded(void **state)
{
	struct fixture *f = *state;
	static char much[4096];
	struct error err;

	memset(much, ' ', sizeof(much) - 1);
	assert_int_equal(qmp_command(f->qmp, "cont", on_done, f, &err), 0);
	for (unsigned i = 0; i < 17 && f->calls == 0; i++)
		say(f, much);
	assert_int_equal(f->r, -EBADMSG);
	assert_string_equal(f->text, "QEMU's control connection sends a line without end");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_command_waits_for_the_negotiation),
		TEST(one_command_at_a_time),
		TEST(an_error_has_the_words_of_qemu),
		TEST(a_connection_that_ends_ends_the_command),
		TEST(what_is_no_qmp_breaks_it_off),
		TEST(a_connection_that_ends_before_the_greeting_ends_the_command),
		TEST(an_end_is_found_also_when_nobody_waits),
		TEST(what_was_said_before_the_end_still_counts),
		TEST(an_answer_that_nobody_asked_for_breaks_it_off),
		TEST(an_error_may_have_no_words),
		TEST(done_may_free_the_connection),
		TEST(done_may_send_the_next_command),
		TEST(no_done_runs_after_it_was_freed),
		TEST(events_without_end_change_nothing),
		TEST(a_peer_that_never_reads_is_given_up),
		TEST(a_line_without_end_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

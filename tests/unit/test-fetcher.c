/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "executor/fetcher.h"

/* A helper that is a shell script in a folder of its own, and what came of it. The real one is
 * tested over its fds, by test_helper.py. */
struct lab {
	char folder[64];
	int null_fd;
	sd_event *event;
	struct fetcher *fetcher;
	unsigned done;
	struct fetch_result last;
	char reason[32];
	uint64_t progress;
	bool free_in_done;
};

/* Shell: takes one packet; and takes them until the other end is closed. */
#define TAKE_ONE     "head -c 1 <&3 >/dev/null\n"
#define WAIT_FOR_END "exec cat <&3 >/dev/null"

static void write_helper(const struct lab *lab, const char *script)
{
	char path[96];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/dut-helper", lab->folder);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fprintf(file, "#!/bin/sh\n%s\n", script) > 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, 0755), 0);
}

static void on_progress(uint64_t bytes, void *data)
{
	struct lab *lab = data;

	lab->progress = bytes;
}

static void on_done(const struct fetch_result *result, void *data)
{
	struct lab *lab = data;

	lab->done++;
	lab->last = *result;
	(void)snprintf(lab->reason, sizeof(lab->reason), "%s",
		       result->reason ? result->reason : "none");
	if (lab->free_in_done)
		lab->fetcher = fetcher_free(lab->fetcher);
}

static void start(struct lab *lab, const char *script)
{
	static char *const roots[] = { NULL };
	const struct fetcher_config config = {
		.event = lab->event,
		.libexec_dir = lab->folder,
		.file_roots = roots,
		.job_dir_fd = -1,
		.progress = on_progress,
	};
	struct error err;

	write_helper(lab, script);
	assert_int_equal(fetcher_new(&lab->fetcher, &config, &err), 0);
}

static void ask(struct lab *lab)
{
	struct error err;

	assert_int_equal(fetcher_download(lab->fetcher, "http://h/x", NULL, lab->null_fd,
					  UINT64_MAX, on_done, lab, &err),
			 0);
}

static void run_until(struct lab *lab, unsigned done)
{
	while (lab->done < done)
		assert_true(sd_event_run(lab->event, 10000000) > 0);
}

static int make_lab(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	strcpy(lab->folder, "/tmp/dut-fetcher-XXXXXX");
	assert_non_null(mkdtemp(lab->folder));
	lab->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_true(sd_event_new(&lab->event) >= 0);
	*state = lab;
	return 0;
}

static int drop_lab(void **state)
{
	struct lab *lab = *state;
	char path[96];

	(void)fetcher_free(lab->fetcher);
	(void)sd_event_unref(lab->event);
	(void)close(lab->null_fd);
	(void)snprintf(path, sizeof(path), "%s/dut-helper", lab->folder);
	(void)unlink(path);
	assert_int_equal(rmdir(lab->folder), 0);
	free(lab);
	return 0;
}

static void an_answer_reaches_the_call_that_asked(void **state)
{
	struct lab *lab = *state;

	start(lab, TAKE_ONE "printf '{\"t\": \"done\", \"id\": 77, \"ok\": true}' >&3\n"
			    "printf 'nonsense' >&3\n"
			    "printf '{\"t\": \"progress\", \"id\": 1, \"progress\": 12}' >&3\n"
			    "printf '{\"t\": \"done\", \"id\": 1, \"ok\": true, \"size\": 34, "
			    "\"seconds\": 0.5}' >&3\n" WAIT_FOR_END);
	ask(lab);
	run_until(lab, 1);
	assert_string_equal(lab->reason, "none");
	assert_int_equal(lab->progress, 12);
	assert_int_equal(lab->last.size, 34);
	assert_true(lab->last.seconds > 0.4 && lab->last.seconds < 0.6);
}

static void a_reason_that_no_helper_may_give_is_its_own_failure(void **state)
{
	struct lab *lab = *state;

	start(lab, TAKE_ONE
	      "printf '{\"t\": \"done\", \"id\": 1, \"reason\": \"checksum\", \"error\": "
	      "\"text\"}' >&3\n"
	      "printf '{\"t\": \"done\", \"id\": 2, \"reason\": \"ok\"}' >&3\n" WAIT_FOR_END);
	ask(lab);
	ask(lab);
	run_until(lab, 1);
	assert_string_equal(lab->reason, "checksum");
	assert_string_equal(lab->last.error.text, "text");
	run_until(lab, 2);
	assert_string_equal(lab->reason, "executor_failed");
	assert_string_equal(lab->last.error.text, "no reason given");
}

static void cancel_does_not_wait_for_a_stuck_helper(void **state)
{
	struct lab *lab = *state;
	uint64_t began_us;

	start(lab, WAIT_FOR_END);
	ask(lab);
	ask(lab);
	assert_int_equal(lab->done, 0);
	began_us = clock_now_us();
	fetcher_cancel(lab->fetcher);
	assert_int_equal(lab->done, 0);
	run_until(lab, 2);
	assert_true(clock_now_us() - began_us < 500000);
	assert_string_equal(lab->reason, "cancelled");
	assert_string_equal(lab->last.error.text, "cancelled");
	while (sd_event_run(lab->event, 0) > 0)
		;
	assert_int_equal(lab->done, 2);
}

static void a_helper_that_is_gone_fails_all_calls(void **state)
{
	struct lab *lab = *state;
	struct pollfd gone;
	struct error err;

	start(lab, WAIT_FOR_END);
	ask(lab);
	gone = (struct pollfd){ .fd = fetcher_pidfd(lab->fetcher), .events = POLLIN };
	assert_int_equal(pidfd_send_signal(gone.fd, SIGKILL, NULL, 0), 0);
	run_until(lab, 1);
	assert_string_equal(lab->reason, "executor_failed");
	assert_string_equal(lab->last.error.text, "dut-helper is gone");
	assert_int_equal(poll(&gone, 1, 10000), 1);
	assert_int_equal(
		fetcher_unpack(lab->fetcher, lab->null_fd, lab->null_fd, 1, 1, on_done, lab, &err),
		-EPIPE);
	assert_string_equal(err.text, "dut-helper is gone");
	fetcher_cancel(lab->fetcher);
	while (sd_event_run(lab->event, 0) > 0)
		;
	assert_int_equal(lab->done, 1);
}

static void a_done_may_free_the_fetcher(void **state)
{
	struct lab *lab = *state;

	start(lab, WAIT_FOR_END);
	lab->free_in_done = true;
	ask(lab);
	ask(lab);
	fetcher_cancel(lab->fetcher);
	run_until(lab, 1);
	while (sd_event_run(lab->event, 0) > 0)
		;
	assert_int_equal(lab->done, 1);
	assert_null(lab->fetcher);
}

static void after_free_no_callback_runs(void **state)
{
	struct lab *lab = *state;

	start(lab, WAIT_FOR_END);
	ask(lab);
	fetcher_cancel(lab->fetcher);
	lab->fetcher = fetcher_free(lab->fetcher);
	while (sd_event_run(lab->event, 0) > 0)
		;
	assert_int_equal(lab->done, 0);
}

static void a_missing_helper_is_named(void **state)
{
	struct lab *lab = *state;
	const struct fetcher_config config = {
		.event = lab->event,
		.libexec_dir = lab->folder,
		.job_dir_fd = -1,
	};
	struct error err;

	assert_int_equal(fetcher_new(&lab->fetcher, &config, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/dut-helper: No such file or directory"));
	assert_null(lab->fetcher);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define FETCHER_TEST(name) cmocka_unit_test_setup_teardown(name, make_lab, drop_lab)
		FETCHER_TEST(an_answer_reaches_the_call_that_asked),
		FETCHER_TEST(a_reason_that_no_helper_may_give_is_its_own_failure),
		FETCHER_TEST(cancel_does_not_wait_for_a_stuck_helper),
		FETCHER_TEST(a_helper_that_is_gone_fails_all_calls),
		FETCHER_TEST(a_done_may_free_the_fetcher),
		FETCHER_TEST(after_free_no_callback_runs),
		FETCHER_TEST(a_missing_helper_is_named),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

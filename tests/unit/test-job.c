/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "dut/job.h"

static void the_states_have_one_way(void **state)
{
	static const enum job_state ends[] = { JOB_WAITING, JOB_STARTING, JOB_RUNNING };

	(void)state;
	assert_int_equal(job_next(JOB_WAITING, JOB_COMMIT), JOB_STARTING);
	assert_int_equal(job_next(JOB_STARTING, JOB_GO), JOB_RUNNING);
	assert_int_equal(job_next(JOB_STARTING, JOB_REQUEUE), JOB_WAITING);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		assert_int_equal(job_next(ends[i], JOB_END), JOB_ENDED);
	assert_int_equal(job_next(JOB_RUNNING, JOB_REQUEUE), JOB_INVALID);
	assert_int_equal(job_next(JOB_WAITING, JOB_GO), JOB_INVALID);
	for (int event = 0; event < JOB_EVENTS; event++)
		assert_int_equal(job_next(JOB_ENDED, (enum job_event)event), JOB_INVALID);
}

static struct job *make_job(void)
{
	struct job *job = NULL;
	struct error err;

	assert_int_equal(job_new(&job, 17, "bisect", "alice", 1000, "bbb-1", &err), 0);
	assert_int_equal(job_begin_attempt(job, &err), 0);
	return job;
}

static void an_end_is_set_once(void **state)
{
	struct job *job = make_job();

	(void)state;
	assert_true(job_set_end(job, JOB_PASS, "ok", NULL, "fine"));
	assert_false(job_set_end(job, JOB_FAIL, "no_success", "test", "late"));
	assert_int_equal(job->status, JOB_PASS);
	assert_string_equal(job->reason, "ok");
	assert_string_equal(job->message, "fine");
	job_free(job);
}

static void a_record_comes_back_as_it_was(void **state)
{
	struct job *job = make_job(), *read = NULL;
	json_t *record, *again;
	struct error err;

	(void)state;
	job->off_pending = true;
	job->has_console = true;
	job->console_base = 4711;
	job->cancelled = true;
	job->cancel_by = strdup("bob");
	job->cancel_why = strdup("enough");
	/* A text that was cut inside a character is still a record. */
	assert_true(job_set_end(job, JOB_INCOMPLETE, "power", "lab", "half a char: \xc3"));
	record = job_to_record(job);
	assert_non_null(record);
	assert_int_equal(job_from_record(&read, record, &err), 0);
	again = job_to_record(read);
	assert_string_equal(read->message, "half a char: \\xc3");
	(void)json_object_set(again, "message", json_object_get(record, "message"));
	assert_true(json_equal(record, again));
	assert_int_equal(read->attempt, 1);
	assert_string_equal(read->nonce, job->nonce);
	json_decref(record);
	json_decref(again);
	job_free(job);
	job_free(read);
}

static void what_is_no_record_is_refused(void **state)
{
	static const char *const wrong[] = {
		"{}",
		"{\"v\": 2, \"id\": 1, \"name\": \"a\", \"owner\": \"b\", \"dut\": \"c\"}",
		"{\"v\": 1, \"id\": 0, \"name\": \"a\", \"owner\": \"b\", \"dut\": \"c\"}",
		"{\"v\": 1, \"id\": 1, \"name\": \"a\", \"owner\": \"b\", \"dut\": \"c\", \"nonce\": \"\"}",
		"[]",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		json_t *record = json_loads(wrong[i], 0, NULL);
		struct job *job = NULL;
		struct error err;

		assert_int_equal(job_from_record(&job, record, &err), -EBADMSG);
		assert_null(job);
		json_decref(record);
	}
}

/* ---- result.json, which a hostile job may have written ---- */

static int read_result(const struct job *job, const char *text, struct job_result *result,
		       struct error *err)
{
	char path[] = "/tmp/test-job.XXXXXX";
	int dir_fd, fd, r;

	assert_non_null(mkdtemp(path));
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (strcmp(text, "fifo") == 0) {
		assert_int_equal(mkfifoat(dir_fd, "result.json", 0600), 0);
	} else if (text[0] == '/') {
		assert_int_equal(symlinkat(text, dir_fd, "result.json"), 0);
	} else {
		fd = openat(dir_fd, "result.json", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_int_equal(write(fd, text, strlen(text)), strlen(text));
		(void)close(fd);
	}
	r = job_read_result(job, dir_fd, result, err);
	assert_int_equal(unlinkat(dir_fd, "result.json", 0), 0);
	(void)close(dir_fd);
	assert_int_equal(rmdir(path), 0);
	return r;
}

static const char *result_text(const struct job *job, const char *id, int attempt,
			       const char *nonce, const char *status, const char *reason)
{
	static char text[512];

	(void)job;
	(void)snprintf(text, sizeof(text),
		       "{\"id\": %s, \"attempt\": %d, \"nonce\": \"%s\", \"status\": \"%s\", "
		       "\"reason\": \"%s\", \"verdict\": null, \"message\": \"why\"}",
		       id, attempt, nonce, status, reason);
	return text;
}

static void a_result_of_this_attempt_is_taken(void **state)
{
	struct job *job = make_job();
	struct job_result result;
	struct error err;

	(void)state;
	assert_int_equal(
		read_result(job, result_text(job, "\"17\"", 1, job->nonce, "FAIL", "no_success"),
			    &result, &err),
		0);
	assert_int_equal(result.status, JOB_FAIL);
	assert_string_equal(result.reason, "no_success");
	assert_string_equal(result.message, "why");
	assert_null(result.verdict);
	job_result_done(&result);
	job_free(job);
}

static void anything_else_is_not_believed(void **state)
{
	struct job *job = make_job();
	struct job_result result;
	struct error err;

	(void)state;
#define REFUSED(...) \
	assert_int_equal(read_result(job, result_text(job, __VA_ARGS__), &result, &err), -EBADMSG)
	REFUSED("\"18\"", 1, job->nonce, "PASS", "ok");
	REFUSED("17", 2, job->nonce, "PASS", "ok");
	REFUSED("17", 1, "another", "PASS", "ok");
	REFUSED("17", 1, job->nonce, "GREAT", "ok");
	REFUSED("17", 1, job->nonce, "PASS", "because");
#undef REFUSED
	assert_int_equal(read_result(job, "not json", &result, &err), -EBADMSG);
	assert_int_equal(read_result(job, "fifo", &result, &err), -EINVAL);
	assert_int_equal(read_result(job, "/etc/passwd", &result, &err), -ELOOP);
	job_free(job);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_states_have_one_way),
		cmocka_unit_test(an_end_is_set_once),
		cmocka_unit_test(a_record_comes_back_as_it_was),
		cmocka_unit_test(what_is_no_record_is_refused),
		cmocka_unit_test(a_result_of_this_attempt_is_taken),
		cmocka_unit_test(anything_else_is_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

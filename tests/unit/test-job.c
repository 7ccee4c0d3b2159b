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
	/* Each row: what COMMIT, GO, REQUEUE and END lead to. */
	static const enum job_state rows[JOB_STATES][JOB_EVENTS] = {
		[JOB_INVALID] = { JOB_INVALID, JOB_INVALID, JOB_INVALID, JOB_INVALID },
		[JOB_WAITING] = { JOB_STARTING, JOB_INVALID, JOB_INVALID, JOB_ENDED },
		[JOB_STARTING] = { JOB_INVALID, JOB_RUNNING, JOB_WAITING, JOB_ENDED },
		[JOB_RUNNING] = { JOB_INVALID, JOB_INVALID, JOB_WAITING, JOB_ENDED },
		[JOB_ENDED] = { JOB_INVALID, JOB_INVALID, JOB_INVALID, JOB_INVALID },
	};

	(void)state;
	for (int from = 0; from < JOB_STATES; from++)
		for (int event = 0; event < JOB_EVENTS; event++)
			assert_int_equal(job_next((enum job_state)from, (enum job_event)event),
					 rows[from][event]);
}

static void states_have_the_names_of_the_api(void **state)
{
	(void)state;
	assert_string_equal(job_state_name(JOB_WAITING), "WAITING");
	assert_string_equal(job_state_name(JOB_STARTING), "STARTING");
	assert_string_equal(job_state_name(JOB_RUNNING), "RUNNING");
	assert_string_equal(job_state_name(JOB_ENDED), "ENDED");
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

static void an_end_is_shown_when_it_may_be_told(void **state)
{
	struct job *job = make_job();
	json_t *shown, *record;

	(void)state;
	assert_true(job_set_end(job, JOB_FAIL, "no_success", "test", "fine"));
	assert_int_equal(job_told_state(job), JOB_STARTING);
	record = job_to_record(job);
	assert_string_equal(json_string_value(json_object_get(record, "state")), "ENDED");
	json_decref(record);
	shown = job_to_json(job);
	assert_string_equal(json_string_value(json_object_get(shown, "state")), "STARTING");
	assert_string_equal(json_string_value(json_object_get(shown, "phase")), "setup");
	assert_true(json_is_null(json_object_get(shown, "status")));
	assert_true(json_is_null(json_object_get(shown, "verdict")));
	assert_true(json_is_null(json_object_get(shown, "ended")));
	json_decref(shown);
	job->untold = JOB_INVALID;
	assert_int_equal(job_told_state(job), JOB_ENDED);
	shown = job_to_json(job);
	assert_string_equal(json_string_value(json_object_get(shown, "status")), "FAIL");
	assert_true(json_is_string(json_object_get(shown, "ended")));
	json_decref(shown);
	job_free(job);
}

static void each_attempt_has_a_nonce_of_its_own(void **state)
{
	struct job *job = make_job();
	char first[JOB_NONCE_SIZE];
	struct error err;

	(void)state;
	assert_int_equal(job->state, JOB_STARTING);
	assert_int_equal(job->attempt, 1);
	assert_int_equal(strlen(job->nonce), JOB_NONCE_SIZE - 1);
	assert_int_equal(strlen(job->boot_id), 36);
	memcpy(first, job->nonce, sizeof(first));
	/* One at a time. */
	assert_int_equal(job_begin_attempt(job, &err), -EINVAL);
	assert_string_equal(err.text, "job 17 is STARTING");
	job->state = job_next(job->state, JOB_REQUEUE);
	assert_int_equal(job_begin_attempt(job, &err), 0);
	assert_int_equal(job->attempt, 2);
	assert_string_not_equal(job->nonce, first);
	assert_true(job_set_end(job, JOB_PASS, "ok", NULL, NULL));
	assert_int_equal(job_begin_attempt(job, &err), -EINVAL);
	assert_string_equal(err.text, "job 17 is ENDED");
	job_free(job);
}

static void each_attempt_has_a_console_of_its_own(void **state)
{
	struct job *job = make_job(), *read = NULL;
	json_t *record;
	struct error err;

	(void)state;
	job->has_console = true;
	job->console_base = 100;
	for (unsigned i = 0; i < 2; i++) {
		job->state = job_next(job_next(job->state, JOB_GO), JOB_REQUEUE);
		assert_int_equal(job_begin_attempt(job, &err), 0);
		assert_false(job->has_console);
	}
	job->has_console = true;
	job->console_base = 300;
	record = job_to_record(job);
	assert_int_equal(job_from_record(&read, record, &err), 0);
	json_decref(record);
	assert_int_equal(read->attempt, 3);
	assert_true(read->earlier[0].has_console);
	assert_int_equal(read->earlier[0].console_base, 100);
	assert_false(read->earlier[1].has_console);
	assert_true(read->has_console);
	assert_int_equal(read->console_base, 300);
	job_free(job);
	job_free(read);
}

static void a_job_that_waits_comes_back_as_it_was(void **state)
{
	struct job *job = NULL, *read = NULL;
	json_t *record, *again;
	struct error err;

	(void)state;
	assert_int_equal(
		job_new(&job, UINT64_C(1) << 53, "n\xc3\xa4me", "alice", (uid_t)-2, "bbb-1", &err),
		0);
	job->cancelled = true; /* by nobody, for no reason */
	record = job_to_record(job);
	assert_non_null(record);
	assert_int_equal(job_from_record(&read, record, &err), 0);
	again = job_to_record(read);
	assert_true(json_equal(record, again));
	assert_true(read->id == UINT64_C(1) << 53);
	assert_int_equal(read->owner_uid, (uid_t)-2);
	assert_int_equal(read->state, JOB_WAITING);
	assert_false(read->has_console);
	assert_true(read->cancelled);
	assert_null(read->cancel_by);
	assert_null(read->reason);
	json_decref(record);
	json_decref(again);
	job_free(job);
	job_free(read);
}

static void the_api_shows_a_job_without_its_secrets(void **state)
{
	struct job *job = make_job();
	json_t *object;
	char *text;

	(void)state;
	job->cancelled = true;
	job->cancel_by = strdup("bob");
	object = job_to_json(job);
	assert_string_equal(json_string_value(json_object_get(object, "id")), "17");
	assert_string_equal(json_string_value(json_object_get(object, "state")), "STARTING");
	assert_string_equal(json_string_value(json_object_get(object, "phase")), "setup");
	assert_true(json_is_null(json_object_get(object, "status")));
	assert_true(json_is_null(json_object_get(object, "started")));
	assert_true(json_is_string(json_object_get(object, "submitted")));
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(object, "cancel"), "by")), "bob");
	text = json_dumps(object, 0);
	assert_null(strstr(text, job->nonce));
	free(text);
	json_decref(object);
	assert_true(job_set_end(job, JOB_CANCELLED, "cancelled", NULL, NULL));
	job->untold = JOB_INVALID;
	object = job_to_json(job);
	assert_true(json_is_null(json_object_get(object, "phase")));
	assert_string_equal(json_string_value(json_object_get(object, "status")), "CANCELLED");
	json_decref(object);
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
	/* Bytes that are no text are still a record. */
	assert_true(job_set_end(job, JOB_INCOMPLETE, "power", "lab", "no char: \xff, half: \xc3"));
	record = job_to_record(job);
	assert_non_null(record);
	assert_int_equal(job_from_record(&read, record, &err), 0);
	again = job_to_record(read);
	assert_string_equal(read->message, "no char: \ufffd, half: ");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_states_have_one_way),
		cmocka_unit_test(states_have_the_names_of_the_api),
		cmocka_unit_test(an_end_is_set_once),
		cmocka_unit_test(an_end_is_shown_when_it_may_be_told),
		cmocka_unit_test(each_attempt_has_a_nonce_of_its_own),
		cmocka_unit_test(each_attempt_has_a_console_of_its_own),
		cmocka_unit_test(a_job_that_waits_comes_back_as_it_was),
		cmocka_unit_test(the_api_shows_a_job_without_its_secrets),
		cmocka_unit_test(a_record_comes_back_as_it_was),
		cmocka_unit_test(what_is_no_record_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

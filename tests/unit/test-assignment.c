/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "executor/assignment.h"

static const char whole[] =
	"{\"v\": 1, \"id\": \"17\", \"name\": \"n\", \"owner\": \"alice\", \"attempt\": 2, "
	"\"nonce\": \"x\", \"epoch\": 5, \"dut\": {\"id\": \"b1\", \"tags\": [], \"console\": \"main\"}, \"console_base\": 11, \"deploy\": "
	"\"qemu\", \"environ\": {\"A\": \"b\"}, \"timeouts\": {\"daemon\": 7}, \"limits\": "
	"{\"console_log\": 8}, \"file_roots\": [\"/srv\"], \"socket_uid\": 1000, "
	"\"submitted_us\": 9}";

static int load(struct assignment **ret, const char *text, struct error *err)
{
	char path[] = "/tmp/test-assignment-XXXXXX";
	int dir_fd, r;

	assert_non_null(mkdtemp(path));
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (text)
		assert_int_equal(file_replace(dir_fd, "job.json", text, strlen(text), 0600, NULL),
				 0);
	r = assignment_load(ret, dir_fd, err);
	(void)unlinkat(dir_fd, "job.json", 0);
	(void)close_fd(dir_fd);
	assert_int_equal(rmdir(path), 0);
	return r;
}

static void everything_is_read(void **state)
{
	struct assignment *assignment = NULL;
	struct error err;

	(void)state;
	assert_int_equal(load(&assignment, whole, &err), 0);
	assert_string_equal(assignment->id_text, "17");
	assert_int_equal(assignment->number, 17);
	assert_string_equal(assignment->dut, "b1");
	assert_int_equal(assignment->attempt, 2);
	assert_int_equal(assignment->epoch, 5);
	assert_int_equal(assignment->daemon_us, 7);
	assert_int_equal(assignment->console_log_max, 8);
	assert_true(assignment->bucket_max == INT64_MAX);
	assert_string_equal(assignment->file_roots[0], "/srv");
	assert_null(assignment->file_roots[1]);
	assert_int_equal(assignment->socket_uid, 1000);
	assert_int_equal(assignment->submitted_realtime_us, 9);
	assert_string_equal(assignment->console, "main");
	assert_int_equal(assignment->console_base, 11);
	(void)assignment_free(assignment);
}

static void facts_are_what_templates_know(void **state)
{
	struct assignment *assignment = NULL;
	struct error err;
	json_t *facts, *job;

	(void)state;
	assert_int_equal(load(&assignment, whole, &err), 0);
	facts = assignment_facts(assignment);
	job = json_object_get(facts, "job");
	assert_string_equal(json_string_value(json_object_get(job, "id")), "17");
	assert_string_equal(json_string_value(json_object_get(job, "name")), "n");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(facts, "dut"), "deploy")),
		"qemu");
	assert_non_null(json_object_get(facts, "environ"));
	assert_null(json_object_get(facts, "nonce"));
	json_decref(facts);
	(void)assignment_free(assignment);
}

static void what_is_missing_or_wrong_is_named(void **state)
{
	static const struct {
		const char *text, *words;
		int code;
	} cases[] = {
		{ NULL, "job.json", -ENOENT },
		{ "{", "job.json:1:1", -EBADMSG },
		{ "{\"v\": 2}", "job.json is not of version 1", -EBADMSG },
		{ "{\"v\": 1, \"id\": \"x\"}", "job.json: no id above 0", -EBADMSG },
		{ "{\"v\": 1, \"id\": 3}", "job.json: no nonce", -EBADMSG },
		{ "{\"v\": 1, \"id\": 3, \"nonce\": \"n\"}", "job.json: no dut.id", -EBADMSG },
		{ "{\"v\": 1, \"id\": 3, \"nonce\": \"n\", \"dut\": {\"id\": \"b\"}}",
		  "job.json: no socket_uid", -EBADMSG },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct assignment *assignment = NULL;
		struct error err;

		assert_int_equal(load(&assignment, cases[i].text, &err), cases[i].code);
		assert_null(assignment);
		assert_non_null(strstr(err.text, cases[i].words));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_read),
		cmocka_unit_test(facts_are_what_templates_know),
		cmocka_unit_test(what_is_missing_or_wrong_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

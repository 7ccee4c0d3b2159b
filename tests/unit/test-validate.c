/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "executor/description.h"

static const char two_duts[] =
	"[{\"id\": \"bbb-1\", \"aliases\": [\"aa:bb\"], \"tags\": [\"bbb\", \"arm\"],"
	"  \"variables\": {\"root\": \"nfs\"}, \"deploy\": \"qemu\"},"
	" {\"id\": \"vm-1\", \"aliases\": [], \"tags\": [\"vm\", \"arm\"], \"variables\": {},"
	"  \"deploy\": null}]";

/* Runs the program's other life with these bytes on fd 0; what it prints on fd 1. */
static json_t *ask_raw(const char *question, size_t length, int *ret_code)
{
	close_ int in = memfd_create("in", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);
	close_ int saved_in = fcntl(0, F_DUPFD_CLOEXEC, 10);
	close_ int saved_out = fcntl(1, F_DUPFD_CLOEXEC, 10);
	static char text[65536];
	ssize_t n;

	assert_int_equal(write(in, question, length), (ssize_t)length);
	assert_int_equal(lseek(in, 0, SEEK_SET), 0);
	(void)fflush(stdout);
	assert_int_equal(dup2(in, 0), 0);
	assert_int_equal(dup2(out, 1), 1);
	*ret_code = validate_main();
	assert_int_equal(dup2(saved_in, 0), 0);
	assert_int_equal(dup2(saved_out, 1), 1);
	n = pread(out, text, sizeof(text) - 1, 0);
	assert_true(n >= 0);
	return n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
}

/* facts: an object of further members, or NULL. */
static json_t *ask(const char *job, const char *duts, const char *target, const char *facts)
{
	json_auto_t *question = facts ? json_loads(facts, 0, NULL) : json_object();
	free_ char *text = NULL;
	json_t *answer;
	int code;

	assert_non_null(question);
	(void)json_object_set_new(question, "v", json_integer(1));
	(void)json_object_set_new(question, "job", json_string(job));
	(void)json_object_set_new(question, "duts",
				  duts ? json_loads(duts, 0, NULL) : json_array());
	(void)json_object_set_new(question, "target",
				  target ? json_loads(target, 0, NULL) : json_null());
	text = json_dumps(question, 0);
	assert_non_null(text);
	answer = ask_raw(text, strlen(text), &code);
	assert_int_equal(code, 0);
	assert_non_null(answer);
	assert_int_equal(json_integer_value(json_object_get(answer, "v")), 1);
	return answer;
}

static void assert_member(const json_t *answer, const char *key, const char *is)
{
	free_ char *text = json_dumps(json_object_get(answer, key),
				      JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);

	assert_non_null(text);
	assert_string_equal(text, is);
}

static void assert_no_match(const char *job, const char *target, const char *kind, const char *text)
{
	json_auto_t *answer = ask(job, two_duts, target, NULL);
	const json_t *error = json_array_get(json_object_get(answer, "errors"), 0);

	assert_member(answer, "duts", "[]");
	assert_int_equal(json_array_size(json_object_get(answer, "errors")), 1);
	assert_non_null(error);
	assert_string_equal(json_string_value(json_object_get(error, "text")), text);
	assert_string_equal(json_string_value(json_object_get(error, "no_match")), kind);
	assert_string_equal(json_string_value(json_object_get(error, "key")), "target");
}

static void the_target_of_the_job_picks_the_duts(void **state)
{
	json_auto_t *by_id = NULL, *by_alias = NULL, *by_tag = NULL, *any = NULL;

	(void)state;
	by_id = ask("{target: {id: vm-1}, console_patterns: {}}", two_duts, NULL, NULL);
	assert_member(by_id, "errors", "[]");
	assert_member(by_id, "duts", "[\"vm-1\"]");
	assert_member(by_id, "target", "{\"id\":\"vm-1\",\"tags\":[]}");
	by_alias = ask("{target: {id: 'aa:bb', tags: [arm]}, console_patterns: {}}", two_duts, NULL,
		       NULL);
	assert_member(by_alias, "duts", "[\"bbb-1\"]");
	assert_member(by_alias, "target", "{\"id\":\"aa:bb\",\"tags\":[\"arm\"]}");
	by_tag = ask("{target: {tags: [arm]}, console_patterns: {}}", two_duts, NULL, NULL);
	assert_member(by_tag, "duts", "[\"bbb-1\",\"vm-1\"]");
	any = ask("{target: {tags: []}, console_patterns: {}}", two_duts, NULL, NULL);
	assert_member(any, "duts", "[\"bbb-1\",\"vm-1\"]");
}

static void a_given_target_goes_before_that_of_the_job(void **state)
{
	json_auto_t *answer = ask("{target: {id: vm-1}, console_patterns: {}}", two_duts,
				  "{\"id\": null, \"tags\": [\"bbb\"]}", NULL);

	(void)state;
	assert_member(answer, "duts", "[\"bbb-1\"]");
	assert_member(answer, "target", "{\"id\":null,\"tags\":[\"bbb\"]}");
}

static void where_no_dut_fits_it_says_why(void **state)
{
	static const char any[] = "{console_patterns: {}}";

	(void)state;
	assert_no_match("{target: {id: vm-2}, console_patterns: {}}", NULL, "id",
			"there is no DUT 'vm-2', did you mean 'vm-1'?");
	assert_no_match(any, "{\"id\": \"elsewhere\", \"tags\": []}", "id",
			"there is no DUT 'elsewhere'");
	assert_no_match(any, "{\"id\": \"vm-1\", \"tags\": [\"arm\", \"gpu\", \"bbb\"]}", "tags",
			"DUT 'vm-1' lacks the tags 'gpu', 'bbb'");
	assert_no_match(any, "{\"tags\": [\"arm\", \"gpu\"]}", "tags", "no DUT has the tag 'gpu'");
	assert_no_match(any, "{\"tags\": [\"vm\", \"bbb\"]}", "tags",
			"no DUT has all of the tags 'vm', 'bbb'");
	assert_no_match(any, NULL, "none",
			"no target: name one in the job, or with --dut or --tag");
}

static void the_jobs_own_target_has_a_place(void **state)
{
	json_auto_t *answer = ask("console_patterns: {}\ntarget: {id: x}\n", two_duts, NULL, NULL);
	const json_t *error = json_array_get(json_object_get(answer, "errors"), 0);

	(void)state;
	assert_int_equal(json_integer_value(json_object_get(error, "line")), 2);
	assert_int_equal(json_integer_value(json_object_get(error, "column")), 9);
}

static void without_target_the_only_dut_is_taken(void **state)
{
	json_auto_t *one =
		ask("{console_patterns: {}}", "[{\"id\": \"a\", \"tags\": []}]", NULL, NULL);
	json_auto_t *none = ask("{console_patterns: {}}", NULL, NULL, NULL);

	(void)state;
	assert_member(one, "duts", "[\"a\"]");
	assert_member(none, "errors",
		      "[{\"column\":null,\"key\":\"target\",\"line\":null,\"no_match\":\"none\","
		      "\"text\":\"no DUT is configured\"}]");
}

static void the_target_may_be_a_template_but_not_of_the_dut(void **state)
{
	json_auto_t *good = ask("{target: {id: '{{ environ.B }}'}, console_patterns: {}}", two_duts,
				NULL, "{\"environ\": {\"B\": \"vm-1\"}}");
	json_auto_t *bad =
		ask("{target: {id: '{{ dut.mac }}'}, console_patterns: {}}",
		    "[{\"id\": \"a\", \"tags\": []}, {\"id\": \"b\", \"mac\": \"x\"}]", NULL, NULL);

	(void)state;
	assert_member(good, "duts", "[\"vm-1\"]");
	assert_member(bad, "errors",
		      "[{\"column\":15,\"key\":\"target.id\",\"line\":1,\"text\":\"target.id: {{ "
		      "dut.mac }} is not configured for DUT 'a'\"}]");
}

static void a_dut_that_cannot_take_the_job_is_left_out(void **state)
{
	json_auto_t *deploy =
		ask("target: {tags: [arm]}\nconsole_patterns: {}\n"
		    "deployment: {start: {kernel: {url: 'bucket:k', cmdline: 'root={{ root }}'},\n"
		    "  initramfs: {url: 'bucket:i'}}, continue: {kernel: {url: 'bucket:k2'}}}\n",
		    two_duts, NULL, NULL);

	(void)state;
	assert_member(deploy, "errors", "[]");
	assert_member(deploy, "duts", "[\"bbb-1\"]");
	assert_member(deploy, "needs", "{\"bucket\":[\"k\",\"i\",\"k2\"]}");
	assert_member(
		deploy, "notes",
		"[\"DUT 'vm-1' cannot take it: line 3: deployment.start.kernel.url: DUT 'vm-1' "
		"boots what it has, it is configured without deploy\"]");
}

static void every_error_comes_at_once(void **state)
{
	json_auto_t *answer = ask("versoin: 1\ntarget: {id: bbb-1}\ntimeouts: {overall: 0}\n",
				  two_duts, NULL, NULL);

	(void)state;
	assert_member(answer, "duts", "[]");
	assert_int_equal(json_array_size(json_object_get(answer, "errors")), 3);
	assert_member(json_array_get(json_object_get(answer, "errors"), 0), "text",
		      "\"unknown key 'versoin', did you mean 'version'?\"");
	assert_member(json_array_get(json_object_get(answer, "errors"), 2), "key",
		      "\"timeouts.overall\"");
}

static void faults_in_the_target_come_with_all_others(void **state)
{
	json_auto_t *answer = ask("target: {name: bbb-1}\nversion: 3\nconsole_patterns: {}",
				  two_duts, NULL, NULL);

	(void)state;
	assert_int_equal(json_array_size(json_object_get(answer, "errors")), 3);
}

static void a_file_that_is_no_yaml_has_one_error(void **state)
{
	json_auto_t *answer = ask("a: [", two_duts, NULL, NULL);

	(void)state;
	assert_int_equal(json_array_size(json_object_get(answer, "errors")), 1);
	assert_member(answer, "duts", "[]");
	assert_member(answer, "target", "{\"id\":null,\"tags\":[]}");
}

static void it_tells_name_deadline_and_notes(void **state)
{
	json_auto_t *answer =
		ask("name: 'n-{{ job.id }}'\ndeadline: 2096-02-29\ntarget: {id: bbb-1}\n"
		    "timeouts: {watchdogs: {a: 1m}}\n"
		    "console_patterns: {watchdogs: {b: {start: x, reset: x, stop: x}}}\n",
		    two_duts, NULL, NULL);

	(void)state;
	assert_member(answer, "errors", "[]");
	assert_member(answer, "name", "\"n-0\"");
	assert_member(answer, "deadline", "3981312000000000");
	assert_member(
		answer, "notes",
		"[\"console_patterns.watchdogs.b has no timeout of that name, so it never expires\","
		"\"timeouts.watchdogs.a has no patterns of that name, so it never starts\"]");
}

static void without_a_daemon_there_are_no_duts_and_no_errors(void **state)
{
	json_auto_t *answer = ask("{target: {id: '{{ board }}'}, console_patterns: {}}", NULL, NULL,
				  "{\"without_daemon\": true}");

	(void)state;
	assert_member(answer, "errors", "[]");
	assert_member(answer, "duts", "[]");
	assert_member(answer, "notes", "[\"{{ board }} is not known without the daemon\"]");
}

static void a_thousand_duts_take_no_time(void **state)
{
	json_auto_t *duts = json_array(), *answer = NULL;
	free_ char *text = NULL;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		char id[16];

		(void)snprintf(id, sizeof(id), "dut-%u", i);
		(void)json_array_append_new(duts,
					    json_pack("{s:s, s:[s]}", "id", id, "tags", "all"));
	}
	text = json_dumps(duts, 0);
	answer = ask("{target: {tags: [all]}, console_patterns: {session_end: 'a{1,50}(b|c)*$',"
		     " job_success: '(x|y|z){1,9}'}}",
		     text, NULL, NULL);
	assert_int_equal(json_array_size(json_object_get(answer, "duts")), 1000);
}

static void what_is_no_question_is_refused(void **state)
{
	static const char *const questions[] = {
		"", "{", "[]", "{\"v\": 1}", "{\"v\": 2, \"job\": \"\"}", "{\"v\": 1, \"job\": 5}"
	};
	int saved_err = fcntl(2, F_DUPFD_CLOEXEC, 10),
	    null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)state;
	(void)dup2(null, 2);
	for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
		int code = 0;

		assert_null(ask_raw(questions[i], strlen(questions[i]), &code));
		assert_int_equal(code, 65);
	}
	(void)dup2(saved_err, 2);
	(void)close_fd(saved_err);
	(void)close_fd(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_target_of_the_job_picks_the_duts),
		cmocka_unit_test(a_given_target_goes_before_that_of_the_job),
		cmocka_unit_test(where_no_dut_fits_it_says_why),
		cmocka_unit_test(the_jobs_own_target_has_a_place),
		cmocka_unit_test(without_target_the_only_dut_is_taken),
		cmocka_unit_test(the_target_may_be_a_template_but_not_of_the_dut),
		cmocka_unit_test(a_dut_that_cannot_take_the_job_is_left_out),
		cmocka_unit_test(every_error_comes_at_once),
		cmocka_unit_test(faults_in_the_target_come_with_all_others),
		cmocka_unit_test(a_file_that_is_no_yaml_has_one_error),
		cmocka_unit_test(it_tells_name_deadline_and_notes),
		cmocka_unit_test(without_a_daemon_there_are_no_duts_and_no_errors),
		cmocka_unit_test(a_thousand_duts_take_no_time),
		cmocka_unit_test(what_is_no_question_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

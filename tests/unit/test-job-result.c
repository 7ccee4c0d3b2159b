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

/* result.json of job 17, which a hostile job may have written. */

static struct job *make_job(void)
{
	struct job *job = NULL;
	struct error err;

	assert_int_equal(job_new(&job, 17, "bisect", "alice", 1000, "bbb-1", &err), 0);
	assert_int_equal(job_begin_attempt(job, &err), 0);
	job->has_console = true;
	job->console_base = 4711;
	return job;
}

/* As an executor writes it. */
static json_t *make_result(const struct job *job)
{
	json_t *result = json_loads(
		"{\"v\": 1, \"id\": \"17\", \"attempt\": 1, \"console\": \"main\","
		" \"console_base\": 4711, \"name\": \"bisect\", \"dut\": \"bbb-1\","
		" \"owner\": \"alice\", \"status\": \"FAIL\", \"reason\": \"no_success\","
		" \"verdict\": \"test\", \"message\": \"why\","
		" \"submitted\": \"2026-11-24T10:52:51.212264Z\", \"started\": null,"
		" \"ended\": null,"
		" \"boots\": [{\"n\": 1, \"console_offset\": 4711, \"power_on\": null,"
		"              \"first_byte\": null, \"end\": null, \"reason\": \"no_success\"}],"
		" \"timeouts\": {\"overall\": {\"limit\": 21600, \"retries\": 0, \"retried\": 0},"
		"                \"daemon\": {\"limit\": 0.5, \"retries\": 2, \"retried\": 1},"
		"                \"boot_cycle\": {\"limit\": null, \"retries\": 0, \"retried\": 0}},"
		" \"patterns\": {\"job_success\": [{\"boot\": 1, \"offset\": 4742,"
		"                                   \"line\": \"ok\"}]},"
		" \"faults\": [{\"kind\": \"oops\", \"boot\": 1, \"offset\": 4730,"
		"              \"line\": \"Oops: 0002\"}],"
		" \"tests\": [{\"name\": \"t\", \"result\": \"pass\"}],"
		" \"files\": [{\"path\": \"console.log\", \"size\": 71}]}",
		0, NULL);

	assert_non_null(result);
	(void)json_object_set_new(result, "nonce", json_string(job->nonce));
	return result;
}

static int read_text(const struct job *job, const char *text, struct job_result *result,
		     struct error *err)
{
	char path[] = "/tmp/test-job-result.XXXXXX";
	close_ int dir_fd = -1, fd = -1;
	int r;

	assert_non_null(mkdtemp(path));
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (strcmp(text, "fifo") == 0) {
		assert_int_equal(mkfifoat(dir_fd, "result.json", 0600), 0);
	} else if (text[0] == '/') {
		assert_int_equal(symlinkat(text, dir_fd, "result.json"), 0);
	} else {
		fd = openat(dir_fd, "result.json", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	}
	r = job_read_result(job, dir_fd, result, err);
	assert_int_equal(unlinkat(dir_fd, "result.json", 0), 0);
	assert_int_equal(rmdir(path), 0);
	return r;
}

/* Takes the reference to value; NULL leaves the member out. */
static int read_changed(const struct job *job, const char *member, json_t *value,
			struct job_result *ret, struct error *err)
{
	json_auto_t *result = make_result(job);
	free_ char *text = NULL;

	if (value)
		assert_int_equal(json_object_set_new(result, member, value), 0);
	else
		assert_int_equal(json_object_del(result, member), 0);
	text = json_dumps(result, 0);
	assert_non_null(text);
	return read_text(job, text, ret, err);
}

static void refused(const char *member, json_t *value, const char *words)
{
	struct job *job = make_job();
	struct job_result result;
	char expected[256];
	struct error err;

	(void)snprintf(expected, sizeof(expected), "result.json does not hold: %s", words);
	assert_int_equal(read_changed(job, member, value, &result, &err), -EBADMSG);
	assert_string_equal(err.text, expected);
	job_free(job);
}

static void taken(const char *member, json_t *value)
{
	struct job *job = make_job();
	struct job_result result;
	struct error err = { "" };

	if (read_changed(job, member, value, &result, &err) != 0)
		fail_msg("%s: %s", member, err.text);
	job_result_done(&result);
	job_free(job);
}

static void a_result_of_this_attempt_is_taken(void **state)
{
	struct job *job = make_job();
	struct job_result result;
	struct error err;

	(void)state;
	assert_int_equal(read_changed(job, "extra", json_true(), &result, &err), 0);
	assert_int_equal(result.status, JOB_FAIL);
	assert_string_equal(result.reason, "no_success");
	assert_string_equal(result.message, "why");
	assert_string_equal(result.verdict, "test");
	job_result_done(&result);
	job_free(job);
	taken("id", json_integer(17));
	taken("console_base", json_null());
	taken("message", json_null());
	taken("boots", json_array());
	taken("patterns", json_object());
}

static void that_of_another_is_not(void **state)
{
	static const char words[] = "it is not that of this attempt";

	(void)state;
	refused("id", json_string("18"), words);
	refused("id", json_null(), words);
	refused("id", json_real(17.0), words);
	refused("attempt", json_integer(2), words);
	refused("nonce", json_string("another"), words);
	refused("nonce", NULL, words);
	refused("v", json_integer(2), "it is not of version 1");
	refused("console_base", json_integer(4712),
		"'console_base' is not what the console was "
		"lent at");
	refused("console_base", json_string("4711"),
		"'console_base' is not what the console was "
		"lent at");
}

static void set_end(json_t *result, const char *status, const char *reason)
{
	bool blamed = strcmp(status, "FAIL") == 0 || strcmp(status, "INCOMPLETE") == 0 ||
		      strcmp(status, "SETUP_FAIL") == 0;

	(void)json_object_set_new(result, "status", json_string(status));
	(void)json_object_set_new(result, "reason", json_string(reason));
	(void)json_object_set_new(result, "verdict", blamed ? json_string("lab") : json_null());
}

static void status_and_reason_fit_each_other(void **state)
{
	static const struct {
		const char *status, *reason;
		bool fits;
	} rows[] = {
		{ "PASS", "ok", true },
		{ "COMPLETE", "ok", true },
		{ "WARN", "warn", true },
		{ "FAIL", "step:login", true },
		{ "INCOMPLETE", "step:login", true },
		{ "SETUP_FAIL", "disk", true },
		{ "INCOMPLETE", "disk", true },
		{ "INCOMPLETE", "timeout:watchdogs.w", true },
		{ "CANCELLED", "client_lost", true },
		{ "WARN", "ok", false },
		{ "PASS", "warn", false },
		{ "PASS", "power", false },
		{ "PASS", "no_success", false },
		{ "COMPLETE", "cancelled", false },
		{ "CANCELLED", "ok", false },
		{ "UNKNOWN", "ok", false },
		{ "SETUP_FAIL", "timeout:boot_cycle", false },
		{ "INCOMPLETE", "download", false },
		{ "FAIL", "console_lost", false },
	};
	struct job *job = make_job();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		json_auto_t *result = make_result(job);
		struct job_result end;
		free_ char *text = NULL;
		char words[128];
		struct error err;

		set_end(result, rows[i].status, rows[i].reason);
		text = json_dumps(result, 0);
		assert_int_equal(read_text(job, text, &end, &err), rows[i].fits ? 0 : -EBADMSG);
		(void)snprintf(words, sizeof(words),
			       "result.json does not hold: status %s does not fit the reason '%s'",
			       rows[i].status, rows[i].reason);
		if (rows[i].fits)
			job_result_done(&end);
		else
			assert_string_equal(err.text, words);
	}
	job_free(job);
}

static void words_that_nobody_knows_are_refused(void **state)
{
	static const char words[] = "it has an unknown status or reason";
	char reason[RESULT_REASON_MAX + 1] = "step:";

	(void)state;
	refused("status", json_string("GREAT"), words);
	refused("status", json_integer(0), words);
	refused("status", NULL, words);
	refused("reason", json_string("because"), words);
	refused("reason", json_string("step:"), words);
	refused("reason", json_string("step:\x1b[31m"), words);
	memset(reason + 5, 'x', sizeof(reason) - 6);
	refused("reason", json_string(reason), words);
}

static void a_verdict_names_one_of_five_when_somebody_is_to_blame(void **state)
{
	static const char *const good[] = { "lab", "job", "kernel", "boot", "test" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		taken("verdict", json_string(good[i]));
	refused("verdict", json_string("dut"), "the verdict does not fit status FAIL");
	refused("verdict", json_null(), "the verdict does not fit status FAIL");
	refused("verdict", NULL, "the verdict does not fit status FAIL");
	refused("verdict", json_integer(7), "the verdict does not fit status FAIL");
}

static json_t *with_member(const char *list, const char *member, json_t *value)
{
	struct job *job = make_job();
	json_t *result = make_result(job);
	json_t *entries = json_incref(json_object_get(result, list));

	(void)json_object_set_new(json_array_get(entries, 0), member, value);
	json_decref(result);
	job_free(job);
	return entries;
}

static void numbers_are_in_range(void **state)
{
	const json_int_t much = (INT64_C(1) << 53) + 1;

	(void)state;
	refused("boots", with_member("boots", "n", json_integer(-1)),
		"'n' of an entry of 'boots' is not right");
	refused("boots", with_member("boots", "n", json_integer(INT64_C(1) << 32)),
		"'n' of an entry of 'boots' is not right");
	refused("boots", with_member("boots", "console_offset", json_integer(much)),
		"'console_offset' of an entry of 'boots' is not right");
	refused("files", with_member("files", "size", json_real(1.5)),
		"'size' of an entry of 'files' is not right");
	refused("faults", with_member("faults", "offset", json_integer(-4)),
		"'offset' of an entry of 'faults' is not right");
	refused("timeouts",
		json_pack("{s:{s:f, s:i, s:i}}", "overall", "limit", -1.0, "retries", 0, "retried",
			  0),
		"'limit' of an entry of 'timeouts' is not right");
	refused("timeouts", json_pack("{s:i}", "overall", 7),
		"an entry of 'timeouts' is no object");
}

static void lists_are_lists_and_bounded(void **state)
{
	static const struct {
		const char *name;
		size_t max;
	} lists[] = {
		{ "boots", RESULT_BOOTS_MAX },
		{ "faults", RESULT_FAULTS_MAX },
		{ "tests", RESULT_TESTS_MAX },
		{ "files", RESULT_FILES_MAX },
	};
	char words[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		json_t *list = with_member(lists[i].name, "more", json_null());

		while (json_array_size(list) < lists[i].max)
			(void)json_array_append(list, json_array_get(list, 0));
		taken(lists[i].name, json_incref(list));
		(void)json_array_append(list, json_array_get(list, 0));
		(void)snprintf(words, sizeof(words), "'%s' has %zu entries, more than %zu",
			       lists[i].name, lists[i].max + 1, lists[i].max);
		refused(lists[i].name, list, words);
		(void)snprintf(words, sizeof(words), "'%s' is no list", lists[i].name);
		refused(lists[i].name, NULL, words);
		refused(lists[i].name, json_object(), words);
		(void)snprintf(words, sizeof(words), "an entry of '%s' is no object",
			       lists[i].name);
		refused(lists[i].name, json_pack("[s]", "text"), words);
	}
	refused("patterns", json_array(), "'patterns' is no object");
	refused("patterns", json_pack("{s:[]}", "job_success"), "'patterns' has an empty list");
	refused("timeouts", json_null(), "'timeouts' is no object");
}

static void matches_are_bounded_over_all_patterns(void **state)
{
	json_t *patterns = json_object(), *match;

	(void)state;
	match = json_pack("[{s:i, s:i, s:s}]", "boot", 1, "offset", 2, "line", "x");
	for (unsigned i = 0; i < RESULT_PATTERNS_MAX; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "p%u", i);
		(void)json_object_set(patterns, name, match);
	}
	taken("patterns", json_incref(patterns));
	(void)json_object_set_new(patterns, "one more", match);
	refused("patterns", patterns, "'patterns' has too many entries");
}

static void texts_are_bounded(void **state)
{
	char words[5000];
	struct job *job = make_job();
	struct job_result result;
	struct error err;

	(void)state;
	memset(words, 'x', sizeof(words));
	words[4096] = '\0';
	assert_int_equal(read_changed(job, "message", json_string(words), &result, &err), 0);
	assert_int_equal(strlen(result.message), JOB_MAX_TEXT);
	job_result_done(&result);
	job_free(job);
	words[4096] = 'x';
	words[4097] = '\0';
	refused("message", json_string(words), "'message' is not right");
	refused("message", json_integer(1), "'message' is not right");
	refused("faults", with_member("faults", "line", json_string(words)),
		"'line' of an entry of 'faults' is not right");
}

static void what_is_no_object_is_refused(void **state)
{
	static const char *const wrong[] = { "[]", "", "not json", "{\"id\": 17, \"id\": 17}" };
	struct job *job = make_job();
	struct job_result result;
	struct error err;
	char *much;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(read_text(job, wrong[i], &result, &err), -EBADMSG);
		assert_string_equal(err.text, "result.json does not hold: it is no JSON object");
	}
	assert_int_equal(read_text(job, "fifo", &result, &err), -EINVAL);
	assert_int_equal(read_text(job, "/etc/passwd", &result, &err), -ELOOP);
	much = calloc(1, (4 << 20) + 2);
	assert_non_null(much);
	memset(much, ' ', (4 << 20) + 1);
	assert_int_equal(read_text(job, much, &result, &err), -EFBIG);
	assert_string_equal(err.text, "result.json: longer than 4194304 bytes");
	/* Brackets without end. */
	memset(much, '[', 1 << 20);
	much[1 << 20] = '\0';
	assert_int_equal(read_text(job, much, &result, &err), -EBADMSG);
	free(much);
	job_free(job);
}

static void a_missing_result_is_told_apart(void **state)
{
	struct job *job = make_job();
	struct job_result result;
	struct error err;
	char path[] = "/tmp/test-job-result.XXXXXX";
	int dir_fd;

	(void)state;
	assert_non_null(mkdtemp(path));
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(job_read_result(job, dir_fd, &result, &err), -ENOENT);
	(void)close(dir_fd);
	assert_int_equal(rmdir(path), 0);
	job_free(job);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_result_of_this_attempt_is_taken),
		cmocka_unit_test(that_of_another_is_not),
		cmocka_unit_test(status_and_reason_fit_each_other),
		cmocka_unit_test(words_that_nobody_knows_are_refused),
		cmocka_unit_test(a_verdict_names_one_of_five_when_somebody_is_to_blame),
		cmocka_unit_test(numbers_are_in_range),
		cmocka_unit_test(lists_are_lists_and_bounded),
		cmocka_unit_test(matches_are_bounded_over_all_patterns),
		cmocka_unit_test(texts_are_bounded),
		cmocka_unit_test(what_is_no_object_is_refused),
		cmocka_unit_test(a_missing_result_is_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

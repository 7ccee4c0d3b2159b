/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "executor/result.h"

static void assert_session(struct result_session session, const char *reason,
			   enum job_status expected)
{
	enum job_status status;

	assert_string_equal(result_session_reason(&session, &status), reason);
	assert_int_equal(status, expected);
}

static void a_session_that_ended_is_judged_by_its_patterns(void **state)
{
	(void)state;
	assert_session((struct result_session){ true, true, false }, "ok", JOB_PASS);
	assert_session((struct result_session){ true, true, true }, "warn", JOB_WARN);
	assert_session((struct result_session){ true, false, false }, "no_success", JOB_FAIL);
	assert_session((struct result_session){ true, false, true }, "no_success", JOB_FAIL);
	assert_session((struct result_session){ false, false, false }, "ok", JOB_COMPLETE);
	assert_session((struct result_session){ false, false, true }, "ok", JOB_COMPLETE);
}

static void nobody_is_guilty_of_a_good_end_or_a_cancel(void **state)
{
	static const enum job_status good[] = { JOB_PASS, JOB_WARN, JOB_COMPLETE, JOB_CANCELLED };
	const struct result_facts facts = { .boots = 1, .fault_seen = true, .silent = true };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_null(result_verdict(good[i], "ok", &facts));
}

static void the_first_rule_that_holds_gives_the_verdict(void **state)
{
	struct result_facts facts = {
		.boots = 1,
		.fault_seen = true,
		.deploys_kernel = true,
		.silent = true,
	};

	(void)state;
	assert_string_equal(result_verdict(JOB_INCOMPLETE, "power", &facts), "lab");
	assert_string_equal(result_verdict(JOB_INCOMPLETE, "console_flood", &facts), "lab");
	facts.power_verified = true;
	assert_string_equal(result_verdict(JOB_INCOMPLETE, "console_flood", &facts), "job");
	assert_string_equal(result_verdict(JOB_INCOMPLETE, "timeout:overall", &facts), "kernel");
	facts.fault_seen = false;
	assert_string_equal(result_verdict(JOB_INCOMPLETE, "timeout:overall", &facts), "boot");
	facts.kernel_seen = true;
	assert_string_equal(result_verdict(JOB_INCOMPLETE, "timeout:overall", &facts), "test");
	assert_string_equal(result_verdict(JOB_FAIL, "no_success", &facts), "test");
}

static void silence_is_the_labs_only_while_power_is_not_proven(void **state)
{
	struct result_facts facts = { .boots = 1, .silent = true };

	(void)state;
	assert_string_equal(
		result_verdict(JOB_INCOMPLETE, "timeout:first_console_activity", &facts), "lab");
	facts.silent = false;
	assert_string_equal(
		result_verdict(JOB_INCOMPLETE, "timeout:first_console_activity", &facts), "test");
	facts.silent = true;
	facts.power_verified = true;
	assert_string_equal(
		result_verdict(JOB_INCOMPLETE, "timeout:first_console_activity", &facts), "test");
	facts = (struct result_facts){ .silent = true, .deploys_kernel = true };
	assert_string_equal(result_verdict(JOB_SETUP_FAIL, "timeout:infra_setup", &facts), "test");
}

static void a_boot_is_told_with_its_times_once(void **state)
{
	cleanup_(result_done) struct result result = { 0 };
	json_t *boot;

	(void)state;
	assert_int_equal(result_init(&result), 0);
	result_boot_time(&result, "power_on", 1000000); /* no boot yet: nothing */
	result_boot(&result, 1, 4711);
	result_boot_time(&result, "first_byte", 1000000);
	result_boot_time(&result, "first_byte", 9000000);
	result_boot_end(&result, 2000000, "session_reboot");
	result_boot_end(&result, 3000000, "ok");
	boot = json_array_get(result.boots, 0);
	assert_int_equal(json_integer_value(json_object_get(boot, "console_offset")), 4711);
	assert_true(json_is_null(json_object_get(boot, "power_on")));
	assert_string_equal(json_string_value(json_object_get(boot, "first_byte")),
			    "1970-01-01T00:00:01.000000Z");
	assert_string_equal(json_string_value(json_object_get(boot, "end")),
			    "1970-01-01T00:00:02.000000Z");
	assert_string_equal(json_string_value(json_object_get(boot, "reason")), "session_reboot");
}

static void every_list_is_bounded(void **state)
{
	cleanup_(result_done) struct result result = { 0 };

	(void)state;
	assert_int_equal(result_init(&result), 0);
	for (unsigned i = 1; i <= RESULT_BOOTS_MAX + 5; i++) {
		result_boot(&result, i, i);
		result_pattern(&result, "job_warn", i, i, json_string("line"));
		result_fault(&result, "bug", i, i, json_string("line"));
	}
	assert_int_equal(json_array_size(result.boots), RESULT_BOOTS_MAX);
	assert_int_equal(json_integer_value(json_object_get(
				 json_array_get(result.boots, RESULT_BOOTS_MAX - 1), "n")),
			 RESULT_BOOTS_MAX + 5);
	assert_int_equal(json_array_size(json_object_get(result.patterns, "job_warn")),
			 RESULT_PATTERNS_MAX);
	assert_int_equal(json_array_size(result.faults), RESULT_FAULTS_MAX);
}

static int make_folder(char path[static 64])
{
	int fd;

	(void)strcpy(path, "/tmp/test-result-XXXXXX");
	assert_non_null(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void the_file_replaces_its_reservation(void **state)
{
	char path[64];
	close_ int dir_fd = make_folder(path);
	struct error err;
	struct stat status;
	json_t *read_back;
	int fd = -1;

	(void)state;
	assert_int_equal(result_reserve(&fd, dir_fd, &err), 0);
	assert_int_equal(fstatat(dir_fd, "result.json.reserved", &status, 0), 0);
	assert_true(status.st_blocks * 512 >= RESULT_BYTES_RESERVED);
	assert_int_equal(fstatat(dir_fd, "result.json", &status, 0), -1);

	assert_int_equal(result_write(dir_fd, fd, json_pack("{s:s}", "status", "PASS"), &err), 0);
	assert_int_equal(fstatat(dir_fd, "result.json.reserved", &status, 0), -1);
	fd = openat(dir_fd, "result.json", O_RDONLY | O_CLOEXEC);
	read_back = json_loadfd(fd, 0, NULL);
	(void)close_fd(fd);
	assert_string_equal(json_string_value(json_object_get(read_back, "status")), "PASS");
	json_decref(read_back);
	assert_int_equal(unlinkat(dir_fd, "result.json", 0), 0);
	assert_int_equal(rmdir(path), 0);
}

static void a_lost_reservation_costs_nothing_while_there_is_space(void **state)
{
	char path[64];
	close_ int dir_fd = make_folder(path);
	struct error err;

	(void)state;
	assert_int_equal(result_write(dir_fd, -1, json_object(), &err), 0);
	assert_int_equal(unlinkat(dir_fd, "result.json", 0), 0);
	assert_int_equal(rmdir(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_session_that_ended_is_judged_by_its_patterns),
		cmocka_unit_test(nobody_is_guilty_of_a_good_end_or_a_cancel),
		cmocka_unit_test(the_first_rule_that_holds_gives_the_verdict),
		cmocka_unit_test(silence_is_the_labs_only_while_power_is_not_proven),
		cmocka_unit_test(a_boot_is_told_with_its_times_once),
		cmocka_unit_test(every_list_is_bounded),
		cmocka_unit_test(the_file_replaces_its_reservation),
		cmocka_unit_test(a_lost_reservation_costs_nothing_while_there_is_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/protocol.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/table.h"
#include "cli/view.h"

static json_t *json(const char *text)
{
	json_t *object = json_loads(text, 0, NULL);

	assert_non_null(object);
	return object;
}

static void http_statuses_become_exit_codes(void **state)
{
	static const struct {
		unsigned status;
		int exit;
	} cases[] = {
		{ 400, 65 }, { 401, 77 }, { 403, 77 }, { 404, 68 }, { 405, 65 }, { 406, 68 },
		{ 409, 75 }, { 411, 65 }, { 413, 65 }, { 415, 65 }, { 418, 65 }, { 429, 75 },
		{ 431, 65 }, { 500, 70 }, { 501, 70 }, { 502, 74 }, { 503, 74 }, { 504, 74 },
		{ 507, 74 }, { 599, 70 }, { 302, 70 }, { 0, 70 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(exit_from_http(cases[i].status), cases[i].exit);
}

static void statuses_that_are_fine_are_a_mask(void **state)
{
	struct error err;
	unsigned mask = 0;

	(void)state;
	assert_int_equal(exit_parse_ok(&mask, "WARN,COMPLETE", &err), 0);
	assert_int_equal(mask, 1U << JOB_WARN | 1U << JOB_COMPLETE);
	assert_int_equal(exit_parse_ok(&mask, "warn", &err), -EINVAL);
	assert_int_equal(mask, 1U << JOB_WARN | 1U << JOB_COMPLETE);
	assert_string_equal(err.text, "--ok: 'warn' is no status: PASS, WARN, COMPLETE, FAIL, "
				      "INCOMPLETE, UNKNOWN, SETUP_FAIL or CANCELLED");
	assert_int_equal(exit_parse_ok(&mask, "", &err), -EINVAL);
	assert_int_equal(exit_parse_ok(&mask, "PASS,", &err), -EINVAL);
}

static void a_job_exits_by_its_status(void **state)
{
	json_t *job = json("{\"status\": \"COMPLETE\"}"), *odd = json("{\"status\": 7}");

	(void)state;
	assert_int_equal(view_job_exit(job, 0), JOB_COMPLETE);
	assert_int_equal(view_job_exit(job, 1U << JOB_COMPLETE), 0);
	assert_int_equal(view_job_exit(odd, 0), JOB_UNKNOWN);
	json_decref(job);
	json_decref(odd);
}

static void the_last_line_says_only_what_is_known(void **state)
{
	static const struct {
		const char *job, *line;
	} cases[] = {
		{ "{\"id\": \"17\", \"dut\": \"bbb-1\", \"status\": \"FAIL\", \"reason\": "
		  "\"pattern_fail\", \"message\": \"Oops\"}",
		  "job 17 on bbb-1: FAIL (pattern_fail): Oops" },
		{ "{\"id\": 17, \"dut\": null, \"status\": \"PASS\", \"reason\": \"ok\", "
		  "\"message\": \"\"}",
		  "job 17: PASS (ok)" },
		{ "{\"id\": \"x\"}", "job : UNKNOWN" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *job = json(cases[i].job);
		free_ char *line = view_job_line(job);

		assert_string_equal(line, cases[i].line);
		json_decref(job);
	}
}

static void an_event_is_one_safe_line(void **state)
{
	static const struct {
		const char *event, *line;
	} cases[] = {
		{ "{\"elapsed\": 12.3454, \"text\": \"power is on\"}", "+12.345s: power is on\n" },
		{ "{\"elapsed\": 0, \"text\": \"a\\u001b[H\\nb\"}", "+0.000s: a\\e[H\\nb\n" },
		{ "{\"elapsed\": -1, \"type\": \"boot\"}", "-1.000s: boot\n" },
		{ "{\"elapsed\": 1e300, \"text\": \"x\"}", "x\n" },
		{ "{\"elapsed\": \"1\", \"text\": 5}", "event\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *event = json(cases[i].event);
		free_ char *line = view_event(event);

		assert_string_equal(line, cases[i].line);
		json_decref(event);
	}
}

static void a_dut_is_found_in_either_answer(void **state)
{
	json_t *map = json("{\"duts\": {\"a\": {\"id\": \"a\"}}}"), *dut = json("{\"id\": \"a\"}");
	json_t *none = json("{\"duts\": {}}"), *list = json("[]");

	(void)state;
	assert_string_equal(view_text(view_dut(map), "id"), "a");
	assert_string_equal(view_text(view_dut(dut), "id"), "a");
	assert_null(view_dut(none));
	assert_null(view_dut(list));
	json_decref(map);
	json_decref(dut);
	json_decref(none);
	json_decref(list);
}

static void ids_are_decimal_and_not_0(void **state)
{
	static const char *const wrong[] = { "",   "0",	 "-1",	  "+1",
					     " 1", "1x", "bbb-1", "18446744073709551616" };
	char id[VIEW_ID_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_false(view_read_id(id, wrong[i]));
	assert_true(view_read_id(id, "0000017"));
	assert_string_equal(id, "17");
	assert_true(view_read_id(id, "18446744073709551615"));
	assert_string_equal(id, "18446744073709551615");
}

static void paths_escape_what_they_are_given(void **state)
{
	free_ char *path = client_path("/dut/%s/console?offset=%s&name=%s", "a/b?c%", "-1", "ü&");
	free_ char *plain = client_path("/duts"), *empty = client_path("/jobs?state=%s", "");

	(void)state;
	assert_string_equal(path, "/dut/a%2Fb%3Fc%25/console?offset=-1&name=%C3%BC%26");
	assert_string_equal(plain, "/duts");
	assert_string_equal(empty, "/jobs?state=");
}

static void a_table_aligns_for_people_and_has_tabs_for_programs(void **state)
{
	static const char *const header[] = { "DUT", "NAME", "MORE", NULL };
	struct table table;
	char *text = NULL;
	size_t length;
	FILE *out;

	(void)state;
	table_init(&table, header);
	table_add(&table, "küche");
	table_add(&table, "a\tb");
	table_add(&table, NULL);
	table_add(&table, "b");
	table_add(&table, NULL);
	table_add(&table, "x");

	out = open_memstream(&text, &length);
	assert_int_equal(table_print(&table, out, true), 0);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(text, "DUT    NAME  MORE\n"
				  "küche  a\\tb\n"
				  "b            x\n");
	free(text);

	out = open_memstream(&text, &length);
	assert_int_equal(table_print(&table, out, false), 0);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(text, "küche\ta\\tb\t\nb\t\tx\n");
	free(text);
	table_done(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http_statuses_become_exit_codes),
		cmocka_unit_test(statuses_that_are_fine_are_a_mask),
		cmocka_unit_test(a_job_exits_by_its_status),
		cmocka_unit_test(the_last_line_says_only_what_is_known),
		cmocka_unit_test(an_event_is_one_safe_line),
		cmocka_unit_test(a_dut_is_found_in_either_answer),
		cmocka_unit_test(ids_are_decimal_and_not_0),
		cmocka_unit_test(paths_escape_what_they_are_given),
		cmocka_unit_test(a_table_aligns_for_people_and_has_tabs_for_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

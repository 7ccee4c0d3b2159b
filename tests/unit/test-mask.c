/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <string.h>

#include "base/cleanup.h"
#include "executor/mask.h"

static void make(struct mask *mask, const char *variables)
{
	json_t *object = json_loads(variables, 0, NULL);

	assert_non_null(object);
	assert_int_equal(mask_init(mask, object), 0);
	json_decref(object);
}

static void assert_masked(const struct mask *mask, const char *text, const char *expected)
{
	char buffer[256];

	(void)strcpy(buffer, text);
	mask_text(mask, buffer);
	assert_string_equal(buffer, expected);
}

static void values_of_secret_names_are_hidden_everywhere(void **state)
{
	cleanup_(mask_done) struct mask mask = { 0 };

	(void)state;
	make(&mask, "{\"CI_JOB_TOKEN\": \"hunter2\", \"db_password\": \"pass\", \"MY_SECRET_X\": "
		    "\"s3cr3t\", \"BRANCH\": \"main\"}");
	assert_masked(&mask, "token=hunter2&hunter2 on main", "token=***&*** on main");
	assert_masked(&mask, "passpass s3cr3t", "****** ***");
	assert_masked(&mask, "", "");
}

static void a_value_inside_a_longer_one_leaves_no_rest(void **state)
{
	cleanup_(mask_done) struct mask mask = { 0 };

	(void)state;
	make(&mask, "{\"A_TOKEN\": \"abc\", \"B_TOKEN\": \"abcdef\"}");
	assert_masked(&mask, "abcdef abc", "*** ***");
}

static void short_values_hide_nothing(void **state)
{
	cleanup_(mask_done) struct mask mask = { 0 };

	(void)state;
	make(&mask, "{\"A_TOKEN\": \"\", \"B_TOKEN\": \"1\"}");
	assert_masked(&mask, "boot 1 of 1", "boot 1 of 1");
}

static void the_escaped_form_of_a_value_is_hidden_too(void **state)
{
	cleanup_(mask_done) struct mask mask = { 0 };

	(void)state;
	make(&mask, "{\"A_TOKEN\": \"a\\tb\\tc\"}");
	assert_masked(&mask, "line a\\tb\\tc", "line ***");
	assert_masked(&mask, "line a\tb\tc", "line ***");
}

static void texts_at_any_depth_of_json_are_masked(void **state)
{
	cleanup_(mask_done) struct mask mask = { 0 };
	json_t *value = json_pack("{s:s, s:[s, {s:s}], s:i}", "a", "x hunter2", "b", "hunter2", "c",
				  "y", "d", 1);

	(void)state;
	make(&mask, "{\"T_TOKEN\": \"hunter2\"}");
	mask_json(&mask, value);
	assert_string_equal(json_string_value(json_object_get(value, "a")), "x ***");
	assert_string_equal(json_string_value(json_array_get(json_object_get(value, "b"), 0)),
			    "***");
	json_decref(value);
	mask_json(&mask, NULL);
}

static void nothing_to_hide_is_no_error(void **state)
{
	cleanup_(mask_done) struct mask mask = { 0 };

	(void)state;
	assert_int_equal(mask_init(&mask, NULL), 0);
	assert_masked(&mask, "text", "text");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_of_secret_names_are_hidden_everywhere),
		cmocka_unit_test(a_value_inside_a_longer_one_leaves_no_rest),
		cmocka_unit_test(short_values_hide_nothing),
		cmocka_unit_test(the_escaped_form_of_a_value_is_hidden_too),
		cmocka_unit_test(texts_at_any_depth_of_json_are_masked),
		cmocka_unit_test(nothing_to_hide_is_no_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

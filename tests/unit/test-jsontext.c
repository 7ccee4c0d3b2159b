/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <string.h>

#include "base/jsontext.h"

static void assert_json(const char *text, const char *expected)
{
	json_auto_t *value = jsontext_new(text);

	assert_true(json_is_string(value));
	assert_string_equal(json_string_value(value), expected);
	assert_int_equal(json_string_length(value), strlen(expected));
}

static void a_text_is_itself(void **state)
{
	(void)state;
	assert_json("", "");
	assert_json("plain", "plain");
	assert_json("\"Grüße\"\n€ \xf0\x9f\x98\x80", "\"Grüße\"\n€ \xf0\x9f\x98\x80");
	assert_true(json_is_null(jsontext_new(NULL)));
}

static void bytes_of_no_character_are_replaced(void **state)
{
	(void)state;
	assert_json("cut \xc3", "cut \ufffd");
	assert_json("\x80 in front", "\ufffd in front");
	assert_json("a\xff\xfe"
		    "b",
		    "a\ufffd\ufffdb");
	assert_json("\xe2\x82 and then", "\ufffd\ufffd and then");
	assert_json("\xc0\xaf overlong", "\ufffd\ufffd overlong");
	assert_json("ü\xed\xa0\x80ü", "ü\ufffd\ufffd\ufffdü");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_is_itself),
		cmocka_unit_test(bytes_of_no_character_are_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <stdlib.h>
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

static void assert_line(json_t *value, const char *expected)
{
	size_t length = 0;
	char *line = jsontext_line(value, &length);

	assert_string_equal(line, expected);
	assert_int_equal(length, strlen(expected));
	free(line);
	json_decref(value);
}

/* The same as libjansson writes and reads. */
static void assert_like_jansson(const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL), *again;
	char *expected =
		json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
	size_t length = 0;
	char *line = jsontext_line(value, &length);

	assert_int_equal(length, strlen(expected) + 1);
	assert_memory_equal(line, expected, length - 1);
	again = json_loadb(line, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	assert_true(json_equal(value, again));
	json_decref(value);
	json_decref(again);
	free(expected);
	free(line);
}

static void a_line_is_what_jansson_writes(void **state)
{
	(void)state;
	assert_like_jansson("{}");
	assert_like_jansson("[]");
	assert_like_jansson("[null, true, false, [], {}, [[1], {\"a\": {\"b\": []}}]]");
	assert_like_jansson("{\"z\": 1, \"a\": \"in order\", \"\": [\"x\"]}");
	assert_like_jansson("[0, -1, 9223372036854775807, -9223372036854775808]");
	assert_like_jansson(
		"\"Gr\u00fc\u00dfe \\\" \\\\ / \\b\\f\\n\\r\\t \\u0001\\u0000\\u001f\\u007f\"");
}

/* The digits may be written in another way. */
static void assert_same_number(double number)
{
	json_t *real = json_real(number);
	char *text = json_dumps(real, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
	size_t length = 0;
	char *line = jsontext_line(real, &length);

	assert_true(strtod(line, NULL) == strtod(text, NULL));
	assert_non_null(strpbrk(line, ".e"));
	free(line);
	free(text);
	json_decref(real);
}

static void a_fraction_keeps_its_microseconds(void **state)
{
	static const double numbers[] = {
		0.0,
		1.0,
		-1.0,
		0.5,
		12.345678,
		1e-6,
		0.1,
		0.1 + 0.2,
		-0.000001,
		1234.1234567,
		999999999.999999,
		0.0000005,
		1e9,
		86400.000001,
		123456.7890125,
		1e300,
		1234567890123.25,
		1e-300,
		-5.25,
		3.14159265358979,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		assert_same_number(numbers[i]);
	for (unsigned i = 0; i < 100000; i++)
		assert_same_number((double)(i * 7919ULL * 7919ULL) / 1e6);
	assert_line(json_real(3600.25), "3600.25\n");
	assert_line(json_real(0.000001), "0.000001\n");
	assert_line(json_real(12), "12.0\n");
}

static void a_long_line_is_whole(void **state)
{
	json_t *array = json_array();
	size_t length = 0;
	char *line;

	(void)state;
	for (int i = 0; i < 5000; i++)
		(void)json_array_append_new(array, json_sprintf("number \"%d\"", i));
	line = jsontext_line(array, &length);
	assert_int_equal(length, strlen(line));
	assert_non_null(strstr(line, ",\"number \\\"4999\\\"\"]\n"));
	free(line);
	json_decref(array);
}

static void a_line_is_written_value_by_value(void **state)
{
	struct jsontext json = { 0 };
	size_t length = 0;
	char *line;

	(void)state;
	jsontext_open_object(&json, NULL);
	jsontext_text(&json, "text", "a \"b\" \x01 ü");
	jsontext_text(&json, "bytes", "\xc3( \xff cut \xe2\x82");
	jsontext_text(&json, "a \"key\"", NULL);
	jsontext_open_array(&json, "array");
	jsontext_bool(&json, NULL, true);
	jsontext_integer(&json, NULL, INT64_MIN);
	jsontext_real(&json, NULL, 0.5);
	jsontext_open_array(&json, NULL);
	jsontext_close_array(&json);
	jsontext_open_object(&json, NULL);
	jsontext_close_object(&json);
	jsontext_close_array(&json);
	jsontext_tree(&json, "tree", json_pack("{s:[i,n]}", "a", 1));
	jsontext_time(&json, "time", 1764000000123456);
	jsontext_time(&json, "never", 0);
	jsontext_bool(&json, "last", false);
	jsontext_close_object(&json);
	line = jsontext_finish(&json, &length);
	assert_string_equal(
		line, "{\"text\":\"a \\\"b\\\" \\u0001 ü\","
		      "\"bytes\":\"\ufffd( \ufffd cut \ufffd\ufffd\","
		      "\"a \\\"key\\\"\":null,"
		      "\"array\":[true,-9223372036854775808,0.5,[],{}],"
		      "\"tree\":{\"a\":[1,null]},"
		      "\"time\":\"2025-11-24T16:00:00.123456Z\",\"never\":null,\"last\":false}\n");
	assert_int_equal(length, strlen(line));
	free(line);
}

static void a_tree_that_is_missing_is_noticed(void **state)
{
	struct jsontext json = { 0 };
	size_t length = 0;

	(void)state;
	jsontext_open_object(&json, NULL);
	jsontext_tree(&json, "tree", NULL);
	jsontext_text(&json, "more", "text");
	jsontext_close_object(&json);
	assert_null(jsontext_finish(&json, &length));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_is_itself),
		cmocka_unit_test(bytes_of_no_character_are_replaced),
		cmocka_unit_test(a_line_is_what_jansson_writes),
		cmocka_unit_test(a_fraction_keeps_its_microseconds),
		cmocka_unit_test(a_long_line_is_whole),
		cmocka_unit_test(a_line_is_written_value_by_value),
		cmocka_unit_test(a_tree_that_is_missing_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "base/text.h"

static void numbers_are_bounded(void **state)
{
	struct error err;
	uint64_t value = 0;

	(void)state;
	assert_int_equal(text_to_uint64(&value, "0", 0, 9, &err), 0);
	assert_int_equal(value, 0);
	assert_int_equal(text_to_uint64(&value, "18446744073709551615", 0, UINT64_MAX, &err), 0);
	assert_true(value == UINT64_MAX);
	assert_int_equal(text_to_uint64(&value, "70000", 1, 65535, &err), -EINVAL);
	assert_string_equal(err.text, "'70000' is not a number from 1 to 65535");
	assert_true(value == UINT64_MAX);
}

static void what_is_no_number_is_refused(void **state)
{
	static const char *const wrong[] = { "",   "-1",  "+1",	 " 1",
					     "1 ", "0x1", "1.0", "18446744073709551616" };
	struct error err;
	uint64_t value = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(text_to_uint64(&value, wrong[i], 0, UINT64_MAX, &err), -EINVAL);
	assert_int_equal(text_to_uint64(&value, "1\n2", 0, 9, &err), -EINVAL);
	assert_string_equal(err.text, "'1\\n2' is not a number from 0 to 9");
}

static void durations_have_units_or_are_seconds(void **state)
{
	static const struct {
		const char *text;
		uint64_t us;
	} right[] = {
		{ "500ms", 500000 },
		{ "30s", 30000000 },
		{ "10m", 600000000 },
		{ "2h", UINT64_C(7200000000) },
		{ "1d", UINT64_C(86400000000) },
		{ "5", 5000000 },
		{ "0", 0 },
		{ "0.25", 250000 },
		{ "1.5m", 90000000 },
		{ "1h 30m", UINT64_C(5400000000) },
		{ "1h30m", UINT64_C(5400000000) },
		{ "36500d", UINT64_C(36500) * 86400 * 1000000 },
	};
	struct error err;
	uint64_t us = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
		assert_int_equal(text_to_duration_us(&us, right[i].text, &err), 0);
		assert_true(us == right[i].us);
	}
}

static void what_is_no_duration_is_refused(void **state)
{
	static const char *const wrong[] = { "",	 "s",	 "5 s",
					     "-5s",	 "5x",	 "1h 30",
					     "1.s",	 ".5",	 "1..5s",
					     "1h  30m",	 "5S",	 "1.1234567",
					     "infinite", "30s ", "99999999999999999999s" };
	struct error err;
	uint64_t us = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(text_to_duration_us(&us, wrong[i], &err), -EINVAL);
	assert_int_equal(text_to_duration_us(&us, "5 minutes", &err), -EINVAL);
	assert_string_equal(err.text, "'5 minutes' is not a duration such as 500ms, 30s, 10m, 2h, "
				      "1d or a number of seconds");
	assert_int_equal(text_to_duration_us(&us, "36501d", &err), -EINVAL);
	assert_string_equal(err.text, "duration '36501d' is over 36500d");
	assert_int_equal(text_to_duration_us(&us, "18446744073709551615d", &err), -EINVAL);
	assert_true(us == 7);
}

static void sizes_have_units_or_are_bytes(void **state)
{
	struct error err;
	uint64_t bytes = 0;

	(void)state;
	assert_int_equal(text_to_size(&bytes, "4096", &err), 0);
	assert_int_equal(bytes, 4096);
	assert_int_equal(text_to_size(&bytes, "1MiB", &err), 0);
	assert_int_equal(bytes, 1048576);
	assert_int_equal(text_to_size(&bytes, "1.5kB", &err), 0);
	assert_int_equal(bytes, 1500);
	assert_int_equal(text_to_size(&bytes, "4GiB", &err), 0);
	assert_true(bytes == UINT64_C(4) << 30);
	assert_int_equal(text_to_size(&bytes, "1 MiB", &err), -EINVAL);
	assert_string_equal(err.text, "'1 MiB' is not a size such as 4096, 512KiB or 2GiB");
	assert_int_equal(text_to_size(&bytes, "1.5", &err), -EINVAL);
	assert_int_equal(text_to_size(&bytes, "1mib", &err), -EINVAL);
	assert_int_equal(text_to_size(&bytes, "", &err), -EINVAL);
	assert_int_equal(text_to_size(&bytes, "9999999TiB", &err), -EINVAL);
	assert_string_equal(err.text, "size '9999999TiB' is too large");
}

static void durations_are_written_as_a_person_says_them(void **state)
{
	static const struct {
		uint64_t us;
		const char *text;
	} cases[] = {
		{ 0, "0s" },
		{ 999, "<1ms" },
		{ 250000, "250ms" },
		{ 1500000, "1.5s" },
		{ 12345678, "12.345s" },
		{ 2005000, "2.005s" },
		{ 30000000, "30s" },
		{ 600000000, "10m" },
		{ 61500000, "1m 1s" },
		{ UINT64_C(5400000000), "1h 30m" },
		{ UINT64_C(3605000000), "1h" },
		{ UINT64_C(90000000000), "1d 1h" },
	};
	char buffer[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(text_format_duration(buffer, sizeof(buffer), cases[i].us),
				    cases[i].text);
}

static void a_place_is_said_as_people_do(void **state)
{
	static const struct {
		uint64_t number;
		const char *text;
	} cases[] = {
		{ 0, "0th" },	  { 1, "1st" },	    { 2, "2nd" },	{ 3, "3rd" },
		{ 4, "4th" },	  { 10, "10th" },   { 11, "11th" },	{ 12, "12th" },
		{ 13, "13th" },	  { 21, "21st" },   { 22, "22nd" },	{ 99, "99th" },
		{ 101, "101st" }, { 111, "111th" }, { 1013, "1013th" },
	};
	char buffer[24];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(text_format_ordinal(buffer, sizeof(buffer), cases[i].number),
				    cases[i].text);
}

static void names_are_letters_digits_and_three_marks(void **state)
{
	char name[TEXT_NAME_MAX + 2];

	(void)state;
	assert_true(text_is_name("a"));
	assert_true(text_is_name("BBB-1_x.y"));
	assert_false(text_is_name(""));
	assert_false(text_is_name("1a"));
	assert_false(text_is_name("-a"));
	assert_false(text_is_name("a/b"));
	assert_false(text_is_name("a b"));
	assert_false(text_is_name("\xc3\xa4"));
	memset(name, 'x', sizeof(name));
	name[TEXT_NAME_MAX] = '\0';
	assert_true(text_is_name(name));
	name[TEXT_NAME_MAX] = 'x';
	name[TEXT_NAME_MAX + 1] = '\0';
	assert_false(text_is_name(name));
}

static void printable_is_utf8_without_control_characters(void **state)
{
	static const char *const right[] = { "", "abc", "\xc3\xa4", "\xe2\x82\xac",
					     "\xf0\x9f\x90\xa7" };
	static const char *const wrong[] = {
		"\n",
		"\t",
		"\x1b",
		"\x7f",
		"\xc2\x85",
		"\xc3",
		"\xc0\x80",
		"\xed\xa0\x80",
		"\xf4\x90\x80\x80",
		"\xff",
		"\x80",
		"\xe0\x80\x80",
		"\xf0\x80\x80\x80",
		"a\xe2\x82",
		"\xe2\x80\xa8",
		"\xe2\x80\xae",
		"\xe2\x81\xa6",
		"\xd8\x9c",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(right); i++)
		assert_true(text_is_printable(right[i], strlen(right[i])));
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_false(text_is_printable(wrong[i], strlen(wrong[i])));
	assert_false(text_is_printable("a\0b", 3));
}

static void assert_kept(const char *text, size_t expected)
{
	assert_int_equal(text_whole_utf8(text, strlen(text)), expected);
}

static void a_cut_character_is_left_out(void **state)
{
	(void)state;
	assert_kept("", 0);
	assert_kept("abc", 3);
	assert_kept("ab\xc3\xa4", 4);
	assert_kept("ab\xc3", 2);
	assert_kept("ab\xe2\x82\xac", 5);
	assert_kept("ab\xe2\x82", 2);
	assert_kept("ab\xe2", 2);
	assert_kept("ab\xf0\x9f\x98\x80", 6);
	assert_kept("ab\xf0\x9f\x98", 2);
	assert_kept("\xf0", 0);
	/* What never was a character stays: it is not ours to mend. */
	assert_kept("ab\x80", 3);
	assert_kept("\x80\x80\x80\x80\x80", 5);
	assert_kept("\x80", 1);
	assert_kept("\xc3\xa4\x80", 3);
}

static void what_is_shown_moves_no_cursor(void **state)
{
	char text[64], small[8];

	(void)state;
	assert_string_equal(text_show(text, sizeof(text), "plain \xc3\xa9"), "plain \xc3\xa9");
	assert_string_equal(text_show(text, sizeof(text), "a\x1b[2J\n\xff"), "a\\x1b[2J\\x0a\\xff");
	assert_string_equal(text_show(text, sizeof(text),
				      "\xe2\x80\xae"
				      "x"),
			    "\\xe2\\x80\\xaex");
	/* What does not fit is left out as a whole. */
	assert_string_equal(text_show(small, sizeof(small), "1234567890"), "1234567");
	assert_string_equal(text_show(small, sizeof(small), "123456\xc3\xa9"), "123456");
	assert_string_equal(text_show(small, sizeof(small), "1234\x1b"), "1234");
	assert_string_equal(text_show(small, 1, "1"), "");
}

static void a_size_is_said_in_its_largest_unit(void **state)
{
	char text[TEXT_SIZE_SIZE];

	(void)state;
	assert_string_equal(text_format_size(text, sizeof(text), 1 << 20), "1 MiB");
	assert_string_equal(text_format_size(text, sizeof(text), 1500), "1500 bytes");
	assert_string_equal(text_format_size(text, sizeof(text), UINT64_C(4) << 30), "4 GiB");
	assert_string_equal(text_format_size(text, sizeof(text), 0), "0 bytes");
	assert_string_equal(text_format_size(text, sizeof(text), UINT64_MAX),
			    "18446744073709551615 bytes");
}

static void the_nearest_word_is_found_or_none(void **state)
{
	static const char *const known[] = { "power",	  "console", "consoles", "deploy",
					     "variables", "tags",    NULL };
	char word[200];

	(void)state;
	assert_string_equal(text_nearest("pwoer", known), "power");
	assert_string_equal(text_nearest("POWER", known), "power");
	assert_string_equal(text_nearest("consol", known), "console");
	assert_string_equal(text_nearest("consoless", known), "consoles");
	assert_string_equal(text_nearest("tag", known), "tags");
	assert_string_equal(text_nearest("variabels", known), "variables");
	assert_null(text_nearest("tg", known));
	assert_null(text_nearest("", known));
	assert_null(text_nearest("zzz", known));
	memset(word, 'x', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	assert_null(text_nearest(word, known));
}

static void foreign_bytes_are_written_as_ascii(void **state)
{
	char buffer[16];

	(void)state;
	assert_string_equal(text_escape(buffer, sizeof(buffer), "a\r\n\t\x1b", 5), "a\\r\\n\\t\\e");
	assert_string_equal(text_escape(buffer, sizeof(buffer), "\0\xff", 2), "\\x00\\xff");
	assert_string_equal(text_escape(buffer, sizeof(buffer), "123456789012345", 15),
			    "123456789012345");
	assert_string_equal(text_escape(buffer, sizeof(buffer), "1234567890123456", 16),
			    "123456789012...");
	assert_string_equal(text_escape(buffer, sizeof(buffer), "12345678901\xff\xff", 13),
			    "12345678901...");
	assert_string_equal(text_escape(buffer, 1, "a", 1), "");
	assert_string_equal(text_escape(buffer, 3, "abcd", 4), "..");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_bounded),
		cmocka_unit_test(what_is_no_number_is_refused),
		cmocka_unit_test(durations_have_units_or_are_seconds),
		cmocka_unit_test(what_is_no_duration_is_refused),
		cmocka_unit_test(sizes_have_units_or_are_bytes),
		cmocka_unit_test(durations_are_written_as_a_person_says_them),
		cmocka_unit_test(names_are_letters_digits_and_three_marks),
		cmocka_unit_test(printable_is_utf8_without_control_characters),
		cmocka_unit_test(a_cut_character_is_left_out),
		cmocka_unit_test(what_is_shown_moves_no_cursor),
		cmocka_unit_test(a_size_is_said_in_its_largest_unit),
		cmocka_unit_test(a_place_is_said_as_people_do),
		cmocka_unit_test(the_nearest_word_is_found_or_none),
		cmocka_unit_test(foreign_bytes_are_written_as_ascii),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

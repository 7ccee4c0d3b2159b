/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/pattern.h"

CLEANUP_DEFINE(struct pattern *, pattern_free)

static struct pattern *compile(const char *regex)
{
	struct pattern *pattern = NULL;
	size_t offset = 0;
	struct error err;

	if (pattern_new(&pattern, regex, strlen(regex), &offset, &err) < 0)
		fail_msg("'%s': %s at %zu", regex, err.text, offset);
	return pattern;
}

/* Compiled code and the interpreter must agree. */
static int search(const char *regex, const char *subject, size_t length)
{
	cleanup_(pattern_freep) struct pattern *pattern = compile(regex);
	cleanup_(pattern_freep) struct pattern *slow = NULL;
	size_t start = 0, end = 0, slow_start = 0, slow_end = 0;
	char text[300];
	int r;

	(void)snprintf(text, sizeof(text), "(*NO_JIT)%s", regex);
	slow = compile(text);
	r = pattern_search(pattern, subject, length, &start, &end);
	assert_int_equal(pattern_search(slow, subject, length, &slow_start, &slow_end), r);
	assert_int_equal(start, slow_start);
	assert_int_equal(end, slow_end);
	return r;
}

static void assert_matches(const char *regex, const char *subject)
{
	if (search(regex, subject, strlen(subject)) != 1)
		fail_msg("'%s' does not match", regex);
}

static void assert_differs(const char *regex, const char *subject)
{
	if (search(regex, subject, strlen(subject)) != 0)
		fail_msg("'%s' matches", regex);
}

static void assert_refused(const char *regex, size_t length, size_t offset, const char *text)
{
	struct pattern *pattern = NULL;
	size_t found = SIZE_MAX;
	struct error err;

	assert_int_equal(pattern_new(&pattern, regex, length, &found, &err), -EINVAL);
	assert_null(pattern);
	assert_string_equal(err.text, text);
	assert_int_equal(found, offset);
}

static void every_way_to_write_the_end_of_a_line_matches(void **state)
{
	static const char *const forms[] = {
		"text$",	  "text\\r$",	    "text\r$",	     "text\\r?$",
		"text\r?$",	  "text\\r*$",	    "text\\r\\n",    "text\r\n",
		"text\\r?\\n",	  "text\\n",	    "text\n",	     "text$\\n",
		"text$\n",	  "text\\r\\n$",    "text\\n$",	     "text\\Z",
		"text\\r\\Z",	  "text\\n\\Z",	    "text\\n\\z",    "text\\r\\n\\z",
		"text\\s*\\z",	  "text\\s*$",	    "text\\R",	     "text\\R\\z",
		"text[\\r\\n]+",  "text(\\r|$)",    "text(?:\\n|$)", "text(?:\\r\\n)$",
		"text\\n+",	  "^text$",	    "^text\\r?$",    "^t\\w*$",
		"^t\\w*\\r$",	  "^t[^ ]+\\r?\\n", "(?m)^text$",    "(?x) text $ ",
		"(?x) text \\n ", "(?i)TEXT\\r$",   "text(\\n|x)$",  "text\\W+\\z",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		assert_matches(forms[i], "text\r\n");
		assert_differs(forms[i], "text and more\r\n");
	}
}

static void the_start_of_a_line_is_its_first_byte_only(void **state)
{
	(void)state;
	assert_matches("^text", "text\r\n");
	assert_matches("\\Atext", "text\r\n");
	assert_differs("^text", " text\r\n");
	assert_differs("^ext", "text\r\n");
	assert_differs("^text", "old\rtext\r\n");
	assert_matches("^$", "\r\n");
	assert_differs("^$", "x\r\n");
	assert_differs("\\Gext", "text\r\n");
	assert_matches("^t.*$", "text and more\r\n");
}

static void a_carriage_return_within_a_line_is_no_end_of_it(void **state)
{
	(void)state;
	assert_differs("10%$", "10%\r20%\r\n");
	assert_differs("10%\\r$", "10%\r20%\r\n");
	assert_matches("10%\\r20%$", "10%\r20%\r\n");
	assert_differs("10%\\r\\n", "10%\r20%\r\n");
}

static void a_line_without_an_end_is_matched_as_it_stands(void **state)
{
	(void)state;
	assert_matches("login: $", "login: ");
	assert_matches("login: \\Z", "login: ");
	assert_differs("login: \\r$", "login: ");
	assert_matches("login: \\r?$", "login: ");
	assert_differs("login: \\n", "login: ");
}

static void forms_of_python_mean_what_they_mean_there(void **state)
{
	(void)state;
	assert_matches("(?P<word>te)xt", "text\r\n");
	assert_matches("(?P<c>t)ex(?P=c)", "text\r\n");
	assert_matches("^(?P<c>t)?ex|(?(c)x|t)", "text\r\n");
	assert_matches("^x{,3}y", "xxy\r\n");
	assert_matches("^x{,3}y", "y\r\n");
	assert_differs("^x{,3}y", "xxxxy\r\n");
	assert_matches("^{,3}y", "{,3}y\r\n");
	assert_matches("x{,}y", "x{,}y\r\n");
	assert_matches("^\\[[\\d \\.]{12}\\]", "[    1.234567] x\r\n");
	assert_matches("[]x]$", "]\r\n");
	assert_matches("[$]5", "$5\r\n");
	assert_matches("(?#a $ comment (\\n)text$", "text\r\n");
	assert_matches("(?<=\\d)ms$", "5ms\r\n");
	assert_matches("(?<!\\n)ms$", "5ms\r\n");
	assert_matches("\\\\r\\n", "\\r\r\n");
}

static void the_end_of_the_subject_behind_text_is_refused(void **state)
{
	static const char hint[] = "`\\z` behind text never matches, for each line is followed by "
				   "CR LF; use `$`";

	(void)state;
	assert_refused("text\\z", 6, 4, hint);
	assert_refused("(ok|done)\\z", 11, 9, hint);
	assert_refused("[a-z]+\\z", 8, 6, hint);
	assert_refused("a.*\\z", 5, 3, hint);
	assert_refused("text$\\z", 7, 5, hint);
	assert_matches("text\\n\\z", "text\r\n");
	assert_matches("text[^a]*\\z", "text\r\n");
	assert_matches("(text|x)(\\n)\\z", "text\r\n");
	assert_matches("\\z", "text\r\n");
	assert_matches("text(?:\\z|\\n)", "text\r\n");
	assert_matches("(?i)\\z", "text\r\n");
	assert_matches("text(?P<end>\\z|\\r)", "text\r\n");
	assert_refused("text(?i)\\z", 10, 8, hint);
	assert_refused("(?i:text)\\z", 11, 9, hint);
}

static void faults_are_told_with_their_place_in_what_was_written(void **state)
{
	static char large[20000];

	(void)state;
	assert_refused("a(b", 3, 3, "missing closing parenthesis");
	assert_refused("a[b", 3, 3, "missing terminating ] for character class");
	assert_refused("\n\n\na)", 5, 4, "unmatched closing parenthesis");
	assert_refused("x{,3})", 6, 5, "unmatched closing parenthesis");
	assert_refused("*a", 2, 0, "quantifier does not follow a repeatable item");
	assert_refused("a\\", 2, 2, "\\ at end of pattern");
	assert_refused("(*UTF)a", 7, 6, "using UTF is disabled by the application");
	memset(large, 'a', sizeof(large));
	assert_refused(large, sizeof(large), 16384,
		       "regular expression is longer than 16384 bytes");
}

static void bytes_are_bytes(void **state)
{
	char all[258];
	size_t start = 0, end = 0;

	(void)state;
	for (unsigned i = 0; i < 256; i++)
		all[i] = (char)i;
	all[256] = '\r';
	all[257] = '\n';
	for (unsigned i = 0; i < 256; i++) {
		cleanup_(pattern_freep) struct pattern *pattern = NULL;
		char regex[8];

		(void)snprintf(regex, sizeof(regex), "\\x%02x", i);
		pattern = compile(regex);
		assert_int_equal(pattern_search(pattern, all, sizeof(all), &start, &end), 1);
		assert_int_equal(start, i);
		assert_int_equal(end, i + 1);
	}
	assert_matches("^gr\xc3\xbc\xc3\x9f.$", "gr\xc3\xbc\xc3\x9f\xff\r\n");
	assert_int_equal(search("\\xff\\r$", all, sizeof(all)), 1);
}

static void a_nul_in_the_regex_is_a_byte(void **state)
{
	static const char regex[] = "a\0b$", subject[] = "xa\0b\r\n";
	cleanup_(pattern_freep) struct pattern *pattern = NULL;
	size_t offset, start = 0, end = 0;
	struct error err;

	(void)state;
	assert_int_equal(pattern_new(&pattern, regex, sizeof(regex) - 1, &offset, &err), 0);
	assert_int_equal(pattern_search(pattern, subject, sizeof(subject) - 1, &start, &end), 1);
	assert_int_equal(start, 1);
	assert_int_equal(end, 4);
}

static void it_knows_which_patterns_want_the_end_of_a_line(void **state)
{
	static const struct {
		const char *regex;
		bool wants;
	} cases[] = {
		{ "text$", true },     { "text\\r", true },	{ "text\\n", true },
		{ "text\\Z", true },   { "text\n", true },	{ "(a|b$)", true },
		{ "text", false },     { "costs \\$5", false }, { "[$]", false },
		{ "text\\s+", false }, { "\\\\n", false },	{ "\\Q$\\E", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_(pattern_freep) struct pattern *pattern = compile(cases[i].regex);

		assert_int_equal(pattern_wants_line_end(pattern), cases[i].wants);
		assert_string_equal(pattern_text(pattern), cases[i].regex);
	}
}

static double processor_seconds(void)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Each takes minutes or for ever in an engine without limits. */
static void a_regex_bomb_ends_soon_and_is_not_a_miss(void **state)
{
	static const struct {
		const char *regex;
		size_t length;
	} bombs[] = {
		{ "(a+)+[xy]", 64 },
		{ "(a|aa)+[xy]", 200 },
		{ "(a*)*\\1[xy]", 1000 },
		{ "(.*)(.*)(.*)(.*)[xy]", 1000 },
		{ "(?:[ab]|a)(?:.*).*[xy]", 65536 },
		{ "a+a+a+a+[xy]", 65536 },
		{ "(a*)*(a*)*[xy]", 65536 },
		{ "(.*)(.*)\\1[xy]", 65536 },
		{ "^(a+)+[xy]", 65536 },
		{ "(?:(?=.*+)a)*(?:(?=.*+)a)*[xy]", 8000 },
		{ "(?:(?>a*)(?<=a)|a)*+(?:(?=(?>a*))a)*[xy]", 65536 },
	};
	free_ char *subject = malloc(65536);

	(void)state;
	assert_non_null(subject);
	memset(subject, 'a', 65536);
	for (size_t i = 0; i < ARRAY_SIZE(bombs); i++) {
		cleanup_(pattern_freep) struct pattern *pattern = compile(bombs[i].regex);
		double since = processor_seconds();
		size_t start, end;

		if (pattern_search(pattern, subject, bombs[i].length, &start, &end) != -EOVERFLOW)
			fail_msg("'%s' was not stopped", bombs[i].regex);
		/* The bound is 0.1 s and a window. */
		if (processor_seconds() - since > 0.4)
			fail_msg("'%s' was stopped late", bombs[i].regex);
	}
}

/* All groups are copied for each step of the interpreter. */
static void a_thousand_groups_end_as_soon(void **state)
{
	static char regex[16001],
		subject[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	cleanup_(pattern_freep) struct pattern *pattern = NULL;
	double since;
	size_t start, end;

	(void)state;
	for (size_t at = 0; at + 5 < sizeof(regex); at += 5)
		memcpy(regex + at, "(a+)+", 6);
	pattern = compile(regex);
	since = processor_seconds();
	assert_int_equal(pattern_search(pattern, subject, sizeof(subject) - 1, &start, &end),
			 -EOVERFLOW);
	assert_true(processor_seconds() - since < 0.4);
}

/* Each is refused, or compiled to something of a bounded size, in no time. */
static void a_bomb_for_the_compiler_does_no_harm(void **state)
{
	static const struct {
		const char *head, *part, *end;
		unsigned times;
	} bombs[] = {
		{ "", "(((a{1000}){1000}){1000})", "", 1 },
		{ "(?:x{0,200}){0,300}", "", "", 0 },
		{ "", "(?:(?:a?){60000}", ")", 1 },
		{ "", "[^a-c]", "", 2700 },
		{ "", "[\\w\\d\\s]{1,60}", "", 1000 },
		{ "", "(", "a", 8000 },
		{ "(?<=", "a|aa|aaa|aaaa|", "a)", 1000 },
		{ "(?1)(a)", "(?1)", "", 3900 },
		{ "", "(a)\\1", "", 2600 },
		{ "(?i)", "abc[d-z]", "", 1900 },
		{ "", "(?(?=a)b|c)", "", 1400 },
	};
	static char regex[16384];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bombs); i++) {
		cleanup_(pattern_freep) struct pattern *pattern = NULL;
		int length = snprintf(regex, sizeof(regex), "%s", bombs[i].head);
		double since = processor_seconds();
		struct error err;
		size_t offset;

		for (unsigned n = 0; n < bombs[i].times; n++)
			length += snprintf(regex + length, sizeof(regex) - (size_t)length, "%s",
					   bombs[i].part);
		(void)snprintf(regex + length, sizeof(regex) - (size_t)length, "%s", bombs[i].end);
		if (pattern_new(&pattern, regex, strlen(regex), &offset, &err) == 0)
			assert_true(pattern_size(pattern) < 4 << 20);
		if (processor_seconds() - since > 0.4)
			fail_msg("'%.40s...' took long", regex);
	}
}

static void ordinary_patterns_work_on_the_longest_line(void **state)
{
	static const char *const found[] = { "needle",	       "needle$",  "^x.*needle\\r$",
					     "(?:x|n)*eedle$", "x+needle", "^(?:x|n)+" };
	static const char *const missed[] = { "needles", "^needle", "haystack.*[ab]$",
					      "n.*needle" };
	free_ char *subject = malloc(65538);

	(void)state;
	assert_non_null(subject);
	memset(subject, 'x', 65536);
	memcpy(subject + 65530, "needle\r\n", 8);
	for (size_t i = 0; i < ARRAY_SIZE(found); i++)
		if (search(found[i], subject, 65538) != 1)
			fail_msg("'%s' does not match", found[i]);
	for (size_t i = 0; i < ARRAY_SIZE(missed); i++)
		if (search(missed[i], subject, 65538) != 0)
			fail_msg("'%s' matches", missed[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_way_to_write_the_end_of_a_line_matches),
		cmocka_unit_test(the_start_of_a_line_is_its_first_byte_only),
		cmocka_unit_test(a_carriage_return_within_a_line_is_no_end_of_it),
		cmocka_unit_test(a_line_without_an_end_is_matched_as_it_stands),
		cmocka_unit_test(forms_of_python_mean_what_they_mean_there),
		cmocka_unit_test(the_end_of_the_subject_behind_text_is_refused),
		cmocka_unit_test(faults_are_told_with_their_place_in_what_was_written),
		cmocka_unit_test(bytes_are_bytes),
		cmocka_unit_test(a_nul_in_the_regex_is_a_byte),
		cmocka_unit_test(it_knows_which_patterns_want_the_end_of_a_line),
		cmocka_unit_test(a_regex_bomb_ends_soon_and_is_not_a_miss),
		cmocka_unit_test(a_thousand_groups_end_as_soon),
		cmocka_unit_test(a_bomb_for_the_compiler_does_no_harm),
		cmocka_unit_test(ordinary_patterns_work_on_the_longest_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

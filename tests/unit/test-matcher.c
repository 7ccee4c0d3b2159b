/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/pattern.h"
#include "executor/matcher.h"

enum { MAX_TOLD = 32 };

struct fixture {
	struct description description;
	struct watchdog watchdog;
	struct matcher matcher;
	unsigned count;
	char told[MAX_TOLD][64]; /* "NAME@OFFSET" */
	enum match_kind kinds[MAX_TOLD];
};

static char suite[] = "suite";

static void tell(const struct match *match, const struct line *line, void *data)
{
	struct fixture *fixture = data;

	assert_true(fixture->count < MAX_TOLD);
	(void)snprintf(fixture->told[fixture->count], sizeof(fixture->told[0]), "%s@%d",
		       match->name, (int)line->offset);
	fixture->kinds[fixture->count++] = match->kind;
}

static struct pattern *compile(const char *regex)
{
	struct pattern *pattern = NULL;
	struct error err;
	size_t offset;

	assert_int_equal(pattern_new(&pattern, regex, strlen(regex), &offset, &err), 0);
	return pattern;
}

static int set_up(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){ 0 };
	fixture.description.patterns[PATTERN_SESSION_END] = compile("the end$");
	fixture.description.patterns[PATTERN_SESSION_REBOOT] = compile("reboot");
	fixture.description.patterns[PATTERN_JOB_SUCCESS] = compile("result=0$");
	fixture.watchdog = (struct watchdog){
		.name = suite,
		.start = compile("begin"),
		.reset = compile("ok"),
		.stop = compile("done"),
		.timeout = { 1000, 0 },
	};
	fixture.description.watchdogs = &fixture.watchdog;
	fixture.description.n_watchdogs = 1;
	assert_int_equal(matcher_init(&fixture.matcher, &fixture.description, tell, &fixture), 0);
	*state = &fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	matcher_done(&fixture->matcher);
	for (size_t i = 0; i < PATTERN_NAMES; i++)
		(void)pattern_free(fixture->description.patterns[i]);
	(void)pattern_free(fixture->watchdog.start);
	(void)pattern_free(fixture->watchdog.reset);
	(void)pattern_free(fixture->watchdog.stop);
	return 0;
}

/* After the description has changed. */
static void make_again(struct fixture *fixture)
{
	matcher_done(&fixture->matcher);
	assert_int_equal(matcher_init(&fixture->matcher, &fixture->description, tell, fixture), 0);
}

/* A line; one that ends in "\r\n" has its end. */
static void say(struct fixture *fixture, uint64_t offset, const char *text)
{
	size_t length = strlen(text);
	bool ended = length >= 2 && strcmp(text + length - 2, "\r\n") == 0;

	matcher_line(&fixture->matcher, &(struct line){ .text = text,
							.length = length - (ended ? 2 : 0),
							.offset = offset,
							.ended = ended });
}

static void assert_told(struct fixture *fixture, const char *expected)
{
	char all[512] = "";

	for (unsigned i = 0; i < fixture->count; i++) {
		size_t used = strlen(all);

		(void)snprintf(all + used, sizeof(all) - used, "%s%s", used ? " " : "",
			       fixture->told[i]);
	}
	fixture->count = 0;
	assert_string_equal(all, expected);
}

static void matches_are_sticky_and_told_once_a_boot(void **state)
{
	struct fixture *fixture = *state;

	say(fixture, 0, "result=0\r\n");
	say(fixture, 10, "result=0\r\n");
	say(fixture, 20, "please reboot\r\n");
	say(fixture, 35, "reboot\r\n");
	assert_told(fixture, "job_success@0 session_reboot@20");
	assert_true(fixture->matcher.seen[PATTERN_SESSION_REBOOT]);
	matcher_boot(&fixture->matcher);
	assert_true(fixture->matcher.seen[PATTERN_JOB_SUCCESS]);
	assert_false(fixture->matcher.seen[PATTERN_SESSION_REBOOT]);
	say(fixture, 50, "reboot, result=0\r\n");
	assert_told(fixture, "session_reboot@50 job_success@50");
}

static void one_line_may_match_several(void **state)
{
	struct fixture *fixture = *state;

	say(fixture, 0, "begin reboot result=0\r\n");
	assert_told(fixture, "session_reboot@0 job_success@0 watchdogs.suite.start@0");
}

static void an_unfinished_line_is_matched_as_it_stands_and_not_again(void **state)
{
	struct fixture *fixture = *state;

	say(fixture, 0, "result=0");
	assert_told(fixture, "job_success@0");
	say(fixture, 0, "result=0 but begin");
	assert_told(fixture, "watchdogs.suite.start@0");
	say(fixture, 0, "result=0 but begin, reboot\r\n");
	/* What had not matched yet is tried on the whole line; begin and result are not. */
	assert_told(fixture, "session_reboot@0");
	matcher_boot(&fixture->matcher);
	say(fixture, 30, "result=0\r\n");
	assert_told(fixture, "job_success@30");
}

static void a_watchdog_starts_resets_and_stops(void **state)
{
	struct fixture *fixture = *state;

	say(fixture, 0, "ok done\r\n"); /* not running: only start is tried */
	assert_told(fixture, "");
	say(fixture, 10, "begin\r\n");
	say(fixture, 20, "begin\r\n");	 /* does not restart */
	say(fixture, 30, "ok done\r\n"); /* reset goes before stop */
	say(fixture, 40, "done\r\n");
	say(fixture, 50, "ok\r\n");
	assert_told(fixture,
		    "watchdogs.suite.start@10 watchdogs.suite.reset@30 watchdogs.suite.stop@40");
	say(fixture, 60, "begin\r\n");
	matcher_boot(&fixture->matcher);
	say(fixture, 70, "ok\r\n");
	assert_told(fixture, "watchdogs.suite.start@60");
}

static void a_watchdog_without_a_timeout_is_inert(void **state)
{
	struct fixture *fixture = *state;

	fixture->watchdog.timeout.limit_us = DURATION_INFINITE;
	say(fixture, 0, "begin\r\n");
	assert_told(fixture, "");
}

static void kernel_faults_and_the_banner_are_noted_for_this_boot(void **state)
{
	struct fixture *fixture = *state;

	say(fixture, 0, "Linux version 6.1\r\n");
	assert_true(fixture->matcher.kernel_seen);
	say(fixture, 20, "Kernel panic - not syncing: x");
	say(fixture, 20, "Kernel panic - not syncing: x y\r\n");
	say(fixture, 60, "Kernel panic - not syncing: x\r\n");
	assert_told(fixture, "panic@20 panic@60");
	assert_true(fixture->matcher.fault_seen);
	matcher_boot(&fixture->matcher);
	assert_false(fixture->matcher.fault_seen);
	assert_false(fixture->matcher.kernel_seen);
}

static void a_pattern_over_its_limit_is_told_with_its_name(void **state)
{
	struct fixture *fixture = *state;
	struct pattern *hungry = compile("(?:a?){40}a{40}(x|y)?z$");
	char line[70];

	memset(line, 'a', sizeof(line));
	memcpy(line + 60, "b\r\n", 4);
	fixture->description.patterns[PATTERN_JOB_WARN] = hungry;
	make_again(fixture);
	say(fixture, 0, line);
	/* A library that sees through it says "none", which is right as well. */
	if (fixture->count > 0) {
		assert_int_equal(fixture->kinds[0], MATCH_LIMIT);
		assert_told(fixture, "job_warn@0");
	}
	assert_false(fixture->matcher.seen[PATTERN_JOB_WARN]);
}

static void behind_a_limit_nothing_is_tried_any_more(void **state)
{
	struct fixture *fixture = *state;
	char line[80];

	/* As long as it takes nobody sees through it: each part may be all of the line. */
	fixture->description.patterns[PATTERN_SESSION_REBOOT] =
		pattern_free(fixture->description.patterns[PATTERN_SESSION_REBOOT]);
	fixture->description.patterns[PATTERN_SESSION_REBOOT] = compile("(a|aa)+[xy]");
	make_again(fixture);
	memset(line, 'a', sizeof(line));
	memcpy(line + 60, "result=0\r\n", 11);
	say(fixture, 0, line);
	assert_int_equal(fixture->kinds[0], MATCH_LIMIT);
	assert_told(fixture, "session_reboot@0");
	say(fixture, 70, line);
	say(fixture, 140, "the end\r\n");
	say(fixture, 150, "Kernel panic - not syncing: x\r\n");
	assert_told(fixture, "");
}

/* Each search stays below the limit of one line, and all together would take minutes. */
static void the_time_of_all_searches_together_is_bounded(void **state)
{
	enum { LENGTH = 140, LINES = 5000 };
	struct fixture *fixture = *state;
	clock_t since = clock();
	unsigned i;
	char line[LENGTH + 3];

	fixture->description.patterns[PATTERN_JOB_WARN] = compile("(.*)(.*)(.*)[xy]");
	make_again(fixture);
	memset(line, 'a', LENGTH);
	memcpy(line + LENGTH, "\r\n", 3);
	for (i = 0; i < LINES && fixture->count == 0; i++)
		say(fixture, (uint64_t)i * sizeof(line), line);
	/* One second is allowed; a sanitizer needs some more for the same. */
	assert_true((clock() - since) / CLOCKS_PER_SEC < 10);
	if (i < LINES)
		assert_int_equal(fixture->kinds[0], MATCH_LIMIT);
}

static void many_ordinary_lines_are_within_the_time(void **state)
{
	struct fixture *fixture = *state;

	/* No needle, so that each line is searched. */
	fixture->description.patterns[PATTERN_JOB_WARN] = compile("(\\w+ )*[0-9]+:[0-9]+x$");
	make_again(fixture);
	for (unsigned i = 0; i < 100000; i++)
		say(fixture, (uint64_t)i * 64, "some words of a line, with a time 12:30 in it\r\n");
	assert_told(fixture, "");
}

static void a_pattern_without_needles_is_tried_on_every_line(void **state)
{
	struct fixture *fixture = *state;

	fixture->description.patterns[PATTERN_JOB_WARN] = compile("^\\d+ \\w$");
	fixture->description.patterns[PATTERN_JOB_FAIL] = compile("(?i)FAILED|^$");
	make_again(fixture);
	say(fixture, 0, "12 ab\r\n");
	say(fixture, 10, "12 a\r\n");
	say(fixture, 20, "\r\n");
	assert_told(fixture, "job_warn@10 job_fail@20");
	matcher_boot(&fixture->matcher);
	say(fixture, 30, "it Failed\r\n");
	assert_told(fixture, "job_fail@30");
}

/* ---- lines that are not told ---- */

struct story {
	struct matcher matcher;
	char told[16384];
	unsigned lines;
};

static void note(const struct match *match, const struct line *line, void *data)
{
	struct story *story = data;
	size_t used = strlen(story->told);

	assert_true(used + 100 < sizeof(story->told));
	(void)snprintf(story->told + used, sizeof(story->told) - used, "%s@%d ", match->name,
		       (int)line->offset);
}

static void try_line(const struct line *line, void *data)
{
	struct story *story = data;

	story->lines++;
	matcher_line(&story->matcher, line);
}

static size_t quiet(const char *bytes, size_t length, void *data)
{
	struct story *story = data;

	return matcher_quiet(&story->matcher, bytes, length);
}

/* Cuts the bytes as seed says; now and then the board is silent, or boots anew. */
static void hear(struct story *story, const struct description *description, lines_quiet_fn fn,
		 const char *bytes, size_t length, unsigned seed)
{
	cleanup_(lines_done) struct lines lines = { .quiet = fn };

	*story = (struct story){ .lines = 0 };
	assert_int_equal(matcher_init(&story->matcher, description, note, story), 0);
	for (size_t at = 0; at < length;) {
		size_t part = 1 + (seed = seed * 1103515245 + 12345) / 65536 % 300;

		part = part < length - at ? part : length - at;
		assert_int_equal(lines_feed(&lines, at, bytes + at, part, try_line, story), 0);
		at += part;
		if (part % 8 == 0)
			lines_flush(&lines, try_line, story);
		if (part % 16 == 0)
			matcher_boot(&story->matcher);
	}
	matcher_done(&story->matcher);
}

static void what_matches_is_the_same_without_the_quiet_lines(void **state)
{
	static const char *const words[] = {
		"result=0", "\r\n",	      "\r\n",	"\n",
		"\r\r\n",   "begin",	      "ok",	"done",
		"the end",  "please reboot",  " ",	"[    1.0] usb 1-1: ",
		"=> ",	    "quiet ",	      "words ", "that say ",
		"nothing ", "BUG: bad",	      "re",	"boot",
		"\r",	    "Linux version ",
	};
	struct fixture *fixture = *state;
	static struct story all, some;
	char bytes[4000];
	unsigned told = 0, lines = 0;

	fixture->watchdog.reset = pattern_free(fixture->watchdog.reset);
	fixture->watchdog.reset = compile("^ok ?$");
	fixture->description.patterns[PATTERN_JOB_FAIL] = compile("^=> (nothing|please)");
	for (unsigned seed = 0; seed < 300; seed++) {
		unsigned next = seed;
		size_t length = 0;

		while (length + 30 < sizeof(bytes)) {
			const char *word = words[(next = next * 1103515245 + 12345) / 65536 %
						 ARRAY_SIZE(words)];

			length += (size_t)snprintf(bytes + length, sizeof(bytes) - length, "%s",
						   word);
		}
		hear(&all, &fixture->description, NULL, bytes, length, seed);
		hear(&some, &fixture->description, quiet, bytes, length, seed);
		assert_string_equal(some.told, all.told);
		told += (unsigned)strlen(all.told);
		lines += all.lines - some.lines;
	}
	/* The test must not become empty. */
	assert_true(told > 10000 && lines > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(matches_are_sticky_and_told_once_a_boot, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(one_line_may_match_several, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			an_unfinished_line_is_matched_as_it_stands_and_not_again, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(a_watchdog_starts_resets_and_stops, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_watchdog_without_a_timeout_is_inert, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			kernel_faults_and_the_banner_are_noted_for_this_boot, set_up, tear_down),
		cmocka_unit_test_setup_teardown(behind_a_limit_nothing_is_tried_any_more, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(the_time_of_all_searches_together_is_bounded,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_ordinary_lines_are_within_the_time, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_matches_is_the_same_without_the_quiet_lines,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_pattern_without_needles_is_tried_on_every_line,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_pattern_over_its_limit_is_told_with_its_name,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

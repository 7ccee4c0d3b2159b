/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "hw/sim-script.h"

static char folder[] = "/tmp/test-sim-script.XXXXXX";

static int load_bytes(struct sim_script *script, const char *text, size_t length, struct error *err)
{
	char path[64];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/script", folder);
	file = fopen(path, "we");
	assert_non_null(file);
	(void)fwrite(text, 1, length, file);
	(void)fclose(file);
	return sim_script_load(script, path, err);
}

static int load(struct sim_script *script, const char *text, struct error *err)
{
	return load_bytes(script, text, strlen(text), err);
}

static int set_up(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[64];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static void every_kind_of_line_is_read(void **state)
{
	struct sim_script script;
	struct error err;

	(void)state;
	assert_int_equal(load(&script,
			      "# a board\n"
			      "at 200ms send \"a\\r\\n\\t\\e\\0\\\\\\\"\\x7f\"   # behind it\r\n"
			      "every 1s send \"tick\"\n"
			      "on \"root\\n\" send \"# \"\n"
			      "boot 2\n"
			      "at 0 flood 4000 for 2s\n"
			      "boot any\n"
			      "at 3s flood max\n"
			      "at 4s crash\nat 4s silent\nat 4s reboot\nat 4s poweroff\n"
			      "\n"
			      "ignore off 2\nlie on\ndelay read 30s\nfail off \"no\"\n",
			      &err),
			 0);
	assert_int_equal(script.count, 9);
	assert_int_equal(script.lines[0].time_us, 200000);
	assert_int_equal(script.lines[0].length, 9);
	assert_memory_equal(script.lines[0].text, "a\r\n\t\x1b\0\\\"\x7f", 9);
	assert_int_equal(script.lines[1].when, SIM_EVERY);
	assert_string_equal(script.lines[2].trigger, "root\n");
	assert_int_equal(script.lines[3].boot, 2);
	assert_int_equal(script.lines[3].rate, 4000);
	assert_int_equal(script.lines[3].for_us, 2000000);
	assert_int_equal(script.lines[4].boot, 0);
	assert_true(script.lines[4].rate == UINT64_MAX);
	assert_int_equal(script.lines[8].action, SIM_POWEROFF);
	assert_int_equal(script.ignore_off, 2);
	assert_int_equal(script.lie, 1);
	assert_int_equal(script.delay_us[SIM_VERB_READ], 30000000);
	assert_string_equal(script.fail[SIM_VERB_OFF], "no");
	sim_script_done(&script);
}

static void an_empty_script_is_a_silent_honest_board(void **state)
{
	struct sim_script script;
	struct error err;

	(void)state;
	assert_int_equal(load(&script, "", &err), 0);
	assert_int_equal(script.count, 0);
	assert_int_equal(script.lie, -1);
	assert_int_equal(script.ignore_off, 0);
	sim_script_done(&script);
	assert_int_equal(load(&script, "ignore off", &err), 0);
	assert_true(script.ignore_off == UINT_MAX);
	sim_script_done(&script);
}

static void each_fault_has_its_line_and_its_words(void **state)
{
	static const struct {
		const char *text, *expected;
	} rows[] = {
		{ "at", "script:1: a time expected" },
		{ "\n\nwhen 1s crash",
		  "script:3: at, every, on, boot, ignore, lie, delay or fail expected, not 'when'" },
		{ "at 1s jump", "script:1: send, print, flood, silent, crash, reboot or poweroff "
				"expected, not 'jump'" },
		{ "at 1s send x", "script:1: a text in quotes expected" },
		{ "at 1s send \"x", "script:1: a text without closing quote" },
		{ "at 1s send \"\\q\"", "script:1: unknown escape \\q" },
		{ "at 1s send \"\\x1\"", "script:1: \\x needs two hex digits" },
		{ "at 1s crash now", "script:1: 'now' is one word too many" },
		{ "every 0 crash", "script:1: every needs a time above 0" },
		{ "at 1s flood", "script:1: bytes a second expected, or max" },
		{ "at 1s flood max until 3s", "script:1: 'for' expected, not 'until'" },
		{ "ignore on", "script:1: 'off' expected, not 'on'" },
		{ "lie perhaps", "script:1: on or off expected, not 'perhaps'" },
		{ "delay down 1s", "script:1: on, off or read expected, not 'down'" },
		{ "delay on", "script:1: a time expected" },
		{ "\"at\" 1s crash", "script:1: at, every, on, boot, ignore, lie, delay or fail "
				     "expected, not 'at'" },
		{ "at soon crash", "script:1: 'soon' is not a duration such as 500ms, 30s, 10m, "
				   "2h, 1d or a number of seconds" },
		{ "at 1s", "script:1: send, print, flood, silent, crash, reboot or poweroff "
			   "expected" },
		{ "at 1s send", "script:1: a text in quotes expected" },
		{ "at 1s send \"\"", "script:1: a text in quotes expected" },
		{ "at 1s send \"x\\", "script:1: a backslash at the end of the line" },
		{ "at 1s send \"\\xg0\"", "script:1: \\x needs two hex digits" },
		{ "on x send \"y\"", "script:1: a text in quotes expected" },
		{ "at 1s print", "script:1: the name of a file expected" },
		{ "at 1s flood 0", "script:1: '0' is not a number from 1 to 4294967295" },
		{ "at 1s flood max for", "script:1: a time expected" },
		{ "boot", "script:1: a number expected, or any" },
		{ "boot 0", "script:1: '0' is not a number from 1 to 1000000" },
		{ "boot 1 2", "script:1: '2' is one word too many" },
		{ "ignore", "script:1: 'off' expected" },
		{ "ignore off never", "script:1: 'never' is not a number from 1 to 1000000" },
		{ "lie", "script:1: on or off expected" },
		{ "fail on", "script:1: a text in quotes expected" },
		{ "fail over \"x\"", "script:1: on, off or read expected, not 'over'" },
		{ "1 2 3 4 5 6 7 8 9", "script:1: too many words" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sim_script script;
		struct error err;

		assert_int_equal(load(&script, rows[i].text, &err), -EINVAL);
		assert_non_null(strstr(err.text, "script:"));
		assert_string_equal(strstr(err.text, "script:"), rows[i].expected);
	}
}

static void nothing_of_a_script_is_left_out(void **state)
{
	static const char text[] = "at 1s crash\nat 2s send \"a\0b\"\nat 3s crash\n";
	struct sim_script script;
	struct error err;

	(void)state;
	assert_int_equal(load_bytes(&script, text, sizeof(text) - 1, &err), -EINVAL);
	assert_string_equal(strstr(err.text, "script:"),
			    "script:2: a NUL character; write it as \\0");
	assert_int_equal(script.count, 0);
}

static void a_script_has_its_limits(void **state)
{
	static const char line[] = "at 1s crash\n";
	enum { LENGTH = sizeof(line) - 1, LINES = 1000 };
	static char text[(LINES + 1) * LENGTH];
	const size_t allowed = sizeof(text) - LENGTH;
	struct sim_script script;
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = line[i % LENGTH];
	assert_int_equal(load_bytes(&script, text, allowed, &err), 0);
	assert_int_equal(script.count, LINES);
	sim_script_done(&script);
	assert_int_equal(load_bytes(&script, text, sizeof(text), &err), -E2BIG);
	assert_string_equal(strstr(err.text, "script:"), "script:1001: more than 1000 lines");
}

static void a_file_is_printed_as_it_is(void **state)
{
	struct sim_script script;
	struct error err;
	char path[64];
	FILE *file;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/boot log", folder);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite("a\0\xff\r\n", 1, 5, file), 5);
	(void)fclose(file);
	assert_int_equal(load(&script, "on \"go\" print \"boot log\"", &err), 0);
	assert_int_equal(script.lines[0].action, SIM_SEND);
	assert_int_equal(script.lines[0].length, 5);
	assert_memory_equal(script.lines[0].text, "a\0\xff\r\n", 5);
	sim_script_done(&script);
	/* It is named when it cannot be read, too. */
	assert_int_equal(load(&script, "at 1s print .", &err), -EISDIR);
	assert_string_equal(strstr(err.text, "/."), "/.: cannot read: Is a directory");
	(void)snprintf(path, sizeof(path), "%s/much", folder);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), (4 << 20) + 1), 0);
	(void)fclose(file);
	assert_int_equal(load(&script, "at 1s print much", &err), -EFBIG);
	assert_string_equal(strstr(err.text, "/much"), "/much: longer than 4194304 bytes");
}

static void the_last_word_on_a_thing_counts(void **state)
{
	struct sim_script script;
	struct error err;

	(void)state;
	assert_int_equal(load(&script,
			      "fail on \"a\"\nfail on \"b\"\nlie on\nlie off\n"
			      "delay off 1s\ndelay off 2s",
			      &err),
			 0);
	assert_string_equal(script.fail[SIM_VERB_ON], "b");
	assert_int_equal(script.lie, 0);
	assert_int_equal(script.delay_us[SIM_VERB_OFF], 2000000);
	sim_script_done(&script);
}

static void a_missing_file_is_named(void **state)
{
	struct sim_script script;
	struct error err;

	(void)state;
	assert_int_equal(sim_script_load(&script, "/nowhere/script", &err), -ENOENT);
	assert_string_equal(err.text, "/nowhere/script: No such file or directory");
	assert_int_equal(load(&script, "at 1s print nothing", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nothing: No such file or directory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_line_is_read),
		cmocka_unit_test(an_empty_script_is_a_silent_honest_board),
		cmocka_unit_test(each_fault_has_its_line_and_its_words),
		cmocka_unit_test(nothing_of_a_script_is_left_out),
		cmocka_unit_test(a_script_has_its_limits),
		cmocka_unit_test(a_file_is_printed_as_it_is),
		cmocka_unit_test(the_last_word_on_a_thing_counts),
		cmocka_unit_test(a_missing_file_is_named),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

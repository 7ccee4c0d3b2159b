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

static int load(struct sim_script *script, const char *text, struct error *err)
{
	char path[64];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/script", folder);
	file = fopen(path, "we");
	assert_non_null(file);
	(void)fputs(text, file);
	(void)fclose(file);
	return sim_script_load(script, path, err);
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
		cmocka_unit_test(a_missing_file_is_named),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

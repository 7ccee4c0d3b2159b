/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "cli/options.h"

struct values {
	const char *text;
	struct option_list list;
	bool flag;
};

static int scan(struct values *values, struct cli *cli, bool stop, struct option_list *operands,
		struct error *err, char **argv)
{
	const struct option options[] = {
		{ "text", "TEXT", OPTION_TEXT, &values->text, "a text" },
		{ "list", "ITEM", OPTION_LIST, &values->list, "items" },
		{ "flag", NULL, OPTION_FLAG, &values->flag, "a flag" },
		{ "later", NULL, OPTION_NOT_YET, NULL, NULL },
		{ "later-value", "V", OPTION_NOT_YET_VALUE, NULL, NULL },
		{ 0 },
	};
	int argc = 0;

	while (argv[argc])
		argc++;
	return options_scan(options, cli, stop, operands, argc, argv, err);
}

#define WORDS(...) ((char *[]){ name, __VA_ARGS__, NULL })

static char name[] = "verb";

static void options_stand_anywhere_and_have_two_forms(void **state)
{
	char a[] = "a", text[] = "--text", value[] = "-x y", list[] = "--list=1=2", b[] = "b",
	     flag[] = "--flag", more[] = "--list", two[] = "2", json[] = "--json",
	     socket[] = "--socket=/s";
	struct option_list operands = { 0 };
	struct values values = { 0 };
	struct cli cli = { 0 };
	struct error err;

	(void)state;
	assert_int_equal(scan(&values, &cli, false, &operands, &err,
			      WORDS(a, text, value, list, b, flag, more, two, json, socket)),
			 0);
	assert_int_equal(operands.count, 2);
	assert_string_equal(operands.items[0], "a");
	assert_string_equal(operands.items[1], "b");
	assert_string_equal(values.text, "-x y");
	assert_int_equal(values.list.count, 2);
	assert_string_equal(values.list.items[0], "1=2");
	assert_string_equal(values.list.items[1], "2");
	assert_true(values.flag);
	assert_true(cli.json);
	assert_string_equal(cli.socket, "/s");
	option_list_done(&operands);
	option_list_done(&values.list);
}

static void two_dashes_end_the_options(void **state)
{
	char end[] = "--", flag[] = "--flag", dash[] = "-", again[] = "--";
	struct option_list operands = { 0 };
	struct values values = { 0 };
	struct cli cli = { 0 };
	struct error err;

	(void)state;
	assert_int_equal(scan(&values, &cli, false, &operands, &err, WORDS(dash, end, flag, again)),
			 0);
	assert_false(values.flag);
	assert_int_equal(operands.count, 3);
	assert_string_equal(operands.items[0], "-");
	assert_string_equal(operands.items[1], "--flag");
	assert_string_equal(operands.items[2], "--");
	option_list_done(&operands);
}

static void what_follows_the_verb_is_left_alone(void **state)
{
	char json[] = "--json", verb[] = "run", flag[] = "--unknown", end[] = "--";
	struct option_list operands = { 0 };
	struct values values = { 0 };
	struct cli cli = { 0 };
	struct error err;

	(void)state;
	assert_int_equal(scan(&values, &cli, true, &operands, &err, WORDS(json, verb, flag, end)),
			 0);
	assert_true(cli.json);
	assert_int_equal(operands.count, 3);
	assert_string_equal(operands.items[1], "--unknown");
	option_list_done(&operands);
}

static void each_fault_has_its_words(void **state)
{
	static const struct {
		const char *words[3];
		int r;
		const char *text;
	} cases[] = {
		{ { "--flga" }, -EINVAL, "unknown option '--flga'; did you mean '--flag'?" },
		{ { "--fla" }, -EINVAL, "unknown option '--fla'; did you mean '--flag'?" },
		{ { "--zzzzzz=1" }, -EINVAL, "unknown option '--zzzzzz'" },
		{ { "--=1" }, -EINVAL, "unknown option '--'" },
		{ { "--\x1b[H" }, -EINVAL, "unknown option '--\\e[H'" },
		{ { "-f" }, -EINVAL, "unknown option '-f'" },
		{ { "-\x1b" }, -EINVAL, "unknown option '-\\e'" },
		{ { "--text" }, -EINVAL, "--text needs TEXT" },
		{ { "--text=" }, -EINVAL, "--text is empty" },
		{ { "--list", "" }, -EINVAL, "--list is empty" },
		{ { "--text=a", "--text=b" }, -EINVAL, "--text is given twice" },
		{ { "--flag=1" }, -EINVAL, "--flag takes no value" },
		{ { "--later" }, -ENOTSUP, "not yet: --later" },
		{ { "--later-value=3" }, -ENOTSUP, "not yet: --later-value" },
		{ { "--later-value", "3" }, -ENOTSUP, "not yet: --later-value" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct option_list operands = { 0 };
		struct values values = { 0 };
		char words[2][32] = { "", "" };
		struct cli cli = { 0 };
		struct error err;
		char *argv[4] = { name };

		for (size_t j = 0; j < 2 && cases[i].words[j]; j++) {
			(void)snprintf(words[j], sizeof(words[j]), "%s", cases[i].words[j]);
			argv[j + 1] = words[j];
		}
		assert_int_equal(scan(&values, &cli, false, &operands, &err, argv), cases[i].r);
		assert_string_equal(err.text, cases[i].text);
		option_list_done(&operands);
		option_list_done(&values.list);
	}
}

static void help_wins_over_what_comes_later(void **state)
{
	char help[] = "--help", short_help[] = "-h", wrong[] = "--wrong";
	struct option_list operands = { 0 };
	struct values values = { 0 };
	struct cli cli = { 0 };
	struct error err;

	(void)state;
	assert_int_equal(scan(&values, &cli, false, &operands, &err, WORDS(help, wrong)), 1);
	assert_int_equal(scan(&values, &cli, false, &operands, &err, WORDS(short_help)), 1);
	option_list_done(&operands);
}

static void a_list_has_a_limit(void **state)
{
	static char *argv[OPTION_LIST_MAX + 3];
	struct option_list operands = { 0 };
	struct values values = { 0 };
	struct cli cli = { 0 };
	struct error err;

	(void)state;
	for (size_t i = 0; i < OPTION_LIST_MAX + 2; i++)
		argv[i] = name;
	assert_int_equal(scan(&values, &cli, false, &operands, &err, argv), -EINVAL);
	assert_string_equal(err.text, "more than 1000 arguments");
	option_list_done(&operands);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_stand_anywhere_and_have_two_forms),
		cmocka_unit_test(two_dashes_end_the_options),
		cmocka_unit_test(what_follows_the_verb_is_left_alone),
		cmocka_unit_test(each_fault_has_its_words),
		cmocka_unit_test(help_wins_over_what_comes_later),
		cmocka_unit_test(a_list_has_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

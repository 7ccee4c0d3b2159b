/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dut/tokens.h"

/* The digests of "one", "two" and "three". */
#define ONE   "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
#define TWO   "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
#define THREE "8B5B9DB0C13DB24256C829AA364AA90C6D2EBA318B9232A4AB9313B954D3555F"

static int parse(struct tokens *tokens, const char *text, size_t length, char *faults, size_t size)
{
	struct problems problems = { 0 };
	struct error err;
	int r = tokens_parse(tokens, "t", text, length, &problems, &err);
	size_t used = 0;

	faults[0] = '\0';
	for (size_t i = 0; i < problems.count; i++)
		used += (size_t)snprintf(faults + used, size - used, "%u:%u: %s\n",
					 problems.items[i].line, problems.items[i].column,
					 problems.items[i].text);
	assert_int_equal(r < 0, problems_any(&problems));
	if (r < 0)
		assert_string_not_equal(err.text, "");
	problems_done(&problems);
	return r;
}

static void a_file_of_tokens_is_read(void **state)
{
	static const char text[] = "# who may\n\n  \t\r\n"
				   "ci use " ONE "\n"
				   "\tweb.page-1   view\t" TWO " \r\n"
				   "  # indented\n"
				   "root admin " THREE;
	struct tokens tokens = { 0 };
	const struct token *token;
	char faults[1024];

	(void)state;
	assert_int_equal(parse(&tokens, text, strlen(text), faults, sizeof(faults)), 0);
	assert_int_equal(tokens.count, 3);
	token = tokens_find(&tokens, "one", 3);
	assert_ptr_equal(token, &tokens.items[0]);
	assert_string_equal(token->name, "ci");
	assert_int_equal(token->role, ACCESS_USE);
	assert_int_equal(token->line, 4);
	assert_int_equal(tokens_find(&tokens, "two", 3)->role, ACCESS_VIEW);
	assert_int_equal(tokens_find(&tokens, "three", 5)->role, ACCESS_ADMIN);
	tokens_done(&tokens);
}

static void what_is_no_secret_finds_nobody(void **state)
{
	static const char text[] = "ci use " ONE "\n";
	struct tokens tokens = { 0 };
	char faults[64], longest[TOKENS_MAX_SECRET + 1];

	(void)state;
	assert_null(tokens_find(&tokens, "one", 3));
	assert_int_equal(parse(&tokens, text, strlen(text), faults, sizeof(faults)), 0);
	assert_null(tokens_find(&tokens, "", 0));
	assert_null(tokens_find(&tokens, "ONE", 3));
	assert_null(tokens_find(&tokens, "one ", 4));
	assert_null(tokens_find(&tokens, ONE, strlen(ONE)));
	memset(longest, 'o', sizeof(longest));
	assert_null(tokens_find(&tokens, longest, sizeof(longest)));
	tokens_done(&tokens);
}

static void every_fault_is_named_and_no_secret_is(void **state)
{
	static const char text[] = "ci use\n"
				   "1ci use " ONE "\n"
				   "ci root " ONE "\n"
				   "ci use 1234\n"
				   "ci use dut_abcdefghijklmnopqrstuvwxyz234567\n"
				   "ci use " ONE " x\n"
				   "ci use " ONE "\n"
				   "ci view " TWO "\n"
				   "di view " ONE "\n"
				   "a\33b\0c use " THREE "\n";
	static const char expected[] =
		"1:1: a line is NAME ROLE SHA256, not 2 words\n"
		"2:1: '1ci' is no name: a letter, then at most 62 letters, digits, '_', '.', '-'\n"
		"3:4: 'root' is no role: view, use or admin\n"
		"4:8: this is no SHA-256 of 64 hexadecimal digits, as 'dut token new' prints it\n"
		"5:8: this is a secret itself, which belongs to its owner alone: take it away, and "
		"make a new one with 'dut token new'\n"
		"6:1: a line is NAME ROLE SHA256, not 4 words\n"
		"8:1: 'ci' stands already in line 7\n"
		"9:9: this is the secret of 'ci' in line 7\n"
		"10:1: 'a\\eb\\x00c' is no name: a letter, then at most 62 letters, digits, '_', "
		"'.', '-'\n";
	struct tokens tokens = { 0 };
	char faults[2048];

	(void)state;
	assert_int_equal(parse(&tokens, text, sizeof(text) - 1, faults, sizeof(faults)), -EBADMSG);
	assert_string_equal(faults, expected);
	assert_int_equal(tokens.count, 0);
}

static void there_are_so_many_and_no_more(void **state)
{
	struct tokens tokens = { 0 };
	char faults[256];
	free_ char *text = malloc((size_t)(TOKENS_MAX + 1) * 100);
	size_t used = 0, before = 0;

	(void)state;
	assert_non_null(text);
	for (unsigned i = 0; i <= TOKENS_MAX; i++) {
		before = used;
		used += (size_t)snprintf(text + used, 100, "t%u use %064u\n", i, i);
	}
	assert_int_equal(parse(&tokens, text, before, faults, sizeof(faults)), 0);
	assert_int_equal(tokens.count, TOKENS_MAX);
	tokens_done(&tokens);
	assert_int_equal(parse(&tokens, text, used, faults, sizeof(faults)), -EBADMSG);
	assert_string_equal(faults, "1001:1: more than 1000 tokens\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_of_tokens_is_read),
		cmocka_unit_test(what_is_no_secret_finds_nobody),
		cmocka_unit_test(every_fault_is_named_and_no_secret_is),
		cmocka_unit_test(there_are_so_many_and_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/lines.h"

enum { MAX_TOLD = 64 };

struct told {
	unsigned count;
	struct {
		char text[80]; /* the first bytes */
		size_t length;
		uint64_t offset;
		bool ended;
	} lines[MAX_TOLD];
};

static void tell(const struct line *line, void *data)
{
	struct told *told = data;
	size_t head = line->length < 79 ? line->length : 79;

	assert_true(told->count < MAX_TOLD);
	memcpy(told->lines[told->count].text, line->text, head);
	told->lines[told->count].text[head] = '\0';
	told->lines[told->count].length = line->length;
	told->lines[told->count].offset = line->offset;
	told->lines[told->count].ended = line->ended;
	if (line->ended)
		assert_memory_equal(line->text + line->length, "\r\n", 2);
	told->count++;
}

static void feed(struct lines *lines, uint64_t *offset, const char *bytes, size_t length,
		 struct told *told)
{
	assert_int_equal(lines_feed(lines, *offset, bytes, length, tell, told), 0);
	*offset += length;
}

static void assert_line(const struct told *told, unsigned i, const char *text, uint64_t offset,
			bool ended)
{
	assert_true(i < told->count);
	assert_string_equal(told->lines[i].text, text);
	assert_int_equal(told->lines[i].offset, offset);
	assert_int_equal(told->lines[i].ended, ended);
}

static void lines_end_at_lf_crlf_and_crcrlf(void **state)
{
	static const char bytes[] = "one\ntwo\r\nthree\r\r\n\r\nfour";
	cleanup_(lines_done) struct lines lines = { 0 };
	struct told told = { 0 };
	uint64_t offset = 1000;

	(void)state;
	feed(&lines, &offset, bytes, sizeof(bytes) - 1, &told);
	assert_int_equal(told.count, 4);
	assert_line(&told, 0, "one", 1000, true);
	assert_line(&told, 1, "two", 1004, true);
	assert_line(&told, 2, "three", 1009, true);
	assert_line(&told, 3, "", 1017, true);
	assert_true(lines_pending(&lines));
	lines_flush(&lines, tell, &told);
	assert_line(&told, 4, "four", 1019, false);
}

static void any_cut_of_the_bytes_gives_the_same_lines(void **state)
{
	static const char bytes[] = "a\r\nbb\r\r\n\nccc\rd\r\n";
	static const size_t length = sizeof(bytes) - 1;

	(void)state;
	for (size_t cut = 0; cut <= length; cut++)
		for (size_t second = cut; second <= length; second++) {
			cleanup_(lines_done) struct lines lines = { 0 };
			struct told told = { 0 };
			uint64_t offset = 0;

			feed(&lines, &offset, bytes, cut, &told);
			feed(&lines, &offset, bytes + cut, second - cut, &told);
			feed(&lines, &offset, bytes + second, length - second, &told);
			assert_int_equal(told.count, 4);
			assert_line(&told, 0, "a", 0, true);
			assert_line(&told, 1, "bb", 3, true);
			assert_line(&told, 2, "", 8, true);
			assert_line(&told, 3, "ccc\rd", 9, true);
			assert_false(lines_pending(&lines));
		}
}

static void three_carriage_returns_leave_one_in_the_line(void **state)
{
	cleanup_(lines_done) struct lines lines = { 0 };
	struct told told = { 0 };
	uint64_t offset = 0;

	(void)state;
	feed(&lines, &offset, "x\r\r\r\n", 5, &told);
	assert_line(&told, 0, "x\r", 0, true);
}

static void all_byte_values_go_through(void **state)
{
	cleanup_(lines_done) struct lines lines = { 0 };
	struct told told = { 0 };
	char bytes[256];
	uint64_t offset = 0;

	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)i;
	feed(&lines, &offset, bytes, sizeof(bytes), &told);
	assert_int_equal(told.count, 1);
	assert_int_equal(told.lines[0].length, 10);
	lines_flush(&lines, tell, &told);
	assert_int_equal(told.lines[1].length, 245);
	assert_int_equal(told.lines[1].offset, 11);
}

static void an_unfinished_line_is_told_once_until_it_grows(void **state)
{
	cleanup_(lines_done) struct lines lines = { 0 };
	struct told told = { 0 };
	uint64_t offset = 5;

	(void)state;
	feed(&lines, &offset, "login: ", 7, &told);
	lines_flush(&lines, tell, &told);
	assert_false(lines_pending(&lines));
	lines_flush(&lines, tell, &told);
	assert_int_equal(told.count, 1);
	feed(&lines, &offset, "root", 4, &told);
	assert_true(lines_pending(&lines));
	lines_flush(&lines, tell, &told);
	assert_line(&told, 1, "login: root", 5, false);
	feed(&lines, &offset, "\n", 1, &told);
	assert_line(&told, 2, "login: root", 5, true);
	assert_false(lines_pending(&lines));
}

/* Nothing before a '!' needs a look. */
static size_t until_a_mark(const char *bytes, size_t length, void *data)
{
	const char *mark = memchr(bytes, '!', length);

	(void)data;
	return mark ? (size_t)(mark - bytes) : length;
}

static void lines_that_need_no_look_are_not_told(void **state)
{
	static const char bytes[] = "a\r\nbb\n\nc!\r\n!\nd\r\ne!\r\r\nf!\r\n\r\ng";
	static const size_t length = sizeof(bytes) - 1;

	(void)state;
	for (size_t cut = 0; cut <= length; cut++) {
		cleanup_(lines_done) struct lines lines = { .quiet = until_a_mark };
		struct told told = { 0 };
		uint64_t offset = 0;
		unsigned found = 0;

		feed(&lines, &offset, bytes, cut, &told);
		feed(&lines, &offset, bytes + cut, length - cut, &told);
		/* A line that comes in two parts is told in any case. */
		assert_in_range(told.count, 4, 5);
		for (unsigned i = 0; i < told.count; i++)
			found += strchr(told.lines[i].text, '!') != NULL;
		assert_int_equal(found, 4);
		lines_flush(&lines, tell, &told);
		assert_line(&told, told.count - 1, "g", 27, false);
	}
}

static void a_line_over_the_limit_comes_in_pieces(void **state)
{
	static const size_t length = 3 * LINE_BYTES_MAX + 10;
	cleanup_(lines_done) struct lines lines = { 0 };
	free_ char *bytes = malloc(length + 1);
	struct told told = { 0 };
	uint64_t offset = 0;

	(void)state;
	assert_non_null(bytes);
	memset(bytes, 'x', length);
	bytes[length] = '\n';
	for (size_t at = 0; at <= length; at += 1000)
		feed(&lines, &offset, bytes + at, at + 1000 <= length + 1 ? 1000 : length + 1 - at,
		     &told);
	assert_int_equal(told.count, 4);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(told.lines[i].length, LINE_BYTES_MAX);
		assert_int_equal(told.lines[i].offset, i * LINE_BYTES_MAX);
		assert_false(told.lines[i].ended);
	}
	assert_int_equal(told.lines[3].length, 10);
	assert_true(told.lines[3].ended);
	assert_true(lines.size <= 2 * LINE_BYTES_MAX);
}

static void a_line_of_exactly_the_limit_is_one_line(void **state)
{
	cleanup_(lines_done) struct lines lines = { 0 };
	free_ char *bytes = malloc(LINE_BYTES_MAX + 1);
	struct told told = { 0 };
	uint64_t offset = 0;

	(void)state;
	assert_non_null(bytes);
	memset(bytes, 'x', LINE_BYTES_MAX);
	bytes[LINE_BYTES_MAX] = '\n';
	feed(&lines, &offset, bytes, LINE_BYTES_MAX + 1, &told);
	assert_int_equal(told.count, 1);
	assert_int_equal(told.lines[0].length, LINE_BYTES_MAX);
	assert_true(told.lines[0].ended);
}

static void a_gap_ends_the_unfinished_line(void **state)
{
	cleanup_(lines_done) struct lines lines = { 0 };
	struct told told = { 0 };
	uint64_t offset = 0;

	(void)state;
	feed(&lines, &offset, "half", 4, &told);
	offset = 100;
	feed(&lines, &offset, "new\n", 4, &told);
	assert_line(&told, 0, "half", 0, false);
	assert_line(&told, 1, "new", 100, true);
}

static void a_reset_forgets_the_unfinished_line(void **state)
{
	cleanup_(lines_done) struct lines lines = { 0 };
	struct told told = { 0 };
	uint64_t offset = 0;

	(void)state;
	feed(&lines, &offset, "old", 3, &told);
	lines_reset(&lines);
	assert_false(lines_pending(&lines));
	feed(&lines, &offset, "new\n", 4, &told);
	assert_int_equal(told.count, 1);
	assert_line(&told, 0, "new", 3, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_end_at_lf_crlf_and_crcrlf),
		cmocka_unit_test(any_cut_of_the_bytes_gives_the_same_lines),
		cmocka_unit_test(three_carriage_returns_leave_one_in_the_line),
		cmocka_unit_test(all_byte_values_go_through),
		cmocka_unit_test(an_unfinished_line_is_told_once_until_it_grows),
		cmocka_unit_test(lines_that_need_no_look_are_not_told),
		cmocka_unit_test(a_line_over_the_limit_comes_in_pieces),
		cmocka_unit_test(a_line_of_exactly_the_limit_is_one_line),
		cmocka_unit_test(a_gap_ends_the_unfinished_line),
		cmocka_unit_test(a_reset_forgets_the_unfinished_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/lines.h"

/* The lines that came, with '|' behind each. */
struct seen {
	char text[256];
	size_t longest;
};

static void on_line(const char *line, size_t length, void *data)
{
	struct seen *seen = data;
	size_t used = strlen(seen->text);

	if (length > seen->longest)
		seen->longest = length;
	(void)snprintf(seen->text + used, sizeof(seen->text) - used, "%.*s|",
		       (int)(length < 20 ? length : 20), line);
}

static void lines_come_whole_however_the_bytes_come(void **state)
{
	static const char bytes[] = "one\n\ntwo\nthree\nno end";

	(void)state;
	for (size_t piece = 1; piece < sizeof(bytes); piece++) {
		struct seen seen = { 0 };
		struct lines *lines;
		struct error err;

		assert_int_equal(lines_new(&lines, &err), 0);
		for (size_t at = 0; at < sizeof(bytes) - 1; at += piece) {
			size_t left = sizeof(bytes) - 1 - at;

			assert_int_equal(lines_add(lines, bytes + at, left < piece ? left : piece,
						   on_line, &seen),
					 0);
		}
		assert_string_equal(seen.text, "one|two|three|");
		lines_free(lines);
	}
}

static void a_line_that_is_too_long_is_dropped_as_a_whole(void **state)
{
	char *block = malloc(65536);
	struct seen seen = { 0 };
	struct lines *lines;
	struct error err;

	(void)state;
	assert_non_null(block);
	memset(block, 'x', 65536);
	assert_int_equal(lines_new(&lines, &err), 0);
	for (size_t i = 0; i < LINES_MAX / 65536; i++)
		assert_int_equal(lines_add(lines, block, 65536, on_line, &seen), 0);
	assert_int_equal(lines_add(lines, "\n", 1, on_line, &seen), 0);
	assert_int_equal(seen.longest, LINES_MAX);

	seen = (struct seen){ 0 };
	for (size_t i = 0; i < 3 * LINES_MAX / 65536 + 1; i++)
		assert_int_equal(lines_add(lines, block, 65536, on_line, &seen), 0);
	assert_int_equal(lines_add(lines, "y\nshort\n", 8, on_line, &seen), 0);
	assert_string_equal(seen.text, "short|");
	lines_free(lines);
	free(block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_come_whole_however_the_bytes_come),
		cmocka_unit_test(a_line_that_is_too_long_is_dropped_as_a_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

static void texts_are_prefixed_as_they_rise(void **state)
{
	struct error err;
	int r;

	(void)state;
	errno = ENOENT;
	r = error_errno(&err, "chip '%s'", "gpiochip9");
	r = error_prefix(&err, r, "power driver '%s'", "gpio");
	assert_int_equal(r, -ENOENT);
	assert_string_equal(err.text,
			    "power driver 'gpio': chip 'gpiochip9': No such file or directory");
}

static void a_long_text_is_cut_not_overrun(void **state)
{
	char word[400];
	struct error err;

	(void)state;
	memset(word, 'x', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	assert_int_equal(error_set(&err, -EINVAL, "%s", word), -EINVAL);
	assert_int_equal(error_prefix(&err, -EINVAL, "%s", word), -EINVAL);
	assert_int_equal(error_code(&err, -EIO, "%s", word), -EIO);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void assert_whole(const struct error *err)
{
	size_t length = strlen(err->text);

	assert_true(text_is_printable(err->text, length));
	assert_true(length >= sizeof(err->text) - 4);
}

static void a_text_is_cut_between_characters(void **state)
{
	char word[400];
	struct error err;

	(void)state;
	for (size_t i = 0; i + 1 < sizeof(word); i += 2)
		memcpy(word + i, "\u00e4", 2);
	word[sizeof(word) - 2] = '\0';
	/* Behind an even and an odd number of bytes: one of them cuts a character. */
	(void)error_set(&err, -EINVAL, "%s", word);
	assert_whole(&err);
	(void)error_set(&err, -EINVAL, "x%s", word);
	assert_whole(&err);
	(void)error_prefix(&err, -EINVAL, "outer");
	assert_whole(&err);
	(void)error_prefix(&err, -EINVAL, "oute");
	assert_whole(&err);
	for (size_t cut = 220; cut < 260; cut++) {
		(void)error_code(&err, -EIO, "%.*s\u20ac\u20ac", (int)cut & ~1, word);
		assert_true(text_is_printable(err.text, strlen(err.text)));
	}
}

static void null_drops_the_text_and_keeps_the_code(void **state)
{
	(void)state;
	errno = EACCES;
	assert_int_equal(error_errno(NULL, "open"), -EACCES);
	assert_int_equal(error_oom(NULL), -ENOMEM);
	assert_int_equal(error_prefix(NULL, -EBUSY, "board"), -EBUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_are_prefixed_as_they_rise),
		cmocka_unit_test(a_long_text_is_cut_not_overrun),
		cmocka_unit_test(a_text_is_cut_between_characters),
		cmocka_unit_test(null_drops_the_text_and_keeps_the_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

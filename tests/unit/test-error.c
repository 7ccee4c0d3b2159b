/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

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
		cmocka_unit_test(null_drops_the_text_and_keeps_the_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

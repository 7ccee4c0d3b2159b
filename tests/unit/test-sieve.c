/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/sieve.h"

enum { OWNERS_MAX = 24000 };

CLEANUP_DEFINE(struct sieve *, sieve_free)

/* One needle for each owner; "" is an owner without needles, NULL one that is not there. */
static struct sieve *sieve_of(const char *const *texts, size_t count)
{
	struct sieve_owner *owners = calloc(count + 1, sizeof(*owners));
	struct needles *needles = calloc(count + 1, sizeof(*needles));
	struct sieve *sieve = NULL;

	assert_non_null(owners);
	assert_non_null(needles);
	for (size_t i = 0; i < count; i++) {
		if (!texts[i])
			continue;
		owners[i].needles = &needles[i];
		needles[i].count = *texts[i] != '\0';
		needles[i].items[0] = needle_of_text(texts[i], strlen(texts[i]));
	}
	assert_int_equal(sieve_new(&sieve, owners, count), 0);
	free(owners);
	free(needles);
	return sieve;
}

/* The owners that a text concerns, as "0 2 5". */
static void assert_passed(struct sieve *sieve, const char *text, size_t length,
			  const char *expected)
{
	char all[256] = "";

	sieve_scan(sieve, text, length);
	for (size_t i = sieve_next(sieve, 0); i != SIZE_MAX; i = sieve_next(sieve, i + 1)) {
		size_t used = strlen(all);

		assert_true(sieve_passed(sieve, i));
		(void)snprintf(all + used, sizeof(all) - used, "%s%zu", used ? " " : "", i);
	}
	if (strcmp(all, expected) != 0)
		fail_msg("'%.*s': '%s', not '%s'", (int)length, text, all, expected);
}

static void assert_concerns(struct sieve *sieve, const char *text, const char *expected)
{
	assert_passed(sieve, text, strlen(text), expected);
}

static void it_tells_whose_needles_are_there(void **state)
{
	static const char *const texts[] = { "Kernel panic", "BUG: ", "panic", "BUG: KASAN",
					     NULL,	     "",      "kernel" };
	cleanup_(sieve_freep) struct sieve *sieve = sieve_of(texts, ARRAY_SIZE(texts));

	(void)state;
	assert_concerns(sieve, "", "5");
	assert_concerns(sieve, "all is well", "5");
	assert_concerns(sieve, "[ 1.0] Kernel panic - not syncing", "0 2 5 6");
	assert_concerns(sieve, "BUG: KASAN: x", "1 3 5");
	assert_concerns(sieve, "BUG:KASAN", "5");
	assert_concerns(sieve, "bug: kAsAn, KERNEL", "1 3 5 6");
	assert_concerns(sieve, "panicpanicPanic", "2 5");
	assert_concerns(sieve, "pani", "5");
	assert_concerns(sieve, "pa", "5");
	assert_passed(sieve, "a\0panic", 7, "2 5");
	assert_passed(sieve, "panic", 4, "5");
}

/* Needles of every length, at every place of texts of every length, whatever lies behind them. */
static void a_needle_is_found_wherever_it_stands(void **state)
{
	static const char needle[] = "qwertyuiopQWERTYUIOP=-";
	char text[64], name[32];

	(void)state;
	for (size_t shortest = NEEDLE_MIN; shortest <= 8; shortest++)
		for (size_t length = shortest; length < sizeof(needle); length++) {
			const char *const texts[] = { name, shortest == 8 ? NULL : "#~#~#~#~" };
			cleanup_(sieve_freep) struct sieve *sieve = NULL;

			(void)snprintf(name, sizeof(name), "%.*s", (int)length, needle);
			sieve = sieve_of(texts, 2);
			for (size_t at = 0; at + length < sizeof(text); at++) {
				memset(text, '.', sizeof(text));
				memcpy(text + at, needle, length);
				for (size_t end = at + length; end <= sizeof(text); end++)
					assert_passed(sieve, text, end, "0");
				assert_passed(sieve, text, at + length - 1, "");
				/* What lies behind the end is not read as if it belonged to it. */
				text[at + length - 1] = '.';
				assert_passed(sieve, text, sizeof(text), "");
			}
		}
}

static void bytes_that_look_alike_are_told_apart(void **state)
{
	/* A bit is all that small and big letters differ in, and so do these. */
	static const char *const texts[] = { "[[[[[", "{{{{{", "@@@@@", "`````", "-----" };
	cleanup_(sieve_freep) struct sieve *sieve = sieve_of(texts, ARRAY_SIZE(texts));

	(void)state;
	assert_concerns(sieve, "x[[[[[x", "0");
	assert_concerns(sieve, "x{{{{{x", "1");
	assert_concerns(sieve, "x@@@@@x", "2");
	assert_concerns(sieve, "x`````x", "3");
	assert_concerns(sieve, "x\r\r\r\r\rx", "");
}

static void an_owner_may_have_several_needles(void **state)
{
	static const struct needles needles = {
		.count = 2,
		.items = { { 6, "failed" }, { 7, "timeout" } },
	};
	const struct sieve_owner owners[] = { { &needles } };
	cleanup_(sieve_freep) struct sieve *sieve = NULL;

	(void)state;
	assert_int_equal(sieve_new(&sieve, owners, 1), 0);
	assert_concerns(sieve, "it failed", "0");
	assert_concerns(sieve, "a timeout", "0");
	assert_concerns(sieve, "a timeou", "");
}

static void an_lf_stands_for_the_start_of_the_text(void **state)
{
	static const char *const texts[] = { "\nlogin", "\n=>", "\n[ " };
	cleanup_(sieve_freep) struct sieve *sieve = sieve_of(texts, ARRAY_SIZE(texts));

	(void)state;
	assert_concerns(sieve, "login", "0");
	assert_concerns(sieve, "Login: x", "0");
	assert_concerns(sieve, " login", "");
	assert_concerns(sieve, "logi", "");
	assert_concerns(sieve, "=>", "1");
	assert_concerns(sieve, "x=> ", "");
	assert_concerns(sieve, "=", "");
	assert_concerns(sieve, "ogin", "");
	assert_concerns(sieve, "[ 1.0] login", "2");
}

/* What is before the first needle, in many lines. */
static void assert_quiet(const char *const *needles, size_t count, const char *text, size_t length)
{
	cleanup_(sieve_freep) struct sieve *sieve = sieve_of(needles, count);

	assert_int_equal(sieve_find(sieve, text, strlen(text)), length);
}

static void it_tells_how_much_of_a_text_concerns_nobody(void **state)
{
	static const char *const needles[] = { "panic", "\nlogin", NULL };
	static const char *const all[] = { "panic", "" };

	(void)state;
	assert_quiet(needles, 3, "", 0);
	assert_quiet(needles, 3, "all is well\r\n", 13);
	assert_quiet(needles, 3, "well\r\na panic\r\npanic\r\n", 8);
	assert_quiet(needles, 3, "panic", 0);
	assert_quiet(needles, 3, "login", 0);
	assert_quiet(needles, 3, "a login\r\nlogin\r\n", 9);
	assert_quiet(needles, 3, "a login\nlogi", 12);
	assert_quiet(needles, 3, "pani\nc", 6);
	assert_quiet(needles, 0, "panic", 5);
	assert_quiet(all, 2, "nothing", 0);
}

static void a_sieve_of_nobody_passes_nothing(void **state)
{
	cleanup_(sieve_freep) struct sieve *sieve = sieve_of(NULL, 0);

	(void)state;
	assert_concerns(sieve, "text", "");
}

/* More than there is room for: those beyond are concerned by everything, and none is missed. */
static void no_number_of_owners_is_too_large(void **state)
{
	static char names[OWNERS_MAX][8];
	static const char *texts[OWNERS_MAX];
	cleanup_(sieve_freep) struct sieve *sieve = NULL;
	size_t beyond = 0;

	(void)state;
	for (size_t i = 0; i < OWNERS_MAX; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "<%05zu>", i);
		texts[i] = names[i];
	}
	sieve = sieve_of(texts, OWNERS_MAX);
	sieve_scan(sieve, "nothing", 7);
	for (size_t i = sieve_next(sieve, 0); i != SIZE_MAX; i = sieve_next(sieve, i + 1))
		beyond++;
	assert_true(beyond > 0 && beyond < OWNERS_MAX);
	for (size_t i = 0; i < OWNERS_MAX; i += 97) {
		sieve_scan(sieve, names[i], 7);
		assert_true(sieve_passed(sieve, i));
	}
}

/* A thousand needles at each place of a line cost as much as some do. */
static void needles_that_are_all_alike_cost_no_more(void **state)
{
	static char names[OWNERS_MAX][8], line[1 << 20];
	static const char *texts[OWNERS_MAX];
	cleanup_(sieve_freep) struct sieve *sieve = NULL;
	clock_t since;

	(void)state;
	for (size_t i = 0; i < OWNERS_MAX; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "aaaaa%c", 'b' + (int)(i % 20));
		texts[i] = names[i];
	}
	sieve = sieve_of(texts, OWNERS_MAX);
	memset(line, 'a', sizeof(line));
	line[sizeof(line) - 1] = 'c';
	since = clock();
	sieve_scan(sieve, line, sizeof(line));
	assert_true((clock() - since) / CLOCKS_PER_SEC < 20);
	for (size_t i = 1; i < OWNERS_MAX; i += 20)
		assert_true(sieve_passed(sieve, i));
	assert_false(sieve_passed(sieve, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_tells_whose_needles_are_there),
		cmocka_unit_test(a_needle_is_found_wherever_it_stands),
		cmocka_unit_test(bytes_that_look_alike_are_told_apart),
		cmocka_unit_test(an_owner_may_have_several_needles),
		cmocka_unit_test(an_lf_stands_for_the_start_of_the_text),
		cmocka_unit_test(it_tells_how_much_of_a_text_concerns_nobody),
		cmocka_unit_test(a_sieve_of_nobody_passes_nothing),
		cmocka_unit_test(no_number_of_owners_is_too_large),
		cmocka_unit_test(needles_that_are_all_alike_cost_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

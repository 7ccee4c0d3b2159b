/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/needle.h"
#include "base/pattern.h"
#include "base/sieve.h"

CLEANUP_DEFINE(struct pattern *, pattern_free)
CLEANUP_DEFINE(struct sieve *, sieve_free)

/* ---- what is found in an expression ---- */

/* The needles as one text, "failed|timeout". */
static void assert_needles(const char *regex, const char *expected)
{
	struct needles needles = needles_of_regex(regex, strlen(regex));
	char all[NEEDLES_MAX * (NEEDLE_MAX + 1) + 1] = "";

	for (size_t i = 0; i < needles.count; i++) {
		size_t used = strlen(all);

		(void)snprintf(all + used, sizeof(all) - used, "%s%.*s", i > 0 ? "|" : "",
			       needles.items[i].length, needles.items[i].text);
	}
	if (strcmp(all, expected) != 0)
		fail_msg("'%s' has '%s', not '%s'", regex, all, expected);
}

static void what_every_match_holds_is_a_needle(void **state)
{
	static const struct {
		const char *regex, *needles;
	} cases[] = {
		{ "Kernel panic - not syncing: (.*)", "kernel panic - not synci" },
		{ "^\\[[0-9 .]{12}\\] reboot: Power [dD]own", "] reboot: power " },
		{ "BUG: (unable to handle|KASAN)", "bug: " },
		{ "-+\\[ cut here \\]-+", "[ cut here ]-" },
		{ "amdgpu .*: (failed|error|timeout)", "amdgpu " },
		{ "(failed|error|timeout)$", "failed|error|timeout" },
		{ "(login|Login incorrect):? ?$", "login|login incorrect" },
		{ "ab.*(one|two|(x|y)|three)", "" },
		{ "abc?def", "def" },
		{ "abc*defg", "defg" },
		{ "abc+de", "abc" },
		{ "abc{2}", "abc" },
		{ "abc{0,2}xyz", "xyz" },
		{ "abc{2}{0}defg", "defg" },
		{ "abc++", "abc" },
		{ "abc+?de", "abc" },
		{ "(abc)+", "abc" },
		{ "(?:abc)*", "" },
		{ "(abcd)?xyz", "xyz" },
		{ "(a(b(cdef)g)h)ij", "cdef" },
		{ "abc|", "" },
		{ "abc|x", "" },
		{ "(?i)Abc", "abc" },
		{ "(?-i:aBC)", "abc" },
		{ "(?P<name>abc)", "abc" },
		{ "(?<name>abc)|(?'other'def)", "abc|def" },
		{ "(?>abc)(?|def|gh)", "abc" },
		{ "(?=abcd)xyz", "xyz" },
		{ "(?!abcd)xyz", "xyz" },
		{ "(?<=abcd)xyz(?<!efgh)", "xyz" },
		{ "\\x1b\\[0m\\e\\[1m", "\033[0m\033[1m" },
		{ "a\\tbc", "a\tbc" },
		{ "a\\.b\\/c\\ d\\_", "a.b/c d_" },
		{ "${name} [^]]+ [[:alpha:]] []x]y", "{name} " },
		{ "[a\\]bcd]xyz", "xyz" },
		{ "abc\\ndefg\\r\\n", "defg" },
		{ "abc\ndefg", "defg" },
		{ "abc\\\ndefg", "defg" },
		{ "abc\\x0adefg\\x0D", "defg" },
		{ "^abc$|^de f$", "\nabc|\nde f" },
		{ "root@[a-z]+:[^#]*# $", "root@" },
		{ "^login", "\nlogin" },
		{ "\\Alogin", "\nlogin" },
		{ "^=> $", "\n=> " },
		{ "^(?:abc|def)", "abc|def" },
		{ "(?:^abc|def)$", "\nabc|def" },
		{ "^?abcd", "abcd" },
		{ "^\\A^abc", "\nabc" },
		{ "abc^defg", "\ndefg" },
		{ "(^|x)abc", "abc" },
		{ "(?m)^abc", "abc" },
		{ "(?m:x)?^abc", "abc" },
		{ "(?s)^abc(?i-m)", "\nabc" },
		{ "amdgpu .* timeout", "amdgpu " },
		{ "", "" },
		{ "ab", "" },
		{ "a.b.c", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_needles(cases[i].regex, cases[i].needles);
}

static void what_is_not_understood_has_no_needles(void **state)
{
	static const char *const regexes[] = {
		"(?x)a b c",
		"(?i-x:abc)",
		"(?^:abc)",
		"(abc)\\1def",
		"abc(?1)(def)",
		"abc(?R)?",
		"(?(1)abc|def)",
		"(*ACCEPT)abc",
		"abc(*F)|defg",
		"abc(?#x)def",
		"\\Qabc\\Edef",
		"abc\\Edef",
		"\\cAabc",
		"\\x{41}bcd",
		"\\x4zbcd",
		"\\o{101}bcd",
		"\\101bcd",
		"\\p{L}bcd",
		"\\Xbcd",
		"\\Cbcd",
		"\\N{2}bcd",
		"abc\\K(?C1)def",
		"(?P>n)(?<n>abc)",
		"(?&n)(?<n>abc)",
		"(?P=n)(?<n>abc)",
		"abc{,3}def",
		"abc{ 1}def",
		"abc{1 }def",
		"abc{1,def",
		"{1abc",
		"+abc",
		"abc[\\Q]\\E]",
		"abc[[.a.]]",
		"abc[[:<:]]",
		"abc[a",
		"(abc",
		"abc)",
		"abc\\",
		"(?<na me>abc)",
		"(?<*abc)def",
	};
	char deep[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(regexes); i++)
		assert_needles(regexes[i], "");
	memset(deep, '(', 50);
	memcpy(deep + 50, "abcd", 4);
	memset(deep + 54, ')', 50);
	deep[104] = '\0';
	assert_needles(deep, "");
	assert_needles("aaa|bbb|ccc|ddd|eee|fff|ggg|hhh|iii|jjj|kkk|lll|mmm|nnn|ooo|ppp|qqq", "");
}

/* ---- no match is missed ---- */

/* xorshift64: the same numbers everywhere. */
static uint64_t random_state;

static unsigned pick(unsigned below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)(random_state >> 33) % below;
}

struct text {
	char bytes[1024];
	size_t length;
};

static void add(struct text *text, const char *bytes)
{
	size_t length = strlen(bytes);

	if (text->length + length < sizeof(text->bytes)) {
		memcpy(text->bytes + text->length, bytes, length);
		text->length += length;
	}
}

static const char *pick_of(const char *const *texts, size_t count)
{
	return texts[pick((unsigned)count)];
}

/* Writes a random expression, and beside it a text that it is likely to match. */
static void write_alternatives(struct text *regex, struct text *sample, unsigned depth);

static void write_atom(struct text *regex, struct text *sample, unsigned depth)
{
	static const char *const words[] = { "abc",  "BUG", " - ",    "xyz ", "x",	"error",
					     "Oops", "Ab",  "panic:", "=> ",  "cabcab", "aaaa" };
	static const struct {
		const char *regex, *sample;
	} others[] = {
		{ ".", "q" },
		{ "\\d", "7" },
		{ "\\w+", "word" },
		{ "[abc]", "b" },
		{ "[^abc]", "z" },
		{ "[]a]", "]" },
		{ "[[:digit:]]", "3" },
		{ "\\[", "[" },
		{ "\\b", "" },
		{ "^", "" },
		{ "$", "" },
		{ "\\s", " " },
		{ "\\x41", "A" },
		{ "\\t", "\t" },
		{ "\\e\\[", "\033[" },
		{ "(?i)", "" },
		{ "(?s)", "" },
		{ "\\K", "" },
		{ "(?#abc)", "" },
		{ "\\Qa+b\\E", "a+b" },
		{ "{", "{" },
		{ "{x}", "{x}" },
		{ "(?=.)", "" },
		{ "(?!abc)", "" },
		{ "(?<=.)", "" },
		{ "(*ACCEPT)", "" },
		{ "\\x{42}", "B" },
		{ "\\.", "." },
		{ "(?<!abc)", "" },
		{ "]", "]" },
		{ "}", "}" },
		{ "\\r", "\r" },
	};
	static const char *const heads[] = { "(",     "(?:",   "(?i:", "(?>",	"(?|",
					     "(?=",   "(?!",   "(?<=", "(?<n>", "(?P<m>",
					     "(?-i:", "(?sm:", "(?x:", "(?'k'", "(?^:" };
	size_t i, before = sample->length;
	unsigned kind = pick(10);

	if (kind < 5 || depth == 0) {
		const char *word = pick_of(words, ARRAY_SIZE(words));

		add(regex, word);
		add(sample, word);
	} else if (kind < 7) {
		i = pick(ARRAY_SIZE(others));
		add(regex, others[i].regex);
		add(sample, others[i].sample);
	} else {
		const char *head = pick_of(heads, ARRAY_SIZE(heads));

		add(regex, head);
		write_alternatives(regex, sample, depth - 1);
		add(regex, ")");
		if (strchr(head, '=') || strchr(head, '!'))
			sample->length = before;
	}
}

static void write_branch(struct text *regex, struct text *sample, unsigned depth)
{
	static const char *const none[] = { "?", "*", "{0}", "{0,2}", "??", "*+", "{0}{2}", "*?" };
	static const char *const some[] = { "+", "{1}", "{1,3}", "+?", "++", "{1,}", "{1}{1}" };

	for (unsigned n = 1 + pick(4); n > 0; n--) {
		size_t before = sample->length;
		unsigned repeat = pick(8);

		write_atom(regex, sample, depth);
		if (repeat == 0) {
			add(regex, pick_of(none, ARRAY_SIZE(none)));
			sample->length = before;
		} else if (repeat == 1) {
			add(regex, pick_of(some, ARRAY_SIZE(some)));
		}
	}
}

static void write_alternatives(struct text *regex, struct text *sample, unsigned depth)
{
	unsigned branches = pick(3) ? 1 : 2 + pick(3), taken = pick(branches);

	for (unsigned i = 0; i < branches; i++) {
		size_t before = sample->length;

		if (i > 0)
			add(regex, "|");
		write_branch(regex, sample, depth);
		/* Only one of the branches is in the sample. */
		if (i == taken)
			continue;
		sample->length = before;
	}
}

/* Changes, drops or doubles a few bytes. */
static void spoil(struct text *text, const char *alphabet, unsigned times)
{
	for (; times > 0 && text->length > 0; times--) {
		size_t at = pick((unsigned)text->length);

		switch (pick(3)) {
		case 0:
			text->bytes[at] = alphabet[pick((unsigned)strlen(alphabet))];
			break;
		case 1:
			memmove(text->bytes + at, text->bytes + at + 1, text->length - at - 1);
			text->length--;
			break;
		default:
			if (text->length + 1 >= sizeof(text->bytes))
				break;
			memmove(text->bytes + at + 1, text->bytes + at, text->length - at);
			text->length++;
		}
	}
}

struct tally {
	unsigned patterns, with_needles, texts, matches, sifted;
};

/* A text with CR LF behind it goes through search and sieve, with and without. */
static void compare(struct pattern *pattern, struct sieve *sieve, const struct text *regex,
		    struct text *subject, struct tally *tally)
{
	size_t start, end, length = subject->length;

	memcpy(subject->bytes + length, "\r\n", 2);
	for (size_t extra = 0; extra <= 2; extra += 2) {
		bool passed;
		int r;

		sieve_scan(sieve, subject->bytes, length);
		passed = sieve_passed(sieve, 0);
		r = pattern_search(pattern, subject->bytes, length + extra, &start, &end);
		tally->texts++;
		tally->matches += r == 1;
		tally->sifted += !passed;
		if (r == 1 && !passed)
			fail_msg("'%.*s' matches '%.*s', and does not pass", (int)regex->length,
				 regex->bytes, (int)length, subject->bytes);
	}
}

static void compare_expression(const struct text *regex, const struct text *sample,
			       const char *alphabet, struct tally *tally)
{
	cleanup_(pattern_freep) struct pattern *pattern = NULL;
	cleanup_(sieve_freep) struct sieve *sieve = NULL;
	struct sieve_owner owner;
	struct error err;
	size_t offset;

	if (pattern_new(&pattern, regex->bytes, regex->length, &offset, &err) < 0)
		return;
	owner.needles = pattern_needles(pattern);
	assert_int_equal(sieve_new(&sieve, &owner, 1), 0);
	tally->patterns++;
	tally->with_needles += owner.needles->count > 0;
	for (unsigned i = 0; i < 10; i++) {
		struct text subject = { .length = pick(20) };

		for (size_t at = 0; at < subject.length; at++)
			subject.bytes[at] = alphabet[pick((unsigned)strlen(alphabet))];
		if (sample->length < 500) {
			memcpy(subject.bytes + subject.length, sample->bytes, sample->length);
			subject.length += sample->length;
		}
		spoil(&subject, alphabet, i / 2);
		if (subject.length + 2 < sizeof(subject.bytes))
			compare(pattern, sieve, regex, &subject, tally);
	}
}

/* DUT_ROUNDS=N multiplies the work, for a long run by hand; each round has a seed of its own. */
static unsigned rounds(void)
{
	const char *text = getenv("DUT_ROUNDS");

	return text ? (unsigned)strtoul(text, NULL, 10) : 1;
}

static void a_written_expression_never_matches_what_the_sieve_holds_back(void **state)
{
	struct tally tally = { 0 };

	(void)state;
	random_state = 88172645463325252;
	for (unsigned i = 0; i < 4000 * rounds(); i++) {
		struct text regex = { .length = 0 }, sample = { .length = 0 };

		write_alternatives(&regex, &sample, 3);
		spoil(&regex, "abc()[]{}|?*+\\^$.,01Q", pick(4) ? 0 : 1);
		compare_expression(&regex, &sample, "abcxBUG -\033[1]A", &tally);
	}
	print_message("# %u patterns, %u with needles, %u texts, %u matches, %u held back\n",
		      tally.patterns, tally.with_needles, tally.texts, tally.matches, tally.sifted);
	/* The test must not become empty. */
	assert_true(tally.with_needles > tally.patterns / 4);
	assert_true(tally.matches > tally.texts / 4);
	assert_true(tally.sifted > tally.texts / 20);
}

/* Whatever the library takes for an expression, however odd it looks. */
static void a_random_expression_never_matches_what_the_sieve_holds_back(void **state)
{
	static const char *const parts[] = {
		"a",   "b",   "aa",  "bb",  "abb", "(",	   ")",	  "|",	 "?",	 "*",
		"+",   "{",   "}",   "1",   "0",   ",",	   "[",	  "]",	 "^",	 "$",
		"\\",  ".",   "-",   "<",   "=",   "!",	   ":",	  "?:",	 "P<a>", "i",
		"x",   "#",   " ",   "\\Q", "\\E", "\\1",  "\\b", "\\x", "61",	 "62",
		"\\K", "\\A", "\\R", "\n",  "\\r", "\\N",  "'",	  ">",	 "(?",	 "(?:",
		"(?=", "(?<", "[:",  ":]",  "[^",  "\\\\", "*)",  "(*",	 "baab", "A",
	};
	struct tally tally = { 0 };

	(void)state;
	random_state = 1181783497276652981;
	for (unsigned i = 0; i < 20000 * rounds(); i++) {
		struct text regex = { .length = 0 }, sample = { .length = 0 };

		for (unsigned n = 2 + pick(10); n > 0; n--)
			add(&regex, parts[pick(4) ? pick(ARRAY_SIZE(parts)) : pick(5)]);
		for (size_t at = 0; at < regex.length; at++)
			if (strchr("ab10 {}[],", regex.bytes[at]))
				sample.bytes[sample.length++] = regex.bytes[at];
		compare_expression(&regex, &sample, "aabb10,]A", &tally);
	}
	print_message("# %u patterns, %u with needles, %u texts, %u matches, %u held back\n",
		      tally.patterns, tally.with_needles, tally.texts, tally.matches, tally.sifted);
	assert_true(tally.patterns > 2000);
	assert_true(tally.with_needles > 200);
	assert_true(tally.matches > tally.texts / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_every_match_holds_is_a_needle),
		cmocka_unit_test(what_is_not_understood_has_no_needles),
		cmocka_unit_test(a_written_expression_never_matches_what_the_sieve_holds_back),
		cmocka_unit_test(a_random_expression_never_matches_what_the_sieve_holds_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

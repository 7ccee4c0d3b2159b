/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/*
 * Texts without one of which a regular expression cannot match: "BUG: " for `BUG: (KASAN|soft)`,
 * "failed" and "timeout" for `.*(failed|timeout)`. A line is looked through for the needles of many
 * patterns at once (sieve.h), and only what is there is worth a search.
 *
 * Needles are bytes; the case of ASCII letters counts for nothing, so that it need not be known
 * where an expression looks at it. An LF is the start of the line: "\nlogin" for `^login`. Else
 * there is no CR and no LF in a needle.
 */
enum {
	NEEDLE_MIN = 3, /* bytes; a shorter one is in too many lines */
	NEEDLE_MAX = 24,
	NEEDLES_MAX = 16, /* of one expression */
};

struct needle {
	unsigned char length;
	char text[NEEDLE_MAX]; /* not terminated; letters are small */
};

/* One of them stands in every match. None: nothing is known, any text may match. */
struct needles {
	size_t count;
	struct needle items[NEEDLES_MAX];
};

/* A small letter for a big one of ASCII, and every other byte itself. */
static inline unsigned char needle_fold(unsigned char byte)
{
	return (unsigned char)(byte - 'A') < 26 ? byte | 0x20 : byte;
}

/* How rare these bytes of a needle are in what boards print; only to be compared. */
unsigned needle_rarity(const char *text, size_t length);

/* The needle of a text, of which the first NEEDLE_MAX bytes count. */
struct needle needle_of_text(const char *text, size_t length);

/*
 * The needles of an expression that the library has compiled, in its syntax and with the options of
 * pattern.c. What is not known for certain to be understood, in any release of the library, makes
 * it none.
 *
 * Source: pcre2pattern(3) of 10.42, pcre2syntax(3) of 10.45.
 */
struct needles needles_of_regex(const char *regex, size_t length);

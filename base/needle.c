/* SPDX-License-Identifier: MIT */
#include "base/needle.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

/*
 * A descent through the expression. Each item of a branch (a byte, a class, a group ...) with its
 * repeat is one step: bytes that must follow each other grow a run, everything else ends it. Of all
 * runs of a branch, and of the needles of groups in it that cannot be left out, the best one stays.
 * Alternatives need a needle each.
 *
 * The syntax is a list of what is known. Anything else (recursion, conditions, verbs, back
 * references, \Q, comments, the flag x ...) sets `lost`, and the expression has no needles. An item
 * that is known to be longer or more than it really is would be a miss, so in doubt it is lost.
 */
enum { DEPTH_MAX = 24 };

struct walker {
	const char *regex;
	size_t length, at;
	unsigned depth;
	bool multiline; /* the flag m was seen: `^` is no start of the line any more */
	bool lost;
};

enum item {
	ITEM_BYTE,  /* one byte that stands in the text as it is */
	ITEM_GROUP, /* one with needles, perhaps */
	ITEM_OTHER, /* anything of which nothing must be there */
};

enum repeat { REPEAT_ONCE, REPEAT_ONCE_OR_MORE, REPEAT_PERHAPS };

static void walk_alternatives(struct walker *walker, struct needles *ret);

static int peek(const struct walker *walker, size_t ahead)
{
	return ahead < walker->length - walker->at
		       ? (unsigned char)walker->regex[walker->at + ahead]
		       : -1;
}

static bool is_digit(int byte)
{
	return byte >= '0' && byte <= '9';
}

static bool is_letter(int byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

static bool is_one_of(int byte, const char *set)
{
	return byte > 0 && strchr(set, byte);
}

static bool take(struct walker *walker, const char *text)
{
	size_t length = strlen(text);

	if (walker->length - walker->at < length ||
	    memcmp(walker->regex + walker->at, text, length) != 0)
		return false;
	walker->at += length;
	return true;
}

/* ---- which needles are the better ones ---- */

unsigned needle_rarity(const char *text, size_t length)
{
	/* From the most common on, of some boot logs. What is not in it is rarer. */
	static const char common[] = " 0e1tsainr:o2dpl.3c\n45_f6[]m9x87bu/-gk=hvw";
	unsigned rarity = 0;

	for (size_t i = 0; i < length; i++) {
		const char *at = text[i] ? strchr(common, text[i]) : NULL;

		rarity += at ? 12 + (unsigned)(at - common) : 64;
	}
	return rarity;
}

/* The most common of them decides; with more of them there are more. */
static unsigned score(const struct needles *needles)
{
	unsigned least = UINT_MAX;

	for (size_t i = 0; i < needles->count; i++) {
		const struct needle *needle = &needles->items[i];
		unsigned rarity = needle_rarity(needle->text, needle->length);

		if (needle->length < NEEDLE_MIN)
			return 0;
		if (rarity < least)
			least = rarity;
	}
	return needles->count > 0
		       ? least * NEEDLES_MAX / (NEEDLES_MAX - 1 + (unsigned)needles->count)
		       : 0;
}

static void keep_better(struct needles *best, const struct needles *other)
{
	if (score(other) > score(best))
		*best = *other;
}

/* Ends a run of bytes. */
static void end_run(struct needle *run, struct needles *best)
{
	if (run->length >= NEEDLE_MIN)
		keep_better(best, &(struct needles){ .count = 1, .items = { *run } });
	run->length = 0;
}

static void grow_run(struct needle *run, unsigned char byte)
{
	/* The first bytes of a long run are a needle as well. */
	if (run->length < NEEDLE_MAX)
		run->text[run->length++] = (char)needle_fold(byte);
}

/* ---- items ---- */

static int hex_value(int byte)
{
	if (is_digit(byte))
		return byte - '0';
	byte |= 0x20;
	return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* A byte of the text; its end, CR LF, is not looked through. */
static enum item literal(int byte, unsigned char *ret_byte)
{
	*ret_byte = (unsigned char)byte;
	return byte == '\r' || byte == '\n' ? ITEM_OTHER : ITEM_BYTE;
}

/* The sieve takes each line for one that an LF stands before. */
static enum item start_of_line(unsigned char *ret_byte)
{
	*ret_byte = '\n';
	return ITEM_BYTE;
}

static enum item take_escape(struct walker *walker, unsigned char *ret_byte)
{
	int byte = peek(walker, 1);
	int high, low;

	walker->at += byte < 0 ? 1 : 2;
	switch (byte) {
	case 't':
		return literal('\t', ret_byte);
	case 'e':
		return literal('\033', ret_byte);
	case 'x':
		high = hex_value(peek(walker, 0));
		low = hex_value(peek(walker, 1));
		if (high < 0 || low < 0)
			break;
		walker->at += 2;
		return literal(high << 4 | low, ret_byte);
	case 'A':
		return start_of_line(ret_byte);
	default:
		if (is_one_of(byte, "dDwWsShHvVRrnfabBZzG"))
			return ITEM_OTHER;
		if (byte < 0 || is_digit(byte) || is_letter(byte))
			break;
		return literal(byte, ret_byte);
	}
	walker->lost = true;
	return ITEM_OTHER;
}

/* `[:alpha:]` and the like; a bracket within a class that begins anything else is lost. */
static void take_class_name(struct walker *walker)
{
	(void)take(walker, "[:");
	(void)take(walker, "^");
	while (is_letter(peek(walker, 0)))
		walker->at++;
	if (!take(walker, ":]"))
		walker->lost = true;
}

static void take_class(struct walker *walker)
{
	walker->at++;
	(void)take(walker, "^");
	(void)take(walker, "]");
	while (!walker->lost && !take(walker, "]")) {
		int byte = peek(walker, 0), next = peek(walker, 1);

		if (byte < 0 || (byte == '\\' && (next < 0 || is_one_of(next, "QEcN"))))
			walker->lost = true;
		else if (byte == '[' && is_one_of(next, ":.="))
			take_class_name(walker);
		else
			walker->at += byte == '\\' ? 2 : 1;
	}
}

static void take_name(struct walker *walker, int end)
{
	while (is_letter(peek(walker, 0)) || is_digit(peek(walker, 0)) || peek(walker, 0) == '_')
		walker->at++;
	if (peek(walker, 0) == end)
		walker->at++;
	else
		walker->lost = true;
}

enum group { GROUP_PLAIN, GROUP_LOOKAROUND, GROUP_FLAGS };

/* What stands behind "(?" in a group that is known; the flag x changes what a text means. */
static enum group take_group_head(struct walker *walker)
{
	if (take(walker, "=") || take(walker, "!") || take(walker, "<=") || take(walker, "<!"))
		return GROUP_LOOKAROUND;
	if (take(walker, ":") || take(walker, ">") || take(walker, "|"))
		return GROUP_PLAIN;
	if (take(walker, "P<") || take(walker, "<")) {
		take_name(walker, '>');
		return GROUP_PLAIN;
	}
	if (take(walker, "'")) {
		take_name(walker, '\'');
		return GROUP_PLAIN;
	}
	for (; is_one_of(peek(walker, 0), "imsnJU-"); walker->at++)
		walker->multiline = walker->multiline || peek(walker, 0) == 'm';
	if (take(walker, ":"))
		return GROUP_PLAIN;
	if (peek(walker, 0) != ')')
		walker->lost = true;
	return GROUP_FLAGS;
}

static enum item take_group(struct walker *walker, struct needles *ret)
{
	enum group group = GROUP_PLAIN;

	walker->at++;
	if (peek(walker, 0) == '*' || ++walker->depth > DEPTH_MAX) {
		walker->lost = true;
		return ITEM_OTHER;
	}
	if (take(walker, "?"))
		group = take_group_head(walker);
	if (!walker->lost && group != GROUP_FLAGS)
		walk_alternatives(walker, ret);
	if (!take(walker, ")"))
		walker->lost = true;
	walker->depth--;
	return group == GROUP_PLAIN ? ITEM_GROUP : ITEM_OTHER;
}

static enum item take_item(struct walker *walker, unsigned char *ret_byte, struct needles *ret)
{
	int byte = peek(walker, 0);

	switch (byte) {
	case '\\':
		return take_escape(walker, ret_byte);
	case '[':
		take_class(walker);
		return ITEM_OTHER;
	case '(':
		return take_group(walker, ret);
	case '^':
		walker->at++;
		return walker->multiline ? ITEM_OTHER : start_of_line(ret_byte);
	case '.':
	case '$':
		walker->at++;
		return ITEM_OTHER;
	case '*':
	case '+':
	case '?':
		walker->lost = true; /* a repeat of nothing */
		return ITEM_OTHER;
	default:
		/* A repeat with nothing before it, or what looks like one. */
		if (byte == '{' &&
		    (is_digit(peek(walker, 1)) || is_one_of(peek(walker, 1), ", \t")))
			walker->lost = true;
		walker->at++;
		return literal(byte, ret_byte);
	}
}

/* ---- repeats ---- */

/* Takes "{2}", "{2,}" or "{2,3}"; some releases know more, and what they might know is lost. */
static bool take_braces(struct walker *walker, enum repeat *ret)
{
	size_t digits = 1;
	bool zero = true;

	if (peek(walker, 0) != '{')
		return false;
	if (!is_digit(peek(walker, 1))) {
		walker->lost = walker->lost || is_one_of(peek(walker, 1), ", \t");
		return false; /* a brace that stands for itself */
	}
	for (; is_digit(peek(walker, digits)); digits++)
		zero = zero && peek(walker, digits) == '0';
	if (peek(walker, digits) == ',')
		for (digits++; is_digit(peek(walker, digits)); digits++)
			;
	if (peek(walker, digits) != '}') {
		walker->lost = true;
		return false;
	}
	walker->at += digits + 1;
	*ret = zero ? REPEAT_PERHAPS : REPEAT_ONCE_OR_MORE;
	return true;
}

static bool take_one_repeat(struct walker *walker, enum repeat *ret)
{
	if (take(walker, "*") || take(walker, "?"))
		*ret = REPEAT_PERHAPS;
	else if (take(walker, "+"))
		*ret = REPEAT_ONCE_OR_MORE;
	else if (!take_braces(walker, ret))
		return false;
	if (!take(walker, "?")) /* lazy, possessive */
		(void)take(walker, "+");
	return true;
}

/* A repeat may itself be repeated: `(a){2}{0}`. */
static enum repeat take_repeats(struct walker *walker)
{
	enum repeat all = REPEAT_ONCE, one;

	while (take_one_repeat(walker, &one))
		if (all != REPEAT_PERHAPS)
			all = one;
	return all;
}

/* ---- branches ---- */

static void walk_branch(struct walker *walker, struct needles *best)
{
	struct needle run = { 0 };

	best->count = 0;
	while (!walker->lost && peek(walker, 0) >= 0 && !is_one_of(peek(walker, 0), "|)")) {
		struct needles inner = { 0 };
		unsigned char byte = 0;
		enum item item = take_item(walker, &byte, &inner);
		enum repeat repeat = take_repeats(walker);

		if (byte == '\n') /* nothing can stand before it, not even another start */
			end_run(&run, best);
		if (item == ITEM_BYTE && repeat != REPEAT_PERHAPS)
			grow_run(&run, byte);
		if (item != ITEM_BYTE || repeat != REPEAT_ONCE)
			end_run(&run, best);
		if (item == ITEM_GROUP && repeat != REPEAT_PERHAPS)
			keep_better(best, &inner);
	}
	end_run(&run, best);
}

/* Up to the end or a closing parenthesis. */
static void walk_alternatives(struct walker *walker, struct needles *ret)
{
	bool known = true; /* of every branch so far */

	ret->count = 0;
	do {
		struct needles branch;

		walk_branch(walker, &branch);
		known = known && branch.count > 0 && ret->count + branch.count <= NEEDLES_MAX;
		if (known) {
			memcpy(ret->items + ret->count, branch.items,
			       branch.count * sizeof(*branch.items));
			ret->count += branch.count;
		}
	} while (!walker->lost && take(walker, "|"));
	if (!known)
		ret->count = 0;
}

struct needle needle_of_text(const char *text, size_t length)
{
	struct needle needle = { 0 };

	for (size_t i = 0; i < length; i++)
		grow_run(&needle, (unsigned char)text[i]);
	return needle;
}

struct needles needles_of_regex(const char *regex, size_t length)
{
	struct walker walker = { .regex = regex, .length = length };
	struct needles needles;

	walk_alternatives(&walker, &needles);
	if (walker.lost || walker.at < length)
		needles.count = 0;
	return needles;
}

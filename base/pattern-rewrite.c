/* SPDX-License-Identifier: MIT */
#include "base/pattern-rewrite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* What stands before the place where the rewriter is. */
enum before { BEFORE_NOTHING, BEFORE_TEXT, BEFORE_LINE_END };

/*
 * A walk over the regex that changes what must not mean what the library takes it for. origin tells
 * for each byte of out where it came from, so that an error points at what the person wrote.
 */
struct rewriter {
	const char *in;
	size_t length, at;
	char *out;
	size_t *origin;
	size_t used;
	unsigned depth, lookbehind; /* of groups; depth of the outermost lookbehind, or 0 */
	bool extended;		    /* (?x): blanks and comments are nothing */
	bool line_end;		    /* one was seen */
	bool carriage_return;	    /* stands directly before */
	enum before before;
};

/* The longest growth: `{,` becomes `{0,` or `\{,`, one LF becomes `\R`. */
enum { GROWTH = 2 };

static bool ahead(const struct rewriter *w, const char *text)
{
	size_t length = strlen(text);

	return w->length - w->at >= length && memcmp(w->in + w->at, text, length) == 0;
}

static void emit(struct rewriter *w, char byte)
{
	w->out[w->used] = byte;
	w->origin[w->used++] = w->at < w->length ? w->at : w->length;
}

static void copy(struct rewriter *w, size_t count)
{
	for (; count > 0 && w->at < w->length; count--) {
		emit(w, w->in[w->at]);
		w->at++;
	}
}

/* Copies up to and with the end, which may be missing. */
static void copy_through(struct rewriter *w, const char *end)
{
	while (w->at < w->length && !ahead(w, end))
		copy(w, 1);
	copy(w, strlen(end));
}

static void saw_line_end(struct rewriter *w)
{
	w->before = BEFORE_LINE_END;
	w->line_end = true;
}

/* An LF in the regex stands for the line's end, which is CR LF, unless a CR is asked for before it.
 * A lookbehind takes no \R, for its length is not fixed. */
static void rewrite_line_feed(struct rewriter *w, size_t count, bool after_carriage_return)
{
	if (w->lookbehind || after_carriage_return) {
		copy(w, count);
	} else {
		emit(w, '\\');
		emit(w, 'R');
		w->at += count;
	}
	saw_line_end(w);
}

static int rewrite_end_of_subject(struct rewriter *w, struct error *err)
{
	if (w->before == BEFORE_TEXT)
		return error_set(err, -EINVAL,
				 "`\\z` behind text never matches, for each line is followed by CR "
				 "LF; use `$`");
	copy(w, 2);
	return 0;
}

static int rewrite_escape(struct rewriter *w, bool after_carriage_return, struct error *err)
{
	switch (w->at + 1 < w->length ? w->in[w->at + 1] : '\0') {
	case 'n':
		rewrite_line_feed(w, 2, after_carriage_return);
		return 0;
	case 'z':
		return rewrite_end_of_subject(w, err);
	case 'G': /* where a search begins, which is nothing that a person sees: the line's start */
		emit(w, '\\');
		emit(w, 'A');
		w->at += 2;
		return 0;
	case 'A':
	case 'b':
	case 'B':
	case 'K':
		copy(w, 2);
		return 0;
	case 'Z':
		w->line_end = true;
		copy(w, 2);
		return 0;
	case 'r':
	case 'R':
	case 's':
	case 'v':
	case 'W':
	case 'D':
	case 'H':
		if (ahead(w, "\\r") || ahead(w, "\\R"))
			w->line_end = true;
		w->before = BEFORE_LINE_END;
		copy(w, 2);
		return 0;
	case 'Q':
		w->before = BEFORE_TEXT;
		copy_through(w, "\\E");
		return 0;
	case 'c':
		w->before = BEFORE_TEXT;
		copy(w, 3);
		return 0;
	default:
		w->before = BEFORE_TEXT;
		copy(w, 2);
		return 0;
	}
}

/* A class is copied as it is: there \R has no meaning, and $ is a character. */
static void copy_class(struct rewriter *w)
{
	w->before = BEFORE_TEXT;
	copy(w, 1);
	if (ahead(w, "^")) {
		w->before = BEFORE_LINE_END;
		copy(w, 1);
	}
	if (ahead(w, "]"))
		copy(w, 1);
	while (w->at < w->length && !ahead(w, "]")) {
		if (ahead(w, "\\n") || ahead(w, "\\r") || ahead(w, "\\s") || ahead(w, "\n"))
			w->before = BEFORE_LINE_END;
		if (ahead(w, "\\Q"))
			copy_through(w, "\\E");
		else if (ahead(w, "[:") && memmem(w->in + w->at, w->length - w->at, ":]", 2))
			copy_through(w, ":]");
		else
			copy(w, ahead(w, "\\") ? 2 : 1);
	}
	copy(w, 1); /* nothing when the class is not closed: the library says so */
}

/* Copies what makes a group special: "?:" "?<=" "?P<name>" "?i:" and the like. */
static void copy_group_head(struct rewriter *w)
{
	if (!ahead(w, "?"))
		return;
	copy(w, 1);
	if (ahead(w, "<=") || ahead(w, "<!")) {
		copy(w, 2);
	} else if (ahead(w, "P<") || ahead(w, "<")) {
		copy_through(w, ">");
	} else if (ahead(w, "'")) {
		copy(w, 1);
		copy_through(w, "'");
	} else {
		while (w->at < w->length && strchr("aimsxnJU^-", w->in[w->at]) && w->in[w->at])
			copy(w, 1);
		if (ahead(w, ":") || ahead(w, "=") || ahead(w, "!") || ahead(w, ">") ||
		    ahead(w, "|"))
			copy(w, 1);
	}
}

static void enter_group(struct rewriter *w)
{
	enum before before = w->before;

	if (ahead(w, "(?#") || ahead(w, "(*")) {
		copy_through(w, ")");
		return;
	}
	w->depth++;
	if (!w->lookbehind && (ahead(w, "(?<=") || ahead(w, "(?<!")))
		w->lookbehind = w->depth;
	w->before = BEFORE_NOTHING;
	copy(w, 1);
	copy_group_head(w);
	if (w->at >= 3 && w->in[w->at - 1] != '(' && ahead(w, ")")) {
		/* Flags, or something that is empty: what stood before it still does. */
		copy(w, 1);
		w->depth--;
		w->lookbehind = w->lookbehind > w->depth ? 0 : w->lookbehind;
		w->before = before;
	}
}

static void leave_group(struct rewriter *w)
{
	if (w->lookbehind == w->depth)
		w->lookbehind = 0;
	if (w->depth > 0)
		w->depth--;
	w->before = w->line_end ? BEFORE_LINE_END : BEFORE_TEXT;
	copy(w, 1);
}

/*
 * `{,3}` is a repeat in Python and in later releases of the library, not in this one; and with
 * nothing to repeat an error in those, and a text in this one. It means the same everywhere.
 */
static void rewrite_brace(struct rewriter *w)
{
	size_t digits = 0;

	while (w->at + 2 + digits < w->length && strchr("0123456789", w->in[w->at + 2 + digits]) &&
	       w->in[w->at + 2 + digits])
		digits++;
	if (!ahead(w, "{,") || digits == 0 || w->at + 2 + digits >= w->length ||
	    w->in[w->at + 2 + digits] != '}') {
		copy(w, 1);
		return;
	}
	if (w->before == BEFORE_NOTHING) {
		emit(w, '\\');
		copy(w, digits + 3);
		return;
	}
	copy(w, 1);
	emit(w, '0');
	copy(w, digits + 2);
}

static void rewrite_extended(struct rewriter *w)
{
	if (ahead(w, "#"))
		while (w->at < w->length && !ahead(w, "\n") && !ahead(w, "\r"))
			copy(w, 1);
	else
		copy(w, 1);
}

static int rewrite_next(struct rewriter *w, struct error *err)
{
	char byte = w->in[w->at];
	bool after_carriage_return = w->carriage_return;

	w->carriage_return = byte == '\r' || ahead(w, "\\r");
	if (w->extended && byte && strchr("# \t\r\n\v\f", byte)) {
		rewrite_extended(w);
		return 0;
	}

	switch (byte) {
	case '\\':
		return rewrite_escape(w, after_carriage_return, err);
	case '[':
		copy_class(w);
		return 0;
	case '(':
		enter_group(w);
		return 0;
	case ')':
		leave_group(w);
		return 0;
	case '{':
		rewrite_brace(w);
		return 0;
	case '\n':
		rewrite_line_feed(w, 1, after_carriage_return);
		return 0;
	case '\r':
		saw_line_end(w);
		copy(w, 1);
		return 0;
	case '|':
		w->before = BEFORE_NOTHING;
		copy(w, 1);
		return 0;
	case '$':
		w->line_end = true;
		copy(w, 1);
		return 0;
	case '^':
	case '*':
	case '+':
	case '?':
	case '}':
		copy(w, 1);
		return 0;
	default:
		w->before = BEFORE_TEXT;
		copy(w, 1);
		return 0;
	}
}

/* Whether the regex begins with flags that hold an x, as in `(?xi)`. */
static bool starts_extended(const char *regex, size_t length)
{
	if (length < 3 || memcmp(regex, "(?", 2) != 0)
		return false;
	for (size_t i = 2; i < length && regex[i] && strchr("aimsxnJU", regex[i]); i++)
		if (regex[i] == 'x')
			return true;
	return false;
}

void rewritten_done(struct rewritten *rewritten)
{
	free(rewritten->text);
	free(rewritten->origin);
	*rewritten = (struct rewritten){ 0 };
}

int pattern_rewrite(struct rewritten *ret, const char *regex, size_t length, size_t *ret_offset,
		    struct error *err)
{
	cleanup_(rewritten_done) struct rewritten rewritten = {
		.text = malloc(GROWTH * length + 1),
		.origin = calloc(GROWTH * length + 1, sizeof(*rewritten.origin)),
	};
	struct rewriter w = {
		.in = regex,
		.length = length,
		.out = rewritten.text,
		.origin = rewritten.origin,
		.extended = starts_extended(regex, length),
	};

	if (!rewritten.text || !rewritten.origin)
		return error_oom(err);
	while (w.at < w.length) {
		int r = rewrite_next(&w, err);

		if (r < 0) {
			*ret_offset = w.at;
			return r;
		}
	}
	w.origin[w.used] = w.length;
	*ret = (struct rewritten){
		.text = take_ptr(rewritten.text),
		.origin = take_ptr(rewritten.origin),
		.length = w.used,
		.line_end = w.line_end,
	};
	return 0;
}

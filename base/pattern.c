/* SPDX-License-Identifier: MIT */
#include "base/pattern.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/cleanup.h"
#include "base/pattern-rewrite.h"

/*
 * A pattern is somebody else's, and so is the text that it is tried on, so the time of a search is
 * bounded. PCRE2's match limit alone does not do that: it counts anew for each byte at which a
 * match may start, and compiled code (JIT) does not count what a single repeat costs. So:
 *
 * - a line is searched in windows of start positions. A short line, which is what consoles send, is
 *   one window: one call of compiled code, with a match limit so small that the worst case is
 *   FAST_STEPS;
 * - a window that runs over that limit is searched again by the interpreter, which counts every
 *   step, a few start positions at a time, with STEPS_MAX for each of them and a limit of processor
 *   time for the whole line. A step may still be long: a repeat runs over all of a line, and a
 *   thousand groups are copied for each. So this search has the expression compiled in another way,
 *   with a callout before each of its items, which looks at the clock.
 *
 * The clock is the thread's processor time, so that a busy machine does not change results.
 */
enum {
	REGEX_BYTES_MAX = 16384,
	STEPS_MAX = 1000000,  /* of the interpreter, for one start position: about 20 ms */
	DEPTH_MAX = 250000,   /* a group that repeats over a line of 64 KiB needs 131,072 */
	HEAP_KIB_MAX = 32768, /* of the interpreter; given back after the line */
	FAST_STEPS = 50000000,
	SHORT_LINE = 1024,   /* bytes; searched at once */
	FAST_WINDOW = 64,    /* start positions of a longer one */
	CAREFUL_WINDOW = 64, /* start positions */
	CALLOUTS = 64,	     /* between two looks at the clock, which cost as much as some */
	SEARCH_US = 100000,  /* processor time for one line */
	US_PER_S = 1000000,
	NS_PER_US = 1000,
};

struct pattern {
	char *text;
	size_t length;
	pcre2_code *code;
	pcre2_code *careful;	 /* the same with callouts; made when it is needed */
	pcre2_match_data *found; /* room for the span only */
	pcre2_match_context *limits;
	bool anchored; /* can start at the first byte only */
	bool wants_line_end;
	struct needles needles;
};

CLEANUP_DEFINE(struct pattern *, pattern_free)
CLEANUP_DEFINE(pcre2_compile_context *, pcre2_compile_context_free)
CLEANUP_DEFINE(pcre2_match_data *, pcre2_match_data_free)

/* The code of a regex, or NULL with the library's error. */
static pcre2_code *compile(const struct rewritten *rewritten, uint32_t options, int *ret_error,
			   PCRE2_SIZE *ret_offset)
{
	cleanup_(pcre2_compile_context_freep) pcre2_compile_context *context =
		pcre2_compile_context_create(NULL);

	*ret_error = PCRE2_ERROR_NOMEMORY;
	if (!context)
		return NULL;
	(void)pcre2_set_newline(context, PCRE2_NEWLINE_ANYCRLF);
	(void)pcre2_set_bsr(context, PCRE2_BSR_ANYCRLF);

	/* A console's bytes are no text in any encoding: the regex must not ask for one. */
	return pcre2_compile((PCRE2_SPTR)rewritten->text, rewritten->length,
			     PCRE2_NEVER_UTF | PCRE2_NEVER_UCP | PCRE2_USE_OFFSET_LIMIT | options,
			     ret_error, ret_offset, context);
}

static int compile_or_say_why(struct pattern *pattern, const struct rewritten *rewritten,
			      size_t *ret_offset, struct error *err)
{
	PCRE2_SIZE offset = 0;
	uint32_t options = 0;
	char text[160];
	int code;

	pattern->code = compile(rewritten, 0, &code, &offset);
	if (pattern->code) {
		(void)pcre2_pattern_info(pattern->code, PCRE2_INFO_ALLOPTIONS, &options);
		pattern->anchored = options & PCRE2_ANCHORED;
		return 0;
	}
	if (code == PCRE2_ERROR_NOMEMORY)
		return error_oom(err);
	(void)pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text));
	*ret_offset = rewritten->origin[offset < rewritten->length ? offset : rewritten->length];
	return error_set(err, -EINVAL, "%s", text);
}

static int make(struct pattern **ret, const char *regex, size_t length, size_t *ret_offset,
		struct error *err)
{
	cleanup_(pattern_freep) struct pattern *pattern = NULL;
	cleanup_(rewritten_done) struct rewritten rewritten = { 0 };
	int r;

	if (length > REGEX_BYTES_MAX) {
		*ret_offset = REGEX_BYTES_MAX;
		return error_set(err, -EINVAL, "regular expression is longer than %d bytes",
				 REGEX_BYTES_MAX);
	}

	pattern = calloc(1, sizeof(*pattern));
	if (!pattern)
		return error_oom(err);
	r = pattern_rewrite(&rewritten, regex, length, ret_offset, err);
	if (r < 0)
		return r;
	pattern->wants_line_end = rewritten.line_end;
	r = compile_or_say_why(pattern, &rewritten, ret_offset, err);
	if (r < 0)
		return r;
	pattern->needles = needles_of_regex(rewritten.text, rewritten.length);
	*ret = take_ptr(pattern);
	return 0;
}

int pattern_new(struct pattern **ret, const char *regex, size_t length, size_t *ret_offset,
		struct error *err)
{
	cleanup_(pattern_freep) struct pattern *pattern = NULL;
	int r;

	r = make(&pattern, regex, length, ret_offset, err);
	if (r < 0 || !pattern)
		return r;

	/* Fails where writable memory may not become code; the interpreter does the same then. */
	(void)pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE);

	pattern->text = malloc(length + 1);
	pattern->found = pcre2_match_data_create(1, NULL);
	pattern->limits = pcre2_match_context_create(NULL);
	if (!pattern->text || !pattern->found || !pattern->limits)
		return error_oom(err);
	memcpy(pattern->text, regex, length);
	pattern->text[length] = '\0';
	pattern->length = length;
	(void)pcre2_set_depth_limit(pattern->limits, DEPTH_MAX);
	(void)pcre2_set_heap_limit(pattern->limits, HEAP_KIB_MAX);
	*ret = take_ptr(pattern);
	return 0;
}

int pattern_check(size_t *ret_size, const char *regex, size_t length, size_t *ret_offset,
		  struct error *err)
{
	cleanup_(pattern_freep) struct pattern *pattern = NULL;
	int r = make(&pattern, regex, length, ret_offset, err);

	if (r < 0 || !pattern)
		return r;
	*ret_size = pattern_size(pattern);
	return 0;
}

struct pattern *pattern_free(struct pattern *pattern)
{
	if (!pattern)
		return NULL;
	pcre2_match_context_free(pattern->limits);
	pcre2_match_data_free(pattern->found);
	pcre2_code_free(pattern->code);
	pcre2_code_free(pattern->careful);
	free(pattern->text);
	free(pattern);
	return NULL;
}

size_t pattern_size(const struct pattern *pattern)
{
	size_t size = 0;

	(void)pcre2_pattern_info(pattern->code, PCRE2_INFO_SIZE, &size);
	return size;
}

const char *pattern_text(const struct pattern *pattern)
{
	return pattern->text;
}

bool pattern_wants_line_end(const struct pattern *pattern)
{
	return pattern->wants_line_end;
}

const struct needles *pattern_needles(const struct pattern *pattern)
{
	return &pattern->needles;
}

/* One line that is being searched. */
struct search {
	struct pattern *pattern;
	const char *subject;
	size_t length;
	size_t start, end; /* of the match */
	uint64_t since_us; /* processor time at the beginning; 0: not looked at yet */
	unsigned callouts;
};

static uint64_t processor_us(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / NS_PER_US;
}

static bool out_of_time(struct search *search)
{
	uint64_t now_us = processor_us();

	if (!search->since_us)
		search->since_us = now_us;
	return now_us - search->since_us > SEARCH_US;
}

/* Tries the start positions from `at` to `last`: 1, 0, or a negative errno. */
static int try(struct search *search, const pcre2_code *regex, size_t at, size_t last,
	       uint32_t steps, pcre2_match_data *found)
{
	struct pattern *pattern = search->pattern;
	PCRE2_SIZE *span;
	int code;

	(void)pcre2_set_match_limit(pattern->limits, steps);
	(void)pcre2_set_offset_limit(pattern->limits, last);
	code = pcre2_match(regex, (PCRE2_SPTR)search->subject, search->length, at, 0, found,
			   pattern->limits);
	if (code == PCRE2_ERROR_NOMATCH)
		return 0;
	if (code == PCRE2_ERROR_NOMEMORY)
		return -ENOMEM;
	if (code < 0)
		return -EOVERFLOW; /* a limit, or a recursion that would not end */

	span = pcre2_get_ovector_pointer(found);
	search->start = span[0] < span[1] ? span[0] : span[1];
	search->end = span[1];
	return 1;
}

static int on_callout(pcre2_callout_block *block, void *data)
{
	struct search *search = data;

	(void)block;
	if (++search->callouts % CALLOUTS != 0)
		return 0;
	return out_of_time(search) ? PCRE2_ERROR_CALLOUT : 0;
}

/* A regex that is too large with its callouts, but not without, is over the limit. */
static int make_careful(struct pattern *pattern)
{
	cleanup_(rewritten_done) struct rewritten rewritten = { 0 };
	PCRE2_SIZE offset;
	int r, code;

	if (pattern->careful)
		return 0;
	r = pattern_rewrite(&rewritten, pattern->text, pattern->length, &offset, NULL);
	if (r < 0)
		return r;
	pattern->careful = compile(&rewritten, PCRE2_AUTO_CALLOUT, &code, &offset);
	if (pattern->careful)
		return 0;
	return code == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EOVERFLOW;
}

static int try_carefully(struct search *search, size_t at, size_t last)
{
	struct pattern *pattern = search->pattern;
	/* Of its own, for it keeps the memory that the interpreter needed. */
	cleanup_(pcre2_match_data_freep) pcre2_match_data *found = pcre2_match_data_create(1, NULL);
	int r = found ? make_careful(pattern) : -ENOMEM;

	if (r < 0)
		return r;
	(void)pcre2_set_callout(pattern->limits, on_callout, search);
	for (; r == 0 && at <= last; at += CAREFUL_WINDOW) {
		size_t end = last - at < CAREFUL_WINDOW ? last : at + CAREFUL_WINDOW - 1;

		r = out_of_time(search) ? -EOVERFLOW
					: try(search, pattern->careful, at, end, STEPS_MAX, found);
	}
	(void)pcre2_set_callout(pattern->limits, NULL, NULL);
	return r;
}

static int search_windows(struct search *search)
{
	bool whole = search->pattern->anchored || search->length <= SHORT_LINE;
	size_t window = whole ? search->length + 1 : FAST_WINDOW;
	size_t starts = search->pattern->anchored ? 1 : window;
	size_t steps = FAST_STEPS / ((search->length + 1) * starts) + 1;

	for (size_t at = 0; at <= search->length; at += window) {
		size_t last = search->length - at < window ? search->length : at + window - 1;
		int r = try(search, search->pattern->code, at, last, (uint32_t)steps,
			    search->pattern->found);

		if (r == -EOVERFLOW)
			r = try_carefully(search, at, search->pattern->anchored ? at : last);
		if (r != 0)
			return r;
		if (!whole && out_of_time(search))
			return -EOVERFLOW;
	}
	return 0;
}

int pattern_search(struct pattern *pattern, const char *subject, size_t length, size_t *ret_start,
		   size_t *ret_end)
{
	struct search search = { .pattern = pattern, .subject = subject, .length = length };
	int r = search_windows(&search);

	if (r > 0) {
		*ret_start = search.start;
		*ret_end = search.end;
	}
	return r;
}

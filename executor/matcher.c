/* SPDX-License-Identifier: MIT */
#include "executor/matcher.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/pattern.h"
#include "executor/fault.h"

enum {
	LINE_END = 2,
	MAX_NAME = 128,
	SEARCH_MAX_US = 200000, /* of one search, as pattern.h bounds it, and some more */
	US_PER_S = 1000000,
	NS_PER_US = 1000,
};

/* What a watchdog's patterns are called, and did to the unfinished line. */
enum watchdog_part { WATCHDOG_START, WATCHDOG_RESET, WATCHDOG_STOP, WATCHDOG_PARTS };

static const struct {
	const char *name;
	enum match_kind kind;
} watchdog_parts[WATCHDOG_PARTS] = {
	[WATCHDOG_START] = { "start", MATCH_WATCHDOG_START },
	[WATCHDOG_RESET] = { "reset", MATCH_WATCHDOG_RESET },
	[WATCHDOG_STOP] = { "stop", MATCH_WATCHDOG_STOP },
};

struct matcher_watchdog {
	bool running;
	bool shown[WATCHDOG_PARTS];
};

/* ---- what is looked for ---- */

static size_t count_faults(void)
{
	size_t count = 0;

	while (fault_text(count))
		count++;
	return count;
}

static const struct needles *needles_of(const struct pattern *pattern)
{
	return pattern ? pattern_needles(pattern) : NULL;
}

/* In the sieve there are the faults' texts, the patterns with a name, and the watchdogs'. */
static void list_owners(const struct matcher *matcher, struct sieve_owner *owners,
			struct needles *faults)
{
	const struct description *description = matcher->description;

	for (size_t i = 0; i < matcher->first_name; i++) {
		const char *text = fault_text(i);

		faults[i].count = 1;
		faults[i].items[0] = needle_of_text(text, strlen(text));
		owners[i].needles = &faults[i];
	}
	for (size_t i = 0; i < PATTERN_NAMES; i++)
		owners[matcher->first_name + i].needles = needles_of(description->patterns[i]);
	for (size_t i = 0; i < description->n_watchdogs; i++) {
		const struct watchdog *watchdog = &description->watchdogs[i];
		struct sieve_owner *parts = owners + matcher->first_watchdog + i * WATCHDOG_PARTS;

		parts[WATCHDOG_START].needles = needles_of(watchdog->start);
		parts[WATCHDOG_RESET].needles = needles_of(watchdog->reset);
		parts[WATCHDOG_STOP].needles = needles_of(watchdog->stop);
	}
}

static int make_sieve(struct matcher *matcher)
{
	free_ struct sieve_owner *owners = calloc(matcher->n_owners, sizeof(*owners));
	free_ struct needles *faults = calloc(matcher->first_name, sizeof(*faults));

	if (!owners || !faults)
		return -ENOMEM;
	list_owners(matcher, owners, faults);
	return sieve_new(&matcher->sieve, owners, matcher->n_owners);
}

int matcher_init(struct matcher *matcher, const struct description *description, match_fn fn,
		 void *data)
{
	size_t n_watchdogs = description->n_watchdogs;
	int r;

	*matcher = (struct matcher){
		.description = description,
		.fn = fn,
		.data = data,
		.shown_offset = UINT64_MAX,
		.allowed_us = MATCHER_US_AT_ONCE,
		.first_name = count_faults(),
		.watchdogs = calloc(n_watchdogs + 1, sizeof(*matcher->watchdogs)),
	};
	matcher->first_watchdog = matcher->first_name + PATTERN_NAMES;
	matcher->n_owners = matcher->first_watchdog + n_watchdogs * WATCHDOG_PARTS;
	r = matcher->watchdogs ? make_sieve(matcher) : -ENOMEM;
	if (r < 0)
		matcher_done(matcher);
	return r;
}

void matcher_done(struct matcher *matcher)
{
	(void)sieve_free(matcher->sieve);
	free(matcher->watchdogs);
	*matcher = (struct matcher){ 0 };
}

void matcher_boot(struct matcher *matcher)
{
	memset(matcher->boot_seen, 0, sizeof(matcher->boot_seen));
	matcher->seen[PATTERN_SESSION_REBOOT] = false;
	matcher->fault_seen = false;
	matcher->kernel_seen = false;
	for (size_t i = 0; i < matcher->description->n_watchdogs; i++)
		matcher->watchdogs[i].running = false;
}

static void tell(struct matcher *matcher, const struct match *match, const struct line *line)
{
	matcher->fn(match, line, matcher->data);
}

/* ---- the time that searches take ---- */

/* Microseconds of a clock that is read in no time and moves by some milliseconds at once: of many
 * short times the sum is right. */
static uint64_t coarse_us(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / NS_PER_US;
}

static void allow(struct matcher *matcher, size_t bytes)
{
	matcher->allowed_us += bytes * MATCHER_US_PER_BYTE;
	if (matcher->allowed_us > MATCHER_US_AT_ONCE)
		matcher->allowed_us = MATCHER_US_AT_ONCE;
}

/* Whether what is allowed lasts for a search that was begun then. */
static bool pay(struct matcher *matcher, uint64_t since_us)
{
	uint64_t spent_us = coarse_us() - since_us;

	/* A single search is bounded: more means that this process was stopped within it. */
	if (spent_us > SEARCH_MAX_US)
		spent_us = SEARCH_MAX_US;
	if (spent_us > matcher->allowed_us)
		return false;
	matcher->allowed_us -= spent_us;
	return true;
}

/* ---- one line ---- */

/*
 * Whether the pattern matches the line and did not do so when the line was still shorter. *shown
 * remembers that of an unfinished line. -EOVERFLOW: over a limit, and nothing is tried any more.
 */
static int try_pattern(struct matcher *matcher, struct pattern *pattern, bool *shown,
		       const struct line *line)
{
	uint64_t since_us = coarse_us();
	size_t start, end;
	int r;

	if (*shown)
		return 0;
	r = pattern_search(pattern, line->text, line->length + (line->ended ? LINE_END : 0), &start,
			   &end);
	if (!pay(matcher, since_us) || r < 0) {
		matcher->over = true;
		return -EOVERFLOW;
	}
	if (r > 0) {
		*shown = true;
		matcher->any_shown = true;
	}
	return r;
}

/* Tells that a part of a watchdog matched, or took too long. */
static void tell_watchdog(struct matcher *matcher, size_t index, enum watchdog_part part, int r,
			  const struct line *line)
{
	char name[MAX_NAME];

	(void)snprintf(name, sizeof(name), "watchdogs.%s.%s",
		       matcher->description->watchdogs[index].name, watchdog_parts[part].name);
	tell(matcher,
	     &(struct match){
		     .kind = r < 0 ? MATCH_LIMIT : watchdog_parts[part].kind,
		     .watchdog = index,
		     .name = name,
	     },
	     line);
}

static void try_watchdog(struct matcher *matcher, size_t index, const struct line *line)
{
	static const enum watchdog_part when_running[] = { WATCHDOG_RESET, WATCHDOG_STOP };
	static const enum watchdog_part when_stopped[] = { WATCHDOG_START };
	const struct watchdog *watchdog = &matcher->description->watchdogs[index];
	struct matcher_watchdog *state = &matcher->watchdogs[index];
	struct pattern *const patterns[WATCHDOG_PARTS] = {
		[WATCHDOG_START] = watchdog->start,
		[WATCHDOG_RESET] = watchdog->reset,
		[WATCHDOG_STOP] = watchdog->stop,
	};
	const enum watchdog_part *parts = state->running ? when_running : when_stopped;
	size_t count = state->running ? ARRAY_SIZE(when_running) : ARRAY_SIZE(when_stopped);
	size_t owner = matcher->first_watchdog + index * WATCHDOG_PARTS;

	if (!watchdog->start || watchdog->timeout.limit_us == DURATION_INFINITE)
		return;
	for (size_t i = 0; i < count; i++) {
		enum watchdog_part part = parts[i];
		int r = 0;

		if (sieve_passed(matcher->sieve, owner + part))
			r = try_pattern(matcher, patterns[part], &state->shown[part], line);
		if (r == 0)
			continue;
		if (r > 0)
			state->running = part != WATCHDOG_STOP;
		tell_watchdog(matcher, index, part, r, line);
		return;
	}
}

static void try_name(struct matcher *matcher, enum pattern_name name, const struct line *line)
{
	struct match match = {
		.kind = MATCH_PATTERN,
		.pattern = name,
		.name = pattern_name_text(name),
	};
	int r;

	/* A pattern that matched in this boot already can say nothing new. */
	if (matcher->boot_seen[name])
		return;
	r = try_pattern(matcher, matcher->description->patterns[name], &matcher->shown[name], line);
	if (r == 0)
		return;
	if (r < 0) {
		match.kind = MATCH_LIMIT;
	} else {
		matcher->seen[name] = true;
		matcher->boot_seen[name] = true;
	}
	tell(matcher, &match, line);
}

static void look_for_faults(struct matcher *matcher, const struct line *line)
{
	const char *kind;

	if (fault_is_kernel_banner(line->text, line->length))
		matcher->kernel_seen = true;
	kind = matcher->fault_shown ? NULL : fault_find(line->text, line->length);
	if (!kind)
		return;
	matcher->fault_shown = true;
	matcher->any_shown = true;
	matcher->fault_seen = true;
	tell(matcher, &(struct match){ .kind = MATCH_FAULT, .name = kind }, line);
}

/* Forgets what matched the line before this one. */
static void begin_line(struct matcher *matcher, const struct line *line)
{
	if (matcher->shown_offset == line->offset)
		return;
	matcher->shown_offset = line->offset;
	if (!matcher->any_shown)
		return;
	matcher->any_shown = false;
	matcher->fault_shown = false;
	memset(matcher->shown, 0, sizeof(matcher->shown));
	for (size_t i = 0; i < matcher->description->n_watchdogs; i++)
		memset(matcher->watchdogs[i].shown, 0, sizeof(matcher->watchdogs[i].shown));
}

/* Tries what belongs to an owner in the sieve; returns the first one that does not. */
static size_t try_owner(struct matcher *matcher, size_t owner, const struct line *line)
{
	size_t watchdog;

	if (owner < matcher->first_name) {
		look_for_faults(matcher, line);
		return matcher->first_name;
	}
	if (owner < matcher->first_watchdog) {
		try_name(matcher, (enum pattern_name)(owner - matcher->first_name), line);
		return owner + 1;
	}
	watchdog = (owner - matcher->first_watchdog) / WATCHDOG_PARTS;
	try_watchdog(matcher, watchdog, line);
	return matcher->first_watchdog + (watchdog + 1) * WATCHDOG_PARTS;
}

void matcher_line(struct matcher *matcher, const struct line *line)
{
	size_t owner;

	if (matcher->over)
		return;
	begin_line(matcher, line);
	allow(matcher, line->length + LINE_END);
	sieve_scan(matcher->sieve, line->text, line->length);
	owner = sieve_next(matcher->sieve, 0);
	while (owner < matcher->n_owners && !matcher->over)
		owner = sieve_next(matcher->sieve, try_owner(matcher, owner, line));
}

size_t matcher_quiet(struct matcher *matcher, const char *bytes, size_t length)
{
	size_t quiet = matcher->over ? length : sieve_find(matcher->sieve, bytes, length);

	allow(matcher, quiet);
	return quiet;
}

/* SPDX-License-Identifier: MIT */
#include "executor/matcher.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/pattern.h"
#include "executor/fault.h"

enum { LINE_END = 2, MAX_NAME = 128 };

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

int matcher_init(struct matcher *matcher, const struct description *description, match_fn fn,
		 void *data)
{
	*matcher = (struct matcher){
		.description = description,
		.fn = fn,
		.data = data,
		.shown_offset = UINT64_MAX,
		.watchdogs = calloc(description->n_watchdogs + 1, sizeof(*matcher->watchdogs)),
	};
	return matcher->watchdogs ? 0 : -ENOMEM;
}

void matcher_done(struct matcher *matcher)
{
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

/*
 * Whether the pattern matches the line and did not do so when the line was still shorter. *shown
 * remembers that of an unfinished line.
 */
static bool try_pattern(struct matcher *matcher, struct pattern *pattern, const char *name,
			bool *shown, const struct line *line)
{
	size_t start, end;
	int r;

	if (*shown)
		return false;
	r = pattern_search(pattern, line->text, line->length + (line->ended ? LINE_END : 0), &start,
			   &end);
	if (r < 0)
		tell(matcher, &(struct match){ .kind = MATCH_LIMIT, .name = name }, line);
	if (r <= 0)
		return false;
	*shown = true;
	return true;
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
	char name[MAX_NAME];

	if (!watchdog->start || watchdog->timeout.limit_us == DURATION_INFINITE)
		return;
	for (size_t i = 0; i < count; i++) {
		enum watchdog_part part = parts[i];

		(void)snprintf(name, sizeof(name), "watchdogs.%s.%s", watchdog->name,
			       watchdog_parts[part].name);
		if (!try_pattern(matcher, patterns[part], name, &state->shown[part], line))
			continue;
		state->running = part != WATCHDOG_STOP;
		tell(matcher,
		     &(struct match){
			     .kind = watchdog_parts[part].kind, .watchdog = index, .name = name },
		     line);
		return;
	}
}

static void try_name(struct matcher *matcher, enum pattern_name name, const struct line *line)
{
	struct pattern *pattern = matcher->description->patterns[name];
	const char *text = pattern_name_text(name);

	/* A pattern that matched in this boot already can say nothing new. */
	if (!pattern || matcher->boot_seen[name] ||
	    !try_pattern(matcher, pattern, text, &matcher->shown[name], line))
		return;
	matcher->seen[name] = true;
	matcher->boot_seen[name] = true;
	tell(matcher, &(struct match){ .kind = MATCH_PATTERN, .pattern = name, .name = text },
	     line);
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
	matcher->fault_seen = true;
	tell(matcher, &(struct match){ .kind = MATCH_FAULT, .name = kind }, line);
}

/* Forgets what matched the line before this one. */
static void begin_line(struct matcher *matcher, const struct line *line)
{
	if (matcher->shown_offset == line->offset)
		return;
	matcher->shown_offset = line->offset;
	matcher->fault_shown = false;
	memset(matcher->shown, 0, sizeof(matcher->shown));
	for (size_t i = 0; i < matcher->description->n_watchdogs; i++)
		memset(matcher->watchdogs[i].shown, 0, sizeof(matcher->watchdogs[i].shown));
}

void matcher_line(struct matcher *matcher, const struct line *line)
{
	begin_line(matcher, line);
	look_for_faults(matcher, line);
	for (unsigned i = 0; i < PATTERN_NAMES; i++)
		try_name(matcher, (enum pattern_name)i, line);
	for (size_t i = 0; i < matcher->description->n_watchdogs; i++)
		try_watchdog(matcher, i, line);
}

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sieve.h"
#include "executor/description.h"
#include "executor/lines.h"

/*
 * What the lines of a console mean to a job: console patterns (sticky for the whole job, except
 * session_reboot, which is so for a boot), watchdogs, kernel faults and the kernel's banner.
 * Without timer: it says what matched, and who owns it acts.
 *
 * A line goes through a sieve first, and only those patterns are searched for that it may match.
 * The time of their searches is bounded for each line (pattern.h), and for all lines together by
 * MATCHER_US_PER_BYTE of the console, with MATCHER_US_AT_ONCE to spare: neither a console that
 * cannot be kept up with nor an executor that does not answer comes of somebody's patterns.
 */

enum {
	MATCHER_US_PER_BYTE = 10, /* a serial line of 115,200 baud has 87 */
	MATCHER_US_AT_ONCE = 1000000,
};

enum match_kind {
	MATCH_PATTERN,	      /* the first time in this boot */
	MATCH_WATCHDOG_START, /* start, reset and stop of one that is so driven */
	MATCH_WATCHDOG_RESET,
	MATCH_WATCHDOG_STOP,
	MATCH_FAULT,
	MATCH_LIMIT, /* a pattern took too long: neither a match nor none; the last that is told */
};

struct match {
	enum match_kind kind;
	enum pattern_name pattern; /* MATCH_PATTERN */
	size_t watchdog;	   /* MATCH_WATCHDOG_*: index in the description */
	const char *name; /* "job_success", "watchdogs.suite.start", "panic"; for the callback */
};

typedef void (*match_fn)(const struct match *match, const struct line *line, void *data);

struct matcher {
	const struct description *description;
	match_fn fn;
	void *data;
	bool seen[PATTERN_NAMES];      /* in this job, or in this boot for session_reboot */
	bool boot_seen[PATTERN_NAMES]; /* in this boot */
	bool fault_seen, kernel_seen;  /* in this boot */
	uint64_t shown_offset;	       /* the unfinished line that was looked at last */
	bool shown[PATTERN_NAMES];     /* what matched it, and is not tried on it again */
	bool fault_shown;
	bool any_shown; /* one of these, or of a watchdog's */
	bool over;	/* a pattern was over its limit: nothing is tried any more */
	uint64_t allowed_us;
	struct sieve *sieve;
	size_t first_name, first_watchdog, n_owners; /* in the sieve; before them faults */
	struct matcher_watchdog *watchdogs;
};

/*
 * The description must stay, and its patterns as they are.
 *
 * Errors: -ENOMEM.
 */
int matcher_init(struct matcher *matcher, const struct description *description, match_fn fn,
		 void *data);
void matcher_done(struct matcher *matcher);

/* A new boot begins. */
void matcher_boot(struct matcher *matcher);

/* How many bytes, from the start of a line on, hold nothing that a line would be tried for. */
size_t matcher_quiet(struct matcher *matcher, const char *bytes, size_t length);

/* Tries everything on a line, finished or not. */
void matcher_line(struct matcher *matcher, const struct line *line);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/description.h"
#include "executor/lines.h"

/*
 * What the lines of a console mean to a job: console patterns (sticky for the whole job, except
 * session_reboot, which is so for a boot), watchdogs, kernel faults and the kernel's banner.
 * Without clock and timer: it says what matched, and who owns it acts.
 */

enum match_kind {
	MATCH_PATTERN,	      /* the first time in this boot */
	MATCH_WATCHDOG_START, /* start, reset and stop of one that is so driven */
	MATCH_WATCHDOG_RESET,
	MATCH_WATCHDOG_STOP,
	MATCH_FAULT,
	MATCH_LIMIT, /* a pattern is over its match limit: neither a match nor none */
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
	struct matcher_watchdog *watchdogs;
};

/* Errors: -ENOMEM. */
int matcher_init(struct matcher *matcher, const struct description *description, match_fn fn,
		 void *data);
void matcher_done(struct matcher *matcher);

/* A new boot begins. */
void matcher_boot(struct matcher *matcher);

/* Tries everything on a line, finished or not. */
void matcher_line(struct matcher *matcher, const struct line *line);

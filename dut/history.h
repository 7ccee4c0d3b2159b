/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * Where a console's bytes lie: in segments, one after the other, each in a file of its own. An idle
 * segment is <console folder>/<first offset>.log; what came in while a job had the console is
 * jobs/<id>/console.log, or console.<N>.log for attempt N of a job that was begun again. Offsets
 * count over all of them.
 */

struct segment {
	uint64_t base;
	uint64_t job;	  /* 0: idle */
	unsigned attempt; /* of the job, when it was a former one; else 0 */
};

struct history {
	int console_dir_fd, jobs_dir_fd; /* borrowed */
	struct segment *segments;	 /* by base */
	size_t count;
};

void history_done(struct history *history);

/* Notes a segment. One that is there already is not noted twice. */
int history_add(struct history *history, uint64_t base, uint64_t job, struct error *err);

/* Notes the segment of a job's former attempt, in the place of the job's segment at that base. */
int history_set_aside(struct history *history, uint64_t base, uint64_t job, unsigned attempt,
		      struct error *err);

/* Forgets a job's segments. */
void history_remove_job(struct history *history, uint64_t job);

/* Forgets the idle segment that begins there. */
void history_remove_idle(struct history *history, uint64_t base);

/* Finds the idle segments on disk. */
int history_scan(struct history *history, struct error *err);

/* The offset behind the last byte of all segments. */
uint64_t history_end(const struct history *history);

/* A place from which somebody reads. */
struct history_cursor {
	uint64_t offset;  /* of the next byte */
	int fd;		  /* of the present segment, -1 before the first read */
	uint64_t base;	  /* of that segment, and */
	uint64_t job;	  /* whose it is, and */
	unsigned attempt; /* of which attempt */
};

void history_cursor_init(struct history_cursor *cursor, uint64_t offset);
void history_cursor_done(struct history_cursor *cursor);

/* An offset before the oldest byte that is kept becomes that one's. */
uint64_t history_clamp(const struct history *history, uint64_t offset);

/* Where a reader who asks for this offset will begin: the same, unless what was there is gone. */
uint64_t history_locate(const struct history *history, uint64_t offset);

/* Reads on: the number of bytes, or 0 at the present end. Gaps between segments are jumped over:
 * the bytes end at the cursor's offset. */
ssize_t history_read(const struct history *history, struct history_cursor *cursor, char *buffer,
		     size_t size, struct error *err);

/* SPDX-License-Identifier: MIT */
#include "dut/history.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

enum { PATH_SIZE = 64 };

void history_done(struct history *history)
{
	free(history->segments);
	history->segments = NULL;
	history->count = 0;
}

static int add_segment(struct history *history, const struct segment *segment, struct error *err)
{
	struct segment *grown;
	size_t at = history->count;

	while (at > 0 && history->segments[at - 1].base > segment->base)
		at--;
	for (size_t i = at; i > 0 && history->segments[i - 1].base == segment->base; i--)
		if (history->segments[i - 1].job == segment->job &&
		    history->segments[i - 1].attempt == segment->attempt)
			return 0;
	grown = reallocarray(history->segments, history->count + 1, sizeof(*grown));
	if (!grown)
		return error_oom(err);
	history->segments = grown;
	memmove(grown + at + 1, grown + at, (history->count - at) * sizeof(*grown));
	grown[at] = *segment;
	history->count++;
	return 0;
}

int history_add(struct history *history, uint64_t base, uint64_t job, struct error *err)
{
	return add_segment(history, &(struct segment){ .base = base, .job = job }, err);
}

int history_set_aside(struct history *history, uint64_t base, uint64_t job, unsigned attempt,
		      struct error *err)
{
	const struct segment aside = { .base = base, .job = job, .attempt = attempt };

	for (size_t i = 0; i < history->count; i++) {
		struct segment *segment = &history->segments[i];

		if (segment->base == base && segment->job == job && !segment->attempt) {
			*segment = aside;
			return 0;
		}
	}
	return add_segment(history, &aside, err);
}

void history_remove_job(struct history *history, uint64_t job)
{
	size_t kept = 0;

	for (size_t i = 0; i < history->count; i++)
		if (history->segments[i].job != job)
			history->segments[kept++] = history->segments[i];
	history->count = kept;
}

void history_remove_idle(struct history *history, uint64_t base)
{
	for (size_t i = 0; i < history->count; i++) {
		struct segment *segment = &history->segments[i];

		if (segment->job != 0 || segment->base != base)
			continue;
		memmove(segment, segment + 1, (history->count - i - 1) * sizeof(*segment));
		history->count--;
		return;
	}
}

int history_scan(struct history *history, struct error *err)
{
	closedir_ DIR *dir = NULL;
	struct dirent *entry;
	int opened = file_open_dir(&dir, history->console_dir_fd, err);

	if (opened < 0)
		return error_prefix(err, opened, "cannot list the console's folder");
	while ((entry = readdir(dir))) {
		uint64_t base;
		int r;

		if (!text_number_before(&base, entry->d_name, ".log"))
			continue;
		r = history_add(history, base, 0, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A job's folder belongs to the job: its log is opened without following anything. */
static int open_segment(const struct history *history, const struct segment *segment, int *ret_fd,
			struct error *err)
{
	char path[PATH_SIZE];

	if (segment->job) {
		if (segment->attempt)
			(void)snprintf(path, sizeof(path), "%" PRIu64 "/console.%u.log",
				       segment->job, segment->attempt);
		else
			(void)snprintf(path, sizeof(path), "%" PRIu64 "/console.log", segment->job);
		return file_open_beneath(ret_fd, history->jobs_dir_fd, path, O_RDONLY, err);
	}
	(void)snprintf(path, sizeof(path), "%" PRIu64 ".log", segment->base);
	return file_open_beneath(ret_fd, history->console_dir_fd, path, O_RDONLY, err);
}

/* The bytes that lie in a segment's file, more than were lent to its job perhaps; 0 when it is
 * gone.
 */
static uint64_t segment_size(const struct history *history, const struct segment *segment)
{
	close_ int fd = -1;
	struct stat status;

	if (open_segment(history, segment, &fd, NULL) < 0 || fstat(fd, &status) < 0)
		return 0;
	return (uint64_t)status.st_size;
}

/* Of one job: its present attempt is the latest. */
static bool is_later_attempt(const struct segment *segment, const struct segment *other)
{
	return segment->job == other->job && other->attempt &&
	       (!segment->attempt || segment->attempt > other->attempt);
}

/*
 * The segment in which the bytes behind the base of segments[last] are, which is the last one of
 * that base. A job that received nothing leaves its base to what comes next: of several segments
 * with one base at most one was given bytes. It is the idle one if that has any, for jobs can write
 * more than they received, else that of the latest job, and of its latest attempt.
 */
static const struct segment *choose_segment(const struct history *history, size_t last)
{
	const struct segment *chosen = &history->segments[last];
	const struct segment *idle = chosen->job ? NULL : chosen;

	for (size_t i = last; i > 0 && history->segments[i - 1].base == chosen->base; i--) {
		const struct segment *segment = &history->segments[i - 1];

		if (!segment->job)
			idle = segment;
		else if (segment->job > chosen->job || is_later_attempt(segment, chosen))
			chosen = segment;
	}
	return idle && (idle == chosen || segment_size(history, idle) > 0) ? idle : chosen;
}

uint64_t history_end(const struct history *history)
{
	const struct segment *segment;

	if (history->count == 0)
		return 0;
	segment = choose_segment(history, history->count - 1);
	return segment->base + segment_size(history, segment);
}

void history_cursor_init(struct history_cursor *cursor, uint64_t offset)
{
	*cursor = (struct history_cursor){ .offset = offset, .fd = -1 };
}

void history_cursor_done(struct history_cursor *cursor)
{
	cursor->fd = close_fd(cursor->fd);
}

uint64_t history_clamp(const struct history *history, uint64_t offset)
{
	if (history->count > 0 && offset < history->segments[0].base)
		return history->segments[0].base;
	return offset;
}

/* The index of the first segment that begins after offset; count when there is none. */
static size_t first_after(const struct history *history, uint64_t offset)
{
	size_t i = history->count;

	while (i > 0 && history->segments[i - 1].base > offset)
		i--;
	return i;
}

/* Makes the cursor stand in this segment. -ENOENT when its file is gone. */
static int enter_segment(const struct history *history, struct history_cursor *cursor,
			 const struct segment *segment, struct error *err)
{
	int r;

	if (cursor->fd >= 0 && cursor->base == segment->base && cursor->job == segment->job &&
	    cursor->attempt == segment->attempt)
		return 0;
	history_cursor_done(cursor);
	r = open_segment(history, segment, &cursor->fd, err);
	if (r < 0)
		return r;
	cursor->base = segment->base;
	cursor->job = segment->job;
	cursor->attempt = segment->attempt;
	return 0;
}

/* Reads from the segment in which the offset lies, which may be empty or shorter. */
static ssize_t read_here(const struct history *history, struct history_cursor *cursor, char *buffer,
			 size_t size, size_t after, struct error *err)
{
	const struct segment *segment = choose_segment(history, after - 1);
	uint64_t room = UINT64_MAX;
	ssize_t n;
	int r;

	r = enter_segment(history, cursor, segment, err);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* the next one may be there */
	/* A job that wrote more than it was lent does not reach into what came after it. */
	if (after < history->count)
		room = history->segments[after].base - cursor->offset;
	n = pread(cursor->fd, buffer, size < room ? size : room,
		  (off_t)(cursor->offset - cursor->base));
	return n < 0 ? error_errno(err, "cannot read the console's log") : n;
}

ssize_t history_read(const struct history *history, struct history_cursor *cursor, char *buffer,
		     size_t size, struct error *err)
{
	cursor->offset = history_clamp(history, cursor->offset);
	for (;;) {
		size_t after = first_after(history, cursor->offset);
		ssize_t n;

		if (after == 0)
			return 0;
		n = read_here(history, cursor, buffer, size, after, err);
		if (n > 0)
			cursor->offset += (uint64_t)n;
		if (n != 0 || after == history->count)
			return n;
		cursor->offset = history->segments[after].base;
	}
}

uint64_t history_locate(const struct history *history, uint64_t offset)
{
	struct history_cursor cursor;
	char byte;

	history_cursor_init(&cursor, offset);
	if (history_read(history, &cursor, &byte, 1, NULL) > 0)
		cursor.offset--;
	history_cursor_done(&cursor);
	return cursor.offset;
}

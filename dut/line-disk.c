/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/space.h"
#include "dut/line-internal.h"

/*
 * Where an idle console's bytes go: into segments, of which the oldest make room for the next; and
 * nowhere while the disk has no room for them. What was lost then stands as a mark at the beginning
 * of the segment behind it, and its offsets are never given again.
 */

static const uint64_t LOOK_US = 1000000;	 /* from one look for room to the next */
static const uint64_t TELL_US = 60 * 1000000ULL; /* from one line in the log to the next */

enum {
	PARTS = 8, /* of what is kept: segments are as large as that */
	MIN_SEGMENT = 65536,
	MAX_SEGMENTS = 1000, /* that are kept: each job leaves one behind */
	DROP_SIZE = 65536,
	INDEX_COST = 64, /* bytes, about, that the index has for what comes at once */
};

bool line_is_full(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EFBIG;
}

/* ---- what is kept ---- */

/* With its index: of a board that says a byte now and then, that is the larger one. */
static uint64_t size_of(const struct line *line, uint64_t base)
{
	static const char *const suffixes[] = { "log", "idx" };
	uint64_t size = 0;

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		struct stat status;
		char name[32];

		(void)snprintf(name, sizeof(name), "%" PRIu64 ".%s", base, suffixes[i]);
		if (fstatat(line->dir_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0)
			size += (uint64_t)status.st_size;
	}
	return size;
}

static void remove_segment(struct line *line, uint64_t base)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "%" PRIu64 ".log", base);
	(void)unlinkat(line->dir_fd, name, 0);
	(void)snprintf(name, sizeof(name), "%" PRIu64 ".idx", base);
	(void)unlinkat(line->dir_fd, name, 0);
	history_remove_idle(&line->history, base);
}

static uint64_t part(const struct line *line)
{
	uint64_t size = line->config.max_kept / PARTS;

	return size > MIN_SEGMENT ? size : MIN_SEGMENT;
}

/* The oldest go until the rest is within the limits; the present one stays. */
static void remove_oldest(struct line *line, uint64_t total, uint64_t count)
{
	uint64_t present = stream_base(line->stream);

	for (size_t i = 0; i < line->history.count;) {
		const struct segment *segment = &line->history.segments[i];

		if (total <= line->config.max_kept && count <= MAX_SEGMENTS)
			break;
		if (segment->job != 0 || segment->base == present) {
			i++;
			continue;
		}
		if (total > 0)
			total -= size_of(line, segment->base);
		count--;
		remove_segment(line, segment->base);
	}
}

/* Looks at all files, but not after each job: when there may be an eighth more than at the last
 * look. */
static void prune(struct line *line)
{
	uint64_t total = 0, count = 0;
	bool look = !line->pruned || line->unpruned >= part(line);

	for (size_t i = 0; i < line->history.count; i++)
		if (line->history.segments[i].job == 0) {
			total += look ? size_of(line, line->history.segments[i].base) : 0;
			count++;
		}
	remove_oldest(line, total, count);
	line->pruned = true;
	if (look)
		line->unpruned = 0;
}

static void mark_gap(struct line *line)
{
	if (line->tells)
		log_board(line->config.board, LOG_NOTICE,
			  "console %s: %" PRIu64 " bytes in front of offset %" PRIu64
			  " were lost: the disk was full",
			  line->config.name, line->lost, line->offset);
	line->tells = false;
	line_mark(line, "gap",
		  json_pack("{s:s, s:I, s:I}", "cause", "disk", "from",
			    (json_int_t)(line->offset - line->lost), "length",
			    (json_int_t)line->lost));
	line->lost = 0;
}

int line_open_segment(struct line *line, struct error *err)
{
	char name[24];
	int r;

	if (line->stream)
		return 0;
	(void)snprintf(name, sizeof(name), "%" PRIu64, line->offset);
	r = stream_open(&line->stream, line->dir_fd, name, line->offset, err);
	if (r < 0)
		return r;
	if (line->lost > 0)
		mark_gap(line);
	line->offset = stream_offset(line->stream);
	r = history_add(&line->history, stream_base(line->stream), 0, err);
	prune(line);
	return r;
}

/* ---- no room ---- */

/* Throws away what one fd has now: its bytes, or what read() says. */
static ssize_t drop_once(struct line *line, int fd)
{
	char buffer[DROP_SIZE];
	ssize_t n = read(fd, buffer, sizeof(buffer));

	if (n > 0) {
		line->lost += (uint64_t)n;
		line->offset += (uint64_t)n;
	}
	return n;
}

void line_begin_gap(struct line *line, const char *why)
{
	int pipe_fd = line->stream ? stream_pipe_read_fd(line->stream) : line->pipe_read_fd;
	struct error err;

	/* A disk that is at the edge for hours does not fill the log as well. */
	if (!line->told_us || clock_now_us() - line->told_us > TELL_US) {
		log_board(line->config.board, LOG_WARNING,
			  "console %s: what comes is lost until there is room: %s",
			  line->config.name, why);
		line->told_us = clock_now_us();
		line->tells = true;
	}
	line->offset = line_offset(line);
	while (drop_once(line, pipe_fd) > 0)
		;
	if (line->stream && stream_detach(line->stream, &line->fd, &line->pipe_read_fd,
					  &line->pipe_write_fd, &err) < 0)
		return; /* its pipe is empty: this does not happen */
	line->stream = stream_close(line->stream);
	line->dropping = true;
	line->looked_us = clock_now_us();
}

void line_note_gap(struct line *line)
{
	struct error err;

	if (line_open_segment(line, &err) < 0)
		log_board(line->config.board, LOG_ERR,
			  "console %s: that %" PRIu64 " bytes in front of offset %" PRIu64
			  " were lost is not in its index: %s",
			  line->config.name, line->lost, line->offset, err.text);
}

/* Logs again if there is room, and a little more than that. */
static bool end_gap(struct line *line)
{
	struct error err;

	if (space_is_low(line->dir_fd, line->config.min_free + line->config.min_free / PARTS) ||
	    line_open_segment(line, &err) < 0)
		return false;
	line->dropping = false;
	if (stream_attach(line->stream, take_fd(&line->fd), take_fd(&line->pipe_read_fd),
			  take_fd(&line->pipe_write_fd), &err) < 0)
		line_begin_gap(line, err.text);
	return !line->dropping;
}

static ssize_t drop(struct line *line, struct error *err)
{
	ssize_t n = drop_once(line, line->fd);

	if (n > 0)
		return n;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return error_set(err, -ENODATA, "the console has ended");
}

/* ---- bytes ---- */

/* The next segment, when this one is large enough. */
static int rotate(struct line *line, struct error *err)
{
	int r;

	if (!line->is_large && stream_offset(line->stream) - stream_base(line->stream) < part(line))
		return 0;
	line->is_large = false;
	r = stream_detach(line->stream, &line->fd, &line->pipe_read_fd, &line->pipe_write_fd, err);
	if (r < 0)
		return r;
	line->offset = stream_offset(line->stream);
	line->stream = stream_close(line->stream);
	r = line_open_segment(line, err);
	if (r >= 0)
		r = stream_attach(line->stream, take_fd(&line->fd), take_fd(&line->pipe_read_fd),
				  take_fd(&line->pipe_write_fd), err);
	return r;
}

/* Not at every byte: the disk is asked after so many of them, or so much time. */
static bool is_low(struct line *line)
{
	uint64_t now_us = clock_now_us();

	if (line->written < SPACE_STEP && now_us - line->looked_us < LOOK_US)
		return false;
	line->looked_us = now_us;
	line->written = 0;
	line->is_large = size_of(line, stream_base(line->stream)) >= part(line);
	return space_is_low(line->dir_fd, line->config.min_free);
}

ssize_t line_pump(struct line *line, struct error *err)
{
	ssize_t n;
	int r = 0;

	if (line->dropping) {
		if (clock_now_us() - line->looked_us < LOOK_US)
			return drop(line, err);
		line->looked_us = clock_now_us();
		if (!end_gap(line))
			return drop(line, err);
	}
	if (is_low(line)) {
		(void)space_check(line->dir_fd, line->config.min_free, err);
		line_begin_gap(line, err->text);
		return drop(line, err);
	}
	n = stream_pump(line->stream, err);
	if (n > 0) {
		line->written += (uint64_t)n;
		line->unpruned += (uint64_t)n + INDEX_COST;
		r = rotate(line, err);
	} else {
		r = (int)n;
	}
	if (n > 0 ? r < 0 : line_is_full(r)) {
		line_begin_gap(line, err->text);
		return n > 0 ? n : 0;
	}
	return n;
}

/* SPDX-License-Identifier: MIT */
#include "dut/line.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/stream.h"
#include "dut/line-internal.h"

static const uint64_t WRITE_RETRY_US = 1000000;

enum { MAX_LAST_PUMPS = 64 }; /* of 64 KiB: more than a socket holds */

static void drop_source(struct line *line)
{
	line->fd_source = sd_event_source_disable_unref(line->fd_source);
}

struct line *line_free(struct line *line)
{
	if (!line)
		return NULL;
	viewers_end(&line->viewers);
	fdstore_put(line->config.fdstore, &line->fd_slot, -1);
	fdstore_put(line->config.fdstore, &line->pipe_slot, -1);
	drop_source(line);
	sd_event_source_disable_unref(line->retry);
	line->stream = stream_close(line->stream);
	(void)close_fd(line->fd);
	line_close_fds(line);
	(void)close_fd(line->dir_fd);
	line->config.console = console_close(line->config.console);
	history_done(&line->history);
	config_dut_unref(line->config.dut);
	free(line);
	return NULL;
}

CLEANUP_DEFINE(struct line *, line_free)

int line_new(struct line **ret, const struct line_config *config, struct error *err)
{
	cleanup_(line_freep) struct line *line = calloc(1, sizeof(*line));
	char path[96];
	int r;

	if (!line)
		return error_oom(err);
	line->config = *config;
	line->config.console = NULL; /* ours only on success */
	if (config->dut)
		config_dut_ref(config->dut);
	line->dir_fd = line->fd = line->wake_fd = -1;
	line->pipe_read_fd = line->pipe_write_fd = -1;
	viewers_init(&line->viewers, MAX_VIEWERS);
	(void)snprintf(path, sizeof(path), "console/%s", config->name);
	r = file_make_dir(&line->dir_fd, config->board_dir_fd, path, 0750, err);
	if (r < 0)
		return r;
	line->history.console_dir_fd = line->dir_fd;
	line->history.jobs_dir_fd = config->jobs_dir_fd;
	r = history_scan(&line->history, err);
	if (r < 0)
		return r;
	fdstore_slot_init(&line->fd_slot, "console", config->board, config->name);
	fdstore_slot_init(&line->pipe_slot, "pipe", config->board, config->name);
	r = line_make_fds(line, err);
	if (r < 0)
		return r;
	line->config.console = config->console;
	*ret = take_ptr(line);
	return 0;
}

const char *line_name(const struct line *line)
{
	return line->config.name;
}

const struct config_dut *line_dut(const struct line *line)
{
	return line->config.dut;
}

void line_set_limits(struct line *line, uint64_t min_free, uint64_t max_kept)
{
	line->config.min_free = min_free;
	line->config.max_kept = max_kept;
}

enum line_state line_state(const struct line *line)
{
	return line->state;
}

uint64_t line_offset(const struct line *line)
{
	return line->stream ? stream_offset(line->stream) : line->offset;
}

struct history *line_history(struct line *line)
{
	return &line->history;
}

struct viewers *line_viewers(struct line *line)
{
	return &line->viewers;
}

void line_start(struct line *line)
{
	line->offset = history_end(&line->history);
}

void line_on_append(struct line *line, bool (*fn)(void *data), void *data)
{
	line->on_append = fn;
	line->on_append_data = data;
}

void line_on_hangup(struct line *line, void (*fn)(void *data), void *data)
{
	line->on_hangup = fn;
	line->on_hangup_data = data;
}

void line_mark(struct line *line, const char *kind, json_t *extra)
{
	struct error err;

	if (!line->stream)
		json_decref(extra);
	else if (stream_mark(line->stream, kind, extra, &err) < 0)
		log_board(line->config.board, LOG_WARNING, "console %s: %s", line->config.name,
			  err.text);
}

/* The console has ended while we read it. The segment goes on: offsets do, too. */
static void console_ended(struct line *line)
{
	drop_source(line);
	if (line->stream)
		(void)stream_detach(line->stream, &line->fd, &line->pipe_read_fd,
				    &line->pipe_write_fd, NULL);
	line_set_fd(line, -1);
	line->dropping = false;
	line->state = LINE_CLOSED;
	line_mark(line, "plug", json_pack("{s:s}", "event", "closed"));
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct line *line = data;

	(void)source;
	(void)usec;
	if (line->state == LINE_READING)
		(void)sd_event_source_set_enabled(line->fd_source, SD_EVENT_ON);
	return 0;
}

/* No full disk, but a log that cannot be written: the bytes wait in the pipe, then at the board. */
static void write_failed(struct line *line, const char *text)
{
	if (!line->complained)
		log_board(line->config.board, LOG_ERR, "console %s: %s", line->config.name, text);
	line->complained = true;
	(void)sd_event_source_set_enabled(line->fd_source, SD_EVENT_OFF);
	line->retry = sd_event_source_disable_unref(line->retry);
	(void)sd_event_add_time_relative(line->config.event, &line->retry, CLOCK_BOOTTIME,
					 WRITE_RETRY_US, 0, on_retry, line);
}

/* Moves what is there. False when the console has ended. */
static bool pump(struct line *line)
{
	struct error err;
	ssize_t n = line_pump(line, &err);

	if (n > 0) {
		line->complained = false;
		viewers_wake(&line->viewers);
	} else if (n < 0 && n != -ENODATA) {
		write_failed(line, err.text);
	}
	return n != -ENODATA;
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct line *line = data;

	(void)source;
	(void)fd;
	(void)events;
	if (!pump(line))
		console_ended(line);
	return 0;
}

static int on_hangup(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct line *line = data;

	(void)fd;
	(void)events;
	/* Level-triggered: once is enough. The executor reads what is left and finds the end by
	 * itself. */
	(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	if (line->on_hangup)
		line->on_hangup(line->on_hangup_data);
	return 0;
}

/* Asks the fd itself: the loop may not have told us yet. */
static bool has_hung_up(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLRDHUP };

	return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLHUP | POLLERR | POLLRDHUP));
}

/* A console that has ended is read to its end, and is closed then. */
static void finish_reading(struct line *line)
{
	int fd = line->stream ? stream_console_fd(line->stream) : line->fd;

	if (line->state != LINE_READING || !has_hung_up(fd))
		return;
	while (pump(line))
		if (sd_event_source_get_enabled(line->fd_source, NULL) == 0)
			return; /* the disk is full: later */
	console_ended(line);
}

/*
 * Whether what an executor handed over is the console, only the driver can tell, which opens it
 * anew. What it has is read first, unless that does not end.
 */
static void disown(struct line *line)
{
	ssize_t n = line->state == LINE_READING ? 1 : 0;

	if (line->state == LINE_LENT)
		return;
	for (unsigned i = 0; i < MAX_LAST_PUMPS && n > 0; i++)
		n = line_pump(line, NULL);
	if (n < 0 && n != -ENODATA)
		return; /* the disk is full: later */
	line->adopted = false;
	if (line->state == LINE_READING) {
		viewers_wake(&line->viewers);
		console_ended(line);
	} else {
		line_set_fd(line, -1);
		line->state = LINE_CLOSED;
	}
}

int line_connect(struct line *line, struct error *err)
{
	int fd, r;

	finish_reading(line);
	if (line->adopted)
		disown(line);
	if (line->state == LINE_READING || (line->fd >= 0 && !has_hung_up(line->fd)))
		return 0;
	r = console_connect(line->config.console, &fd, err);
	if (r < 0)
		return r;
	drop_source(line);
	line_set_fd(line, fd);
	line->replaced = true;
	line->restored = false;
	if (line->state == LINE_CLOSED) {
		line->state = LINE_HELD;
		line_mark(line, "plug", json_pack("{s:s}", "event", "opened"));
	}
	return 1;
}

bool line_has_hung_up(const struct line *line)
{
	return line->fd >= 0 && has_hung_up(line->fd);
}

bool line_loan_is_current(const struct line *line)
{
	return line->state == LINE_LENT && !line->replaced;
}

void line_forget_loan(struct line *line)
{
	line->replaced = true;
}

int line_read(struct line *line, struct error *err)
{
	bool full;
	int r;

	if (line->state == LINE_READING || line->state == LINE_LENT)
		return 0;
	r = line_open_segment(line, err);
	full = line_is_full(r);
	if ((r < 0 && !full) || line->state == LINE_CLOSED)
		return r;
	r = sd_event_add_io(line->config.event, &line->fd_source, line->fd, EPOLLIN, on_readable,
			    line);
	if (r < 0)
		return error_code(err, r, "cannot watch the console");
	(void)sd_event_source_set_description(line->fd_source, "console");
	line->state = LINE_READING;
	if (full) {
		line_begin_gap(line, err->text);
		return 0;
	}
	r = stream_attach(line->stream, take_fd(&line->fd), take_fd(&line->pipe_read_fd),
			  take_fd(&line->pipe_write_fd), err);
	/* Bytes wait in the pipe even when the console says nothing more. */
	if (r >= 0 && line->restored && !pump(line))
		console_ended(line);
	line->restored = false;
	return r;
}

int line_hold(struct line *line, struct error *err)
{
	int r = 0;

	if (line->state == LINE_READING && line->stream) {
		r = stream_detach(line->stream, &line->fd, &line->pipe_read_fd,
				  &line->pipe_write_fd, err);
		if (r < 0)
			return r;
	}
	if (line->state == LINE_READING) {
		drop_source(line);
		line->state = LINE_HELD;
	}
	line->dropping = false;
	if (line->lost > 0)
		line_note_gap(line);
	line->offset = line_offset(line);
	line->stream = stream_close(line->stream);
	/* Unless it has been at the end of the last loan. */
	return line_renew_fds(line, err);
}

int line_begin_loan(struct line *line, uint64_t job, struct error *err)
{
	return history_add(&line->history, line->offset, job, err);
}

/* No events asked for: what comes is hang-up and error. */
static void watch_hangup(struct line *line)
{
	drop_source(line);
	if (sd_event_add_io(line->config.event, &line->fd_source, line->fd, 0, on_hangup, line) >=
	    0)
		(void)sd_event_source_set_description(line->fd_source, "console-lent");
}

int line_adopt(struct line *line, int fds[static LINE_LOAN_FDS], unsigned generation,
	       struct error *err)
{
	close_ int console_fd = take_fd(&fds[0]), read_fd = take_fd(&fds[1]);
	close_ int write_fd = take_fd(&fds[2]), wake_fd = take_fd(&fds[3]);
	int r;

	if (console_fd < 0 || !line_is_fifo(read_fd) || !line_is_fifo(write_fd) ||
	    !line_is_eventfd(wake_fd))
		return error_set(err, -EBADF, "the executor sent no loan of a console");
	r = line_watch_wake(line, take_fd(&wake_fd), err);
	if (r < 0)
		return r;
	/* What was kept for us is the console beyond doubt, and need not be opened anew. */
	line->adopted = !line->restored || !line_is_same(line->fd, console_fd) ||
			!line_is_same(line->pipe_read_fd, read_fd);
	if (line->adopted) {
		line_set_fd(line, take_fd(&console_fd));
		(void)close_fd(line->pipe_read_fd);
		line->pipe_read_fd = take_fd(&read_fd);
		line_keep_pipe(line);
	}
	(void)close_fd(line->pipe_write_fd);
	line->pipe_write_fd = take_fd(&write_fd);
	line->generation = generation;
	line->replaced = line->restored = false;
	line->fds_lent = true;
	line->state = LINE_LENT;
	watch_hangup(line);
	return 0;
}

unsigned line_lend(struct line *line, int ret_fds[static LINE_LOAN_FDS])
{
	watch_hangup(line);
	/* Somebody may view the job already. */
	line_watch(line);
	ret_fds[0] = line->fd;
	ret_fds[1] = line->pipe_read_fd;
	ret_fds[2] = line->pipe_write_fd;
	ret_fds[3] = line->wake_fd;
	line->fds_lent = true;
	line->state = LINE_LENT;
	line->replaced = line->restored = false;
	return ++line->generation;
}

unsigned line_generation(const struct line *line)
{
	return line->generation;
}

int line_end_loan(struct line *line, int job_dir_fd, uint64_t base, uint64_t max_size,
		  struct error *err)
{
	uint64_t size = UINT64_MAX;
	int r = 0;

	if (job_dir_fd >= 0) {
		r = stream_drain(line->pipe_read_fd, job_dir_fd, "console", base, max_size, &size,
				 err);
		/* Offsets that were given to the job must not be given again. */
		if (size == UINT64_MAX)
			return r;
		line->offset = base + size;
	}
	/* What a full disk did not take waits in the pipe. */
	if (r >= 0) {
		r = line_renew_fds(line, err);
		if (r < 0)
			return r;
	}
	drop_source(line);
	/* The borrower shares our open file: it may have changed its flags. */
	if (line->state == LINE_LENT || line->restored)
		(void)fcntl(line->fd, F_SETFL, O_NONBLOCK);
	if (line->state == LINE_LENT)
		line->state = line->fd >= 0 ? LINE_HELD : LINE_CLOSED;
	viewers_wake(&line->viewers);
	return r;
}

/* SPDX-License-Identifier: MIT */
#include "dut/line.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
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

/* The pipe and the eventfd. */
static void close_fds(struct line *line)
{
	line->wake_source = sd_event_source_disable_unref(line->wake_source);
	line->pipe_read_fd = close_fd(line->pipe_read_fd);
	line->pipe_write_fd = close_fd(line->pipe_write_fd);
	line->wake_fd = close_fd(line->wake_fd);
}

struct line *line_free(struct line *line)
{
	if (!line)
		return NULL;
	viewers_end(&line->viewers);
	drop_source(line);
	sd_event_source_disable_unref(line->retry);
	line->stream = stream_close(line->stream);
	(void)close_fd(line->fd);
	close_fds(line);
	(void)close_fd(line->dir_fd);
	line->config.console = console_close(line->config.console);
	history_done(&line->history);
	config_dut_unref(line->config.dut);
	free(line);
	return NULL;
}

CLEANUP_DEFINE(struct line *, line_free)

static int on_wake(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct line *line = data;
	uint64_t count;

	(void)source;
	(void)events;
	/* The executor has this fd too, and may have made it one that blocks. */
	if (preadv2(fd, &(struct iovec){ &count, sizeof(count) }, 1, -1, RWF_NOWAIT) < 0)
		return 0;
	viewers_wake(&line->viewers);
	if (line->on_append)
		line->on_append(line->on_append_data);
	return 0;
}

/* Takes over wake_fd, also on failure. */
static int watch_wake(struct line *line, int wake_fd, struct error *err)
{
	int r;

	line->wake_source = sd_event_source_disable_unref(line->wake_source);
	(void)close_fd(line->wake_fd);
	line->wake_fd = wake_fd;
	r = sd_event_add_io(line->config.event, &line->wake_source, line->wake_fd, EPOLLIN, on_wake,
			    line);
	if (r < 0)
		return error_code(err, r, "cannot watch the console's eventfd");
	(void)sd_event_source_set_description(line->wake_source, "console-wake");
	return 0;
}

static int open_fds(struct line *line, struct error *err)
{
	int pipes[2], wake_fd;

	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_errno(err, "pipe");
	line->pipe_read_fd = pipes[0];
	line->pipe_write_fd = pipes[1];
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd < 0)
		return error_errno(err, "eventfd");
	return watch_wake(line, wake_fd, err);
}

/*
 * What was lent stays with whoever got it from the borrower: a process that outlives it, the board
 * behind the console. The bytes of others go through a pipe that those do not have.
 */
static int renew_fds(struct line *line, struct error *err)
{
	struct line old = *line;
	int r;

	if (!line->fds_lent)
		return 0;
	line->pipe_read_fd = line->pipe_write_fd = line->wake_fd = -1;
	line->wake_source = NULL;
	r = open_fds(line, err);
	line->fds_lent = r < 0;
	if (r >= 0) {
		close_fds(&old);
		return 0;
	}
	close_fds(line);
	line->pipe_read_fd = old.pipe_read_fd;
	line->pipe_write_fd = old.pipe_write_fd;
	line->wake_fd = old.wake_fd;
	line->wake_source = old.wake_source;
	return r;
}

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
	r = open_fds(line, err);
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

void line_on_append(struct line *line, void (*fn)(void *data), void *data)
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
	line->fd = close_fd(line->fd);
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
		line->fd = close_fd(line->fd);
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
	(void)close_fd(line->fd);
	line->fd = fd;
	line->replaced = true;
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
	return stream_attach(line->stream, take_fd(&line->fd), take_fd(&line->pipe_read_fd),
			     take_fd(&line->pipe_write_fd), err);
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
	return renew_fds(line, err);
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

static bool is_fifo(int fd)
{
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

/* Anything else might always be readable, and keep us busy. */
static bool is_eventfd(int fd)
{
	static const char wanted[] = "anon_inode:[eventfd]";
	char path[32], target[sizeof(wanted)];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target));
	return n == (ssize_t)strlen(wanted) && memcmp(target, wanted, (size_t)n) == 0;
}

int line_adopt(struct line *line, int fds[static LINE_LOAN_FDS], unsigned generation,
	       struct error *err)
{
	close_ int console_fd = take_fd(&fds[0]), read_fd = take_fd(&fds[1]);
	close_ int write_fd = take_fd(&fds[2]), wake_fd = take_fd(&fds[3]);
	int r;

	if (console_fd < 0 || !is_fifo(read_fd) || !is_fifo(write_fd) || !is_eventfd(wake_fd))
		return error_set(err, -EBADF, "the executor sent no loan of a console");
	r = watch_wake(line, take_fd(&wake_fd), err);
	if (r < 0)
		return r;
	(void)close_fd(line->fd);
	(void)close_fd(line->pipe_read_fd);
	(void)close_fd(line->pipe_write_fd);
	line->fd = take_fd(&console_fd);
	line->pipe_read_fd = take_fd(&read_fd);
	line->pipe_write_fd = take_fd(&write_fd);
	line->generation = generation;
	line->replaced = false;
	line->fds_lent = line->adopted = true;
	line->state = LINE_LENT;
	watch_hangup(line);
	return 0;
}

unsigned line_lend(struct line *line, int ret_fds[static LINE_LOAN_FDS])
{
	watch_hangup(line);
	ret_fds[0] = line->fd;
	ret_fds[1] = line->pipe_read_fd;
	ret_fds[2] = line->pipe_write_fd;
	ret_fds[3] = line->wake_fd;
	line->fds_lent = true;
	line->state = LINE_LENT;
	line->replaced = false;
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
		r = renew_fds(line, err);
		if (r < 0)
			return r;
	}
	drop_source(line);
	if (line->state == LINE_LENT) {
		/* The borrower shares our open file: it may have changed its flags. */
		if (line->fd >= 0)
			(void)fcntl(line->fd, F_SETFL, O_NONBLOCK);
		line->state = line->fd >= 0 ? LINE_HELD : LINE_CLOSED;
	}
	viewers_wake(&line->viewers);
	return r;
}

/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dut/line-internal.h"

/*
 * What a line reads with: the console, its pipe, and the eventfd that wakes its viewers while it is
 * lent. Console and the pipe's read end are kept by the service manager while no dutd runs.
 */

/* The pipe and the eventfd. */
void line_close_fds(struct line *line)
{
	line->wake_source = sd_event_source_disable_unref(line->wake_source);
	line->pipe_read_fd = close_fd(line->pipe_read_fd);
	line->pipe_write_fd = close_fd(line->pipe_write_fd);
	line->wake_fd = close_fd(line->wake_fd);
}

/* The console is another one, or there is none any more. */
void line_set_fd(struct line *line, int fd)
{
	(void)close_fd(line->fd);
	line->fd = fd;
	fdstore_put(line->config.fdstore, &line->fd_slot, fd);
}

void line_keep_pipe(struct line *line)
{
	fdstore_put(line->config.fdstore, &line->pipe_slot, line->pipe_read_fd);
}

static int on_wake(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct line *line = data;
	bool watched = line->viewers.count > 0;
	uint64_t count;

	(void)events;
	/* The executor has this fd too, and may have made it one that blocks. */
	if (preadv2(fd, &(struct iovec){ &count, sizeof(count) }, 1, -1, RWF_NOWAIT) < 0)
		return 0;
	viewers_wake(&line->viewers);
	if (line->on_append && line->on_append(line->on_append_data))
		watched = true;
	/* Else a console that talks to nobody would wake us all the while, and its reader would pay
	 * for that. */
	if (!watched)
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

void line_watch(struct line *line)
{
	if (line->wake_source)
		(void)sd_event_source_set_enabled(line->wake_source, SD_EVENT_ON);
}

/* Takes over wake_fd, also on failure. */
int line_watch_wake(struct line *line, int wake_fd, struct error *err)
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

static int open_wake(struct line *line, struct error *err)
{
	int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return wake_fd < 0 ? error_errno(err, "eventfd") : line_watch_wake(line, wake_fd, err);
}

static int open_fds(struct line *line, struct error *err)
{
	int pipes[2], r;

	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_errno(err, "pipe");
	line->pipe_read_fd = pipes[0];
	line->pipe_write_fd = pipes[1];
	r = open_wake(line, err);
	if (r >= 0)
		line_keep_pipe(line);
	return r;
}

bool line_is_fifo(int fd)
{
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

/*
 * The console as an earlier dutd had it, which nobody has closed in between, and its pipe, of which
 * only the read end was kept. What was in them still is. Who else has them we do not know: an
 * executor, to which they were lent.
 */
static bool restore_fds(struct line *line)
{
	close_ int fd = fdstore_take(line->config.fdstore, &line->fd_slot);
	close_ int read_fd = fdstore_take(line->config.fdstore, &line->pipe_slot);
	char path[32];

	if (line_is_fifo(read_fd)) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", read_fd);
		line->pipe_write_fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	}
	if (line->pipe_write_fd < 0)
		return false;
	line->pipe_read_fd = take_fd(&read_fd);
	line->fds_lent = true;
	(void)fcntl(line->pipe_read_fd, F_SETFL, O_NONBLOCK);
	if (fd >= 0) {
		(void)fcntl(fd, F_SETFL, O_NONBLOCK);
		line->fd = take_fd(&fd);
		line->state = LINE_HELD;
		line->replaced = line->restored = true;
	}
	return true;
}

/*
 * What was lent stays with whoever got it from the borrower: a process that outlives it, the board
 * behind the console. The bytes of others go through a pipe that those do not have.
 */
int line_renew_fds(struct line *line, struct error *err)
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
		line_close_fds(&old);
		return 0;
	}
	line_close_fds(line);
	line->pipe_read_fd = old.pipe_read_fd;
	line->pipe_write_fd = old.pipe_write_fd;
	line->wake_fd = old.wake_fd;
	line->wake_source = old.wake_source;
	return r;
}

/* Anything else might always be readable, and keep us busy. */
bool line_is_eventfd(int fd)
{
	static const char wanted[] = "anon_inode:[eventfd]";
	char path[32], target[sizeof(wanted)];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target));
	return n == (ssize_t)strlen(wanted) && memcmp(target, wanted, (size_t)n) == 0;
}

/* Sockets and pipes have numbers of their own, and so has a device. */
bool line_is_same(int a, int b)
{
	struct stat first, second;

	return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
	       first.st_ino == second.st_ino;
}

int line_make_fds(struct line *line, struct error *err)
{
	return restore_fds(line) ? open_wake(line, err) : open_fds(line, err);
}

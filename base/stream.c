/* SPDX-License-Identifier: MIT */
#include "base/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

enum {
	MAX_SPLICE = 65536,    /* bytes a step: what a pipe holds by default */
	MIN_SPLICE = 4096,     /* bytes: for a tty the kernel takes pages for all that is asked */
	ALL = -1,	       /* bytes that lie in a pipe now */
	INDEX_STEP_US = 5000,  /* at most one time record in that time */
	MAX_INDEX_LINE = 4096, /* bytes */
};

struct stream {
	int log_fd, index_fd;
	int console_fd, pipe_read_fd, pipe_write_fd;
	int wake_fd;	 /* borrowed */
	bool pipe_dirty; /* something may lie in the pipe */
	size_t step;	 /* how much the next splice() asks for */
	uint64_t base, size;
	uint64_t indexed_us; /* when the last time record was written */
};

static void close_source(struct stream *stream)
{
	stream->console_fd = close_fd(stream->console_fd);
	stream->pipe_read_fd = close_fd(stream->pipe_read_fd);
	stream->pipe_write_fd = close_fd(stream->pipe_write_fd);
}

struct stream *stream_close(struct stream *stream)
{
	if (stream) {
		close_source(stream);
		(void)close_fd(stream->log_fd);
		(void)close_fd(stream->index_fd);
		free(stream);
	}
	return NULL;
}

CLEANUP_DEFINE(struct stream *, stream_close)

static int open_file(int *ret_fd, int dir_fd, const char *name, const char *suffix, int flags,
		     struct error *err)
{
	char path[NAME_MAX + 1];
	int fd;

	(void)snprintf(path, sizeof(path), "%s.%s", name, suffix);
	/* splice(2) refuses a file that was opened with O_APPEND, so the log is written at its
	 * size. */
	fd = openat(dir_fd, path, flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return error_errno(err, "cannot open %s", path);
	*ret_fd = fd;
	return 0;
}

static int append_index(int fd, const char *line, size_t length, struct error *err)
{
	int r = file_append(fd, line, length, err);

	return r < 0 ? error_prefix(err, r, "the console's index") : 0;
}

/* An index that is empty gets its first line; one that ends in a torn line gets a line end. */
static int begin_index(int fd, uint64_t base, struct error *err)
{
	char line[160];
	struct stat status;
	char last = '\n';
	int length;

	if (fstat(fd, &status) < 0)
		return error_errno(err, "cannot read the console's index");
	if (status.st_size > 0) {
		if (pread(fd, &last, 1, status.st_size - 1) == 1 && last != '\n')
			return append_index(fd, "\n", 1, err);
		return 0;
	}
	length = snprintf(line, sizeof(line), "dut-idx 1 %" PRIu64 " %s %" PRIu64 " %" PRIu64 "\n",
			  base, clock_boot_id(), clock_now_us(), clock_realtime_us());
	return append_index(fd, line, (size_t)length, err);
}

int stream_open(struct stream **ret, int dir_fd, const char *name, uint64_t base, struct error *err)
{
	cleanup_(stream_closep) struct stream *stream = malloc(sizeof(*stream));
	struct stat status;
	int r;

	if (!stream)
		return error_oom(err);
	*stream = (struct stream){
		.log_fd = -1,
		.index_fd = -1,
		.console_fd = -1,
		.pipe_read_fd = -1,
		.pipe_write_fd = -1,
		.wake_fd = -1,
		.step = MIN_SPLICE,
		.base = base,
	};
	r = open_file(&stream->log_fd, dir_fd, name, "log", O_RDWR, err);
	if (r < 0)
		return r;
	r = open_file(&stream->index_fd, dir_fd, name, "idx", O_RDWR | O_APPEND, err);
	if (r < 0)
		return r;
	if (fstat(stream->log_fd, &status) < 0)
		return error_errno(err, "cannot read %s.log", name);
	stream->size = (uint64_t)status.st_size;
	r = begin_index(stream->index_fd, base, err);
	if (r < 0)
		return r;
	*ret = take_ptr(stream);
	return 0;
}

void stream_set_wake_fd(struct stream *stream, int wake_fd)
{
	stream->wake_fd = wake_fd;
}

void stream_wake(struct stream *stream)
{
	const uint64_t one = 1;

	/* A counter that is full wakes its reader just as well. */
	if (stream->wake_fd >= 0 && write(stream->wake_fd, &one, sizeof(one)) < 0)
		return;
}

/* Writes a number in front of `end`; returns where it begins. (One wake-up of a slow console costs
 * a few microseconds in all, and two numbers of printf() are several of them.) */
static char *put_number(char *end, uint64_t number)
{
	do
		*--end = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	return end;
}

static void note_time(struct stream *stream, uint64_t offset)
{
	uint64_t now_us = clock_now_us();
	char line[64], *end = line + sizeof(line), *at = end;

	if (stream->indexed_us && now_us - stream->indexed_us < INDEX_STEP_US)
		return;
	*--at = '\n';
	at = put_number(at, now_us);
	*--at = ' ';
	at = put_number(at, offset);
	*--at = ' ';
	*--at = 't';
	/* The log is what counts: a full disk may cost times, and the next record that fits tells
	 * again. */
	if (append_index(stream->index_fd, at, (size_t)(end - at), NULL) == 0)
		stream->indexed_us = now_us;
}

/* Moves what lies in a pipe, known bytes of it or all, to the end of a log. The bytes moved, also
 * before an error, are added to *size. Whoever else can write to the pipe does not keep us here. */
static int empty_pipe(int pipe_fd, int log_fd, ssize_t known, uint64_t *size, struct error *err)
{
	int there = 0;
	uint64_t end;

	if (known == ALL && ioctl(pipe_fd, FIONREAD, &there) < 0)
		return error_errno(err, "cannot read the console's pipe");
	end = *size + (uint64_t)(known == ALL ? there : known);
	while (*size < end) {
		loff_t at = (loff_t)*size;
		size_t left = end - *size < MAX_SPLICE ? end - *size : MAX_SPLICE;
		ssize_t n = splice(pipe_fd, NULL, log_fd, &at, left, SPLICE_F_NONBLOCK);

		if (n > 0)
			*size += (uint64_t)n;
		else if (n == 0 || errno == EAGAIN)
			return 0;
		else if (errno != EINTR)
			return error_errno(err, "cannot write the console's log");
	}
	return 0;
}

static int empty_own_pipe(struct stream *stream, ssize_t known, struct error *err)
{
	uint64_t before = stream->size;
	int r = 0;

	if (stream->pipe_read_fd >= 0)
		r = empty_pipe(stream->pipe_read_fd, stream->log_fd, known, &stream->size, err);
	stream->pipe_dirty = r < 0;
	if (stream->size > before) {
		note_time(stream, stream->base + before);
		stream_wake(stream);
	}
	return r;
}

int stream_attach(struct stream *stream, int console_fd, int pipe_read_fd, int pipe_write_fd,
		  struct error *err)
{
	int r = empty_own_pipe(stream, ALL, err);

	close_source(stream);
	stream->console_fd = console_fd;
	stream->pipe_read_fd = pipe_read_fd;
	stream->pipe_write_fd = pipe_write_fd;
	/* An earlier holder may have left something in it. */
	stream->pipe_dirty = true;
	stream->step = MIN_SPLICE;
	return r;
}

int stream_detach(struct stream *stream, int *ret_console_fd, int *ret_pipe_read_fd,
		  int *ret_pipe_write_fd, struct error *err)
{
	int r = empty_own_pipe(stream, ALL, err);

	if (r < 0)
		return r;
	*ret_console_fd = take_fd(&stream->console_fd);
	*ret_pipe_read_fd = take_fd(&stream->pipe_read_fd);
	*ret_pipe_write_fd = take_fd(&stream->pipe_write_fd);
	return 0;
}

int stream_console_fd(const struct stream *stream)
{
	return stream->console_fd;
}

int stream_pipe_read_fd(const struct stream *stream)
{
	return stream->pipe_read_fd;
}

int stream_pipe_write_fd(const struct stream *stream)
{
	return stream->pipe_write_fd;
}

/* What splice() says of a console that is gone: a socket's peer, a tty that hung up or was
 * unplugged. */
static bool is_end(int number)
{
	return number == EIO || number == ECONNRESET || number == EPIPE || number == ENOTCONN ||
	       number == ENXIO || number == ENODEV;
}

/* splice() answers EINVAL for a tty that has hung up; read() tells that from an fd that cannot be
 * spliced. */
static ssize_t confirm_end(const struct stream *stream, struct error *err)
{
	char byte;
	ssize_t n = read(stream->console_fd, &byte, 0);

	if (n == 0) {
		struct stat status;

		/* A zero-byte read of a live tty succeeds too, but a live tty can be spliced. */
		if (fstat(stream->console_fd, &status) == 0 &&
		    (S_ISCHR(status.st_mode) || S_ISSOCK(status.st_mode) ||
		     S_ISFIFO(status.st_mode)))
			return error_set(err, -ENODATA, "the console has hung up");
	}
	if (n < 0 && is_end(errno))
		return error_set(err, -ENODATA, "the console has hung up");
	return error_set(err, -EINVAL, "the console's fd cannot be spliced");
}

/* Why splice() from the console did not give anything. */
static ssize_t no_bytes(const struct stream *stream, ssize_t n, struct error *err)
{
	if (n == 0)
		return error_set(err, -ENODATA, "the console has ended");
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	if (is_end(errno))
		return error_set(err, -ENODATA, "the console has hung up");
	if (errno == EINVAL)
		return confirm_end(stream, err);
	return error_errno(err, "cannot read the console");
}

/*
 * Moves what the console has into the pipe: the number of bytes, or as stream_pump(). One that gave
 * as much as was asked for, or as a tty gives at once, has more.
 */
static ssize_t fill_pipe(struct stream *stream, struct error *err)
{
	size_t total = 0;

	for (;;) {
		size_t room = MAX_SPLICE - total;
		size_t step = stream->step < room ? stream->step : room;
		ssize_t n = splice(stream->console_fd, NULL, stream->pipe_write_fd, NULL, step,
				   SPLICE_F_NONBLOCK);

		if (n <= 0)
			return total > 0 ? (ssize_t)total : no_bytes(stream, n, err);
		total += (size_t)n;
		if ((size_t)n == stream->step && stream->step < MAX_SPLICE)
			stream->step *= 2;
		else if ((size_t)n <= stream->step / 2 && stream->step > MIN_SPLICE)
			stream->step /= 2;
		if (n < MIN_SPLICE / 2 || total >= MAX_SPLICE)
			return (ssize_t)total;
	}
}

ssize_t stream_pump(struct stream *stream, struct error *err)
{
	uint64_t before = stream->size;
	ssize_t n;
	int r;

	if (stream->console_fd < 0)
		return error_set(err, -ENODATA, "there is no console");
	/* What a full disk, or an earlier holder, left in the pipe comes first. */
	if (stream->pipe_dirty) {
		r = empty_own_pipe(stream, ALL, err);
		if (r < 0)
			return r;
		if (stream->size > before)
			return (ssize_t)(stream->size - before);
	}
	n = fill_pipe(stream, err);
	if (n <= 0)
		return n;
	r = empty_own_pipe(stream, n, err);
	return r < 0 ? r : (ssize_t)(stream->size - before);
}

ssize_t stream_read(const struct stream *stream, uint64_t offset, char *buffer, size_t size,
		    struct error *err)
{
	ssize_t n;

	if (offset < stream->base)
		return error_set(err, -ERANGE,
				 "offset %" PRIu64 " lies before this log, at %" PRIu64, offset,
				 stream->base);
	n = pread(stream->log_fd, buffer, size, (off_t)(offset - stream->base));
	return n < 0 ? error_errno(err, "cannot read the console's log") : n;
}

uint64_t stream_base(const struct stream *stream)
{
	return stream->base;
}

uint64_t stream_offset(const struct stream *stream)
{
	return stream->base + stream->size;
}

/* Writes one mark; takes the reference to extra. */
static int write_mark(int index_fd, uint64_t offset, const char *kind, json_t *extra,
		      struct error *err)
{
	json_t *mark = json_pack("{s:s}", "kind", kind);
	free_ char *text = NULL;
	char line[MAX_INDEX_LINE];
	int length;

	if (extra)
		(void)json_object_update_missing(mark, extra);
	json_decref(extra);
	text = json_dumps(mark, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(mark);
	if (!text)
		return error_oom(err);
	length = snprintf(line, sizeof(line), "m %" PRIu64 " %" PRIu64 " %s\n", offset,
			  clock_now_us(), text);
	if (length >= (int)sizeof(line))
		return error_set(err, -EMSGSIZE, "a mark of %d bytes is too long", length);
	return append_index(index_fd, line, (size_t)length, err);
}

int stream_mark(struct stream *stream, const char *kind, json_t *extra, struct error *err)
{
	int r = write_mark(stream->index_fd, stream_offset(stream), kind, extra, err);

	stream_wake(stream);
	return r;
}

/* The log of a folder that belongs to somebody else: a regular file in it, made when it is not
 * there. */
static int open_foreign_log(int *ret_fd, int dir_fd, const char *path, struct error *err)
{
	int r = file_open_beneath(ret_fd, dir_fd, path, O_RDWR, err);

	if (r != -ENOENT)
		return r;
	*ret_fd = openat(dir_fd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	return *ret_fd < 0 ? error_errno(err, "cannot make %s", path) : 0;
}

/* The bytes are what counts: a mark that cannot be written is left out. */
static void mark_drained(int dir_fd, const char *name, uint64_t offset, uint64_t drained)
{
	close_ int index_fd = -1;
	char path[NAME_MAX + 1];

	(void)snprintf(path, sizeof(path), "%s.idx", name);
	if (file_open_beneath(&index_fd, dir_fd, path, O_WRONLY | O_APPEND | O_NONBLOCK, NULL) >= 0)
		(void)write_mark(index_fd, offset, "loan",
				 json_pack("{s:s, s:I}", "event", "reader_died", "drained",
					   (json_int_t)drained),
				 NULL);
}

int stream_drain(int pipe_read_fd, int dir_fd, const char *name, uint64_t base, uint64_t max_size,
		 uint64_t *ret_size, struct error *err)
{
	close_ int log_fd = -1;
	char path[NAME_MAX + 1];
	struct stat status;
	uint64_t before;
	int r;

	(void)snprintf(path, sizeof(path), "%s.log", name);
	r = open_foreign_log(&log_fd, dir_fd, path, err);
	if (r < 0)
		return r;
	if (fstat(log_fd, &status) < 0)
		return error_errno(err, "cannot read %s", path);
	before = (uint64_t)status.st_size < max_size ? (uint64_t)status.st_size : max_size;
	*ret_size = before;
	r = empty_pipe(pipe_read_fd, log_fd, ALL, ret_size, err);
	/* A reader that gave the console back left nothing behind. */
	if (*ret_size > before)
		mark_drained(dir_fd, name, base + *ret_size, *ret_size - before);
	return r;
}

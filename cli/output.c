/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/output.h"

enum { LITTLE = OUTPUT_MANY / 4 };

struct output {
	sd_event_source *source; /* NULL for a file, which never blocks */
	int fd;
	int own_fd; /* the same, opened once more; or -1 */
	bool is_socket;
	size_t at_once; /* bytes that a write() may have without blocking */
	bool held, gone;
	int failure;
	char *queue;
	size_t start, end, space;
	void (*on_space)(void *data);
	void *data;
};

/* One write that does not block: its length, or -1 with errno. */
static ssize_t write_some(const struct output *output, const char *bytes, size_t length)
{
	if (length > output->at_once)
		length = output->at_once;
	if (output->is_socket)
		return send(output->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	return write(output->own_fd >= 0 ? output->own_fd : output->fd, bytes, length);
}

static void give_up(struct output *output, int code)
{
	output->gone = true;
	output->failure = code == -EPIPE ? 0 : code;
	output->start = output->end = 0;
	/* Whoever waits for room hears of it from the loop. */
	if (output->source)
		(void)sd_event_source_set_enabled(output->source, SD_EVENT_ON);
}

static size_t waiting(const struct output *output)
{
	return output->end - output->start;
}

/* An fd that would block has to be polled first: then at_once bytes go. */
static void write_now(struct output *output)
{
	while (waiting(output) > 0 && !output->held && !output->gone) {
		ssize_t n = write_some(output, output->queue + output->start, waiting(output));

		if (n >= 0)
			output->start += (size_t)n;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			give_up(output, -errno);
		if (output->source && output->own_fd < 0 && !output->is_socket)
			break;
	}
	if (waiting(output) == 0)
		output->start = output->end = 0;
	if (output->source && !output->gone)
		(void)sd_event_source_set_enabled(
			output->source,
			waiting(output) > 0 && !output->held ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_room(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct output *output = data;

	(void)source;
	(void)fd;
	(void)events;
	write_now(output);
	if (output->gone)
		(void)sd_event_source_set_enabled(output->source, SD_EVENT_OFF);
	if (waiting(output) < LITTLE && output->on_space)
		output->on_space(output->data);
	return 0;
}

/* A regular file cannot be polled and need not be. */
static int watch(struct output *output, sd_event *loop, struct error *err)
{
	int fd = output->own_fd >= 0 ? output->own_fd : output->fd;
	int r = sd_event_add_io(loop, &output->source, fd, EPOLLOUT, on_room, output);

	if (r == -EPERM)
		return 0;
	if (r >= 0)
		r = sd_event_source_set_enabled(output->source, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "cannot watch an output");
	(void)sd_event_source_set_description(output->source, "output");
	return 0;
}

int output_new(struct output **ret, sd_event *loop, int fd, struct error *err)
{
	cleanup_(output_freep) struct output *output = calloc(1, sizeof(*output));
	struct stat found;
	char path[32];
	int r;

	if (!output)
		return error_oom(err);
	output->fd = fd;
	output->own_fd = -1;
	output->at_once = SIZE_MAX;
	if (fstat(fd, &found) < 0) {
		/* Closed: as if its reader had gone. */
		output->gone = true;
		*ret = take_ptr(output);
		return 0;
	}
	output->is_socket = S_ISSOCK(found.st_mode);
	if (S_ISFIFO(found.st_mode) || S_ISCHR(found.st_mode)) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		output->own_fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		/* Not ours to open: a pipe with room takes this much without blocking. */
		if (output->own_fd < 0)
			output->at_once = PIPE_BUF;
	}
	r = watch(output, loop, err);
	if (r < 0)
		return r;
	*ret = take_ptr(output);
	return 0;
}

struct output *output_free(struct output *output)
{
	if (!output)
		return NULL;
	(void)sd_event_source_disable_unref(output->source);
	(void)close_fd(output->own_fd);
	free(output->queue);
	free(output);
	return NULL;
}

void output_on_space(struct output *output, void (*on_space)(void *data), void *data)
{
	output->on_space = on_space;
	output->data = data;
}

static int keep(struct output *output, const char *bytes, size_t length, struct error *err)
{
	if (output->end + length > output->space && output->start > 0) {
		memmove(output->queue, output->queue + output->start, waiting(output));
		output->end -= output->start;
		output->start = 0;
	}
	if (output->end + length > output->space) {
		size_t space = (output->end + length) * 2;
		char *queue = realloc(output->queue, space);

		if (!queue)
			return error_oom(err);
		output->queue = queue;
		output->space = space;
	}
	memcpy(output->queue + output->end, bytes, length);
	output->end += length;
	return 0;
}

int output_write(struct output *output, const char *bytes, size_t length, struct error *err)
{
	bool polled = output->source && output->own_fd < 0 && !output->is_socket;
	int r;

	if (output->gone || length == 0)
		return 0;
	r = keep(output, bytes, length, err);
	if (r < 0)
		return r;
	if (!polled)
		write_now(output);
	else if (!output->held)
		(void)sd_event_source_set_enabled(output->source, SD_EVENT_ON);
	return 0;
}

void output_hold(struct output *output, bool hold)
{
	output->held = hold;
	if (output->source && !output->gone)
		(void)sd_event_source_set_enabled(
			output->source, !hold && waiting(output) > 0 ? SD_EVENT_ON : SD_EVENT_OFF);
	else if (!hold)
		write_now(output);
}

bool output_is_full(const struct output *output)
{
	return waiting(output) >= OUTPUT_MANY;
}

bool output_is_done(const struct output *output)
{
	return waiting(output) == 0;
}

bool output_is_gone(const struct output *output)
{
	return output->gone;
}

int output_failure(const struct output *output)
{
	return output->failure;
}

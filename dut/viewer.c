/* SPDX-License-Identifier: MIT */
#include "dut/viewer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "dut/binding.h"
#include "dut/job.h"

struct viewer {
	struct list link;	 /* viewers.list */
	struct viewers *viewers; /* NULL: what it watches is no more */
	struct http_stream *stream;
	uint64_t user; /* whose it is: http_peer.user */

	/* a console */
	const struct history *history;
	struct history_cursor cursor;

	/* a file of a job */
	const struct job *job;
	unsigned attempt; /* of the job, when the file was opened */
	int jobs_dir_fd, fd;
	char path[64];
	uint64_t begin, position;
	bool is_counted, follow;
	struct binding *binding; /* or NULL: that is held */
};

void viewers_init(struct viewers *viewers, unsigned max)
{
	*viewers = (struct viewers){ .max = max };
	list_init(&viewers->list);
}

void viewers_wake(struct viewers *viewers)
{
	LIST_FOREACH_SAFE(link, after, &viewers->list)
		http_stream_wake(CONTAINER_OF(link, struct viewer, link)->stream);
}

void viewers_end(struct viewers *viewers)
{
	LIST_FOREACH_SAFE(link, after, &viewers->list) {
		struct viewer *viewer = CONTAINER_OF(link, struct viewer, link);

		list_remove(link);
		viewer->viewers = NULL;
		http_stream_wake(viewer->stream);
	}
	viewers->count = 0;
}

static void viewer_done(void *data)
{
	struct viewer *viewer = data;
	struct viewers *viewers = viewer->viewers;

	list_remove(&viewer->link);
	if (viewers && --viewers->count == 0 && viewers->idle)
		viewers->idle(viewers->idle_data);
	if (viewer->binding)
		binding_detach(viewer->binding);
	history_cursor_done(&viewer->cursor);
	(void)close_fd(viewer->fd);
	free(viewer);
}

static ssize_t read_console(void *data, char *buffer, size_t size)
{
	struct viewer *viewer = data;
	uint64_t expected = viewer->cursor.offset;
	ssize_t n;

	if (!viewer->viewers)
		return HTTP_STREAM_END;
	n = history_read(viewer->history, &viewer->cursor, buffer, size, NULL);

	/* Who counts what was read would be wrong from here on: asked again, the header tells. */
	if (n > 0 && viewer->cursor.offset - (uint64_t)n != expected)
		return HTTP_STREAM_ABORT;
	return n < 0 ? HTTP_STREAM_ABORT : n;
}

static bool is_begun_again(const struct job *job)
{
	return job->state == JOB_STARTING && job->attempt > 1;
}

static ssize_t read_file(void *data, char *buffer, size_t size)
{
	struct viewer *viewer = data;
	bool ended = job_told_state(viewer->job) == JOB_ENDED;
	ssize_t n;

	/* A job that is begun again writes files of its own. */
	if (viewer->fd >= 0 && viewer->attempt != viewer->job->attempt) {
		viewer->fd = close_fd(viewer->fd);
		/* Asked again, the header tells where it goes on. */
		if (viewer->is_counted && viewer->position > viewer->begin)
			return HTTP_STREAM_ABORT;
		viewer->position = viewer->begin = 0;
	}
	/* The executor makes the file when it is ready; until then that of an earlier attempt may
	 * be there. */
	if (viewer->fd < 0 &&
	    (is_begun_again(viewer->job) ||
	     file_open_beneath(&viewer->fd, viewer->jobs_dir_fd, viewer->path, O_RDONLY, NULL) < 0))
		return ended || !viewer->follow ? HTTP_STREAM_END : 0;
	viewer->attempt = viewer->job->attempt;
	n = pread(viewer->fd, buffer, size, (off_t)viewer->position);
	if (n < 0)
		return HTTP_STREAM_ABORT;
	viewer->position += (uint64_t)n;
	if (n == 0 && (ended || !viewer->follow))
		return HTTP_STREAM_END;
	return n;
}

/* One user does not shut out the others. */
static int check_room(const struct viewers *viewers, const struct http_peer *peer,
		      struct error *err)
{
	unsigned of_user = 0;

	LIST_FOREACH(link, &viewers->list)
		of_user += CONTAINER_OF(link, struct viewer, link)->user == peer->user;
	if (viewers->count >= viewers->max)
		return error_set(err, -EAGAIN, "there are %u viewers already, which is the limit",
				 viewers->max);
	if (of_user >= (viewers->max + 1) / 2)
		return error_set(err, -EAGAIN,
				 "%s has %u viewers already, which is the limit for one user",
				 peer->user_name, of_user);
	return 0;
}

static int add(struct viewers *viewers, struct viewer *viewer, struct http_request *request,
	       const char *content_type, const struct http_source *source, struct error *err)
{
	const struct http_peer *peer = http_request_peer(request);
	int r = check_room(viewers, peer, err);

	if (r < 0) {
		free(viewer);
		return r;
	}
	viewer->user = peer->user;
	viewer->viewers = viewers;
	viewers->count++;
	list_append(&viewers->list, &viewer->link);
	if (viewer->binding)
		binding_attach(viewer->binding);
	viewer->stream = http_reply_stream(request, 200, content_type, source, viewer);
	return 0;
}

static struct viewer *new_viewer(void)
{
	struct viewer *viewer = calloc(1, sizeof(*viewer));

	if (viewer) {
		list_init(&viewer->link);
		history_cursor_init(&viewer->cursor, 0);
		viewer->fd = -1;
	}
	return viewer;
}

int viewer_add_console(struct viewers *viewers, struct http_request *request,
		       const struct history *history, uint64_t offset, struct error *err)
{
	static const struct http_source source = { .read = read_console, .done = viewer_done };
	struct viewer *viewer = new_viewer();
	char text[24];

	if (!viewer)
		return error_oom(err);
	viewer->history = history;
	viewer->cursor.offset = history_locate(history, offset);
	(void)snprintf(text, sizeof(text), "%" PRIu64, viewer->cursor.offset);
	http_reply_header(request, "Console-Offset", text);
	return add(viewers, viewer, request, "application/octet-stream", &source, err);
}

int viewer_add_file(struct viewers *viewers, struct http_request *request,
		    const struct viewer_file *file, struct error *err)
{
	static const struct http_source source = { .read = read_file, .done = viewer_done };
	struct viewer *viewer = new_viewer();

	if (!viewer)
		return error_oom(err);
	viewer->job = file->job;
	viewer->jobs_dir_fd = file->jobs_dir_fd;
	viewer->position = viewer->begin = file->position;
	viewer->is_counted = file->is_counted;
	viewer->follow = file->follow;
	viewer->binding = file->binding;
	(void)snprintf(viewer->path, sizeof(viewer->path), "%" PRIu64 "/%s", file->job->id,
		       file->name);
	return add(viewers, viewer, request, file->content_type, &source, err);
}

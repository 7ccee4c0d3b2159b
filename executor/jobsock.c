/* SPDX-License-Identifier: MIT */
#include "executor/jobsock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/http.h"
#include "base/list.h"
#include "base/text.h"

enum {
	BACKLOG = 64,
	MAX_CONNECTIONS = 64,
	RESERVED_CONNECTIONS = 4,
	MAX_BODY = 4096,    /* bytes */
	MAX_HELD = 1 << 20, /* bytes of bodies and answers in memory */
	IDLE_TIMEOUT_S = 60,
};

struct jobsock {
	struct jobsock_config config;
	struct http_server *server;
	sd_event_source *linger; /* after the end */
	struct list viewers;	 /* of viewer.link */
	bool ended;
};

/* Somebody who reads the console or the events. */
struct viewer {
	struct list link; /* jobsock.viewers */
	struct jobsock *jobsock;
	struct http_request *waiting; /* for the first console: the offset is not known before */
	struct http_stream *stream;
	bool wants_events;
	bool from_end;	 /* offset counts back from the end */
	uint64_t offset; /* of the next byte */
	int events_fd;	 /* -1 until the file is there */
};

static void viewer_free(void *data)
{
	struct viewer *viewer = data;
	struct jobsock *jobsock = viewer->jobsock;

	list_remove(&viewer->link);
	(void)close_fd(viewer->events_fd);
	free(viewer);
	if (jobsock->ended && list_empty(&jobsock->viewers))
		(void)sd_event_source_set_time_relative(jobsock->linger, 0);
}

static ssize_t read_console(struct viewer *viewer, char *buffer, size_t size)
{
	struct jobsock *jobsock = viewer->jobsock;
	const struct stream *stream = jobsock->config.stream(jobsock->config.data);

	return stream ? stream_read(stream, viewer->offset, buffer, size, NULL) : 0;
}

static ssize_t read_events(struct viewer *viewer, char *buffer, size_t size)
{
	if (viewer->events_fd < 0) {
		int r = file_open_beneath(&viewer->events_fd, viewer->jobsock->config.job_dir_fd,
					  "events.jsonl", O_RDONLY, NULL);

		if (r < 0)
			return r == -ENOENT ? 0 : r;
	}
	return pread(viewer->events_fd, buffer, size, (off_t)viewer->offset);
}

static ssize_t on_read(void *data, char *buffer, size_t size)
{
	struct viewer *viewer = data;
	ssize_t n = viewer->wants_events ? read_events(viewer, buffer, size)
					 : read_console(viewer, buffer, size);

	if (n < 0)
		return HTTP_STREAM_ABORT;
	if (n == 0)
		return viewer->jobsock->ended ? HTTP_STREAM_END : 0;
	viewer->offset += (uint64_t)n;
	return n;
}

static const struct http_source source = { .read = on_read, .done = viewer_free };

/* Finds a viewer's first byte, and refuses an offset that is not there yet. */
static int place_viewer(struct viewer *viewer, const struct stream *stream, struct error *err)
{
	uint64_t base = stream ? stream_base(stream) : 0;
	uint64_t end = stream ? stream_offset(stream) : 0;

	if (viewer->from_end)
		viewer->offset = viewer->offset > end - base ? base : end - viewer->offset;
	else if (viewer->offset < base)
		viewer->offset = base;
	else if (viewer->offset > end)
		return error_set(err, -EINVAL,
				 "offset %" PRIu64 " is behind the console's end, %" PRIu64,
				 viewer->offset, end);
	return 0;
}

static void start_console(struct viewer *viewer)
{
	struct jobsock *jobsock = viewer->jobsock;
	struct http_request *request = take_ptr(viewer->waiting);
	char offset[24];
	struct error err;

	if (place_viewer(viewer, jobsock->config.stream(jobsock->config.data), &err) < 0) {
		viewer_free(viewer);
		http_reply_error(request, 400, "%s", err.text);
		return;
	}
	(void)snprintf(offset, sizeof(offset), "%" PRIu64, viewer->offset);
	http_reply_header(request, "Console-Offset", offset);
	viewer->stream =
		http_reply_stream(request, 200, "application/octet-stream", &source, viewer);
}

static struct viewer *viewer_new(struct jobsock *jobsock)
{
	struct viewer *viewer = malloc(sizeof(*viewer));

	if (viewer) {
		*viewer = (struct viewer){ .jobsock = jobsock, .events_fd = -1 };
		list_append(&jobsock->viewers, &viewer->link);
	}
	return viewer;
}

static int parse_offset(struct viewer *viewer, const char *text, struct error *err)
{
	/* Without one: live only. */
	viewer->from_end = !text || text[0] == '-';
	if (!text)
		return 0;
	return text_to_uint64(&viewer->offset, viewer->from_end ? text + 1 : text, 0, INT64_MAX,
			      err);
}

static void on_console(struct http_request *request, void *data)
{
	struct jobsock *jobsock = data;
	struct viewer *viewer = viewer_new(jobsock);
	struct error err;

	if (!viewer) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	if (parse_offset(viewer, http_request_query(request, "offset"), &err) < 0) {
		viewer_free(viewer);
		http_reply_error(request, 400, "offset: %s", err.text);
		return;
	}
	viewer->waiting = request;
	if (jobsock->ended || jobsock->config.stream(jobsock->config.data))
		start_console(viewer);
	else
		http_request_on_gone(request, viewer_free, viewer);
}

static void on_events(struct http_request *request, void *data)
{
	struct viewer *viewer = viewer_new(data);

	if (!viewer) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	viewer->wants_events = true;
	viewer->stream = http_reply_stream(request, 200, HTTP_JSON_LINES, &source, viewer);
}

static void on_state(struct http_request *request, void *data)
{
	const struct jobsock *jobsock = data;
	struct jsontext json = { 0 };

	jobsock->config.state(&json, jobsock->config.data);
	http_reply_jsontext(request, 200, &json);
}

static void admit_cancel(struct http_request *request, void *data)
{
	const struct jobsock *jobsock = data;
	uid_t uid = http_request_peer(request)->uid;

	if (uid != 0 && uid != jobsock->config.control_uid)
		http_reply_error(request, 403, "only dutd may cancel here: use dut cancel");
}

static void on_cancel(struct http_request *request, void *data)
{
	const struct jobsock *jobsock = data;
	uid_t uid = http_request_peer(request)->uid;
	size_t length = 0;
	const char *body = http_request_body(request, &length);
	json_t *object = length > 0 ? json_loadb(body, length, 0, NULL) : json_object();
	json_t *why = json_object_get(object, "why");

	if (!json_is_object(object) || (why && !json_is_string(why) && !json_is_null(why))) {
		http_reply_error(request, 400, "the body must be {\"why\": TEXT}");
	} else {
		http_reply_json(request, 200, json_object());
		jobsock->config.cancel(json_string_value(why), uid, jobsock->config.data);
	}
	json_decref(object);
}

static const struct http_route routes[] = {
	{ .method = "GET", .path = "/api/v1/state", .handle = on_state },
	{ .method = "POST",
	  .path = "/api/v1/job/cancel",
	  .handle = on_cancel,
	  .admit = admit_cancel },
	{ .method = "GET", .path = "/api/v1/console", .handle = on_console },
	{ .method = "GET", .path = "/api/v1/events", .handle = on_events },
	{ .path = NULL },
};

static int on_linger(sd_event_source *event_source, uint64_t now_us, void *data)
{
	const struct jobsock *jobsock = data;

	(void)event_source;
	(void)now_us;
	if (jobsock->config.ended)
		jobsock->config.ended(jobsock->config.data);
	return 0;
}

static int start(struct jobsock *jobsock, struct error *err)
{
	const struct http_config config = {
		.event = jobsock->config.event,
		.listen_fd = take_fd(&jobsock->config.listen_fd),
		.routes = routes,
		.data = jobsock,
		.max_body_bytes = MAX_BODY,
		.max_connections = MAX_CONNECTIONS,
		.max_user_connections = MAX_CONNECTIONS / 2,
		.reserved_connections = RESERVED_CONNECTIONS,
		.connections_limit = "of this socket",
		.max_held_bytes = MAX_HELD,
		.idle_timeout_s = IDLE_TIMEOUT_S,
		.upload_dir_fd = -1,
	};
	int r;

	r = sd_event_add_time(jobsock->config.event, &jobsock->linger, CLOCK_MONOTONIC, 0, 1,
			      on_linger, jobsock);
	if (r >= 0)
		r = sd_event_source_set_enabled(jobsock->linger, SD_EVENT_OFF);
	if (r < 0) {
		(void)close(config.listen_fd);
		return error_code(err, r, "cannot watch job.sock");
	}
	(void)sd_event_source_set_description(jobsock->linger, "job-socket-linger");
	return http_server_new(&jobsock->server, &config, err);
}

CLEANUP_DEFINE(struct jobsock *, jobsock_free)

int jobsock_new(struct jobsock **ret, const struct jobsock_config *config, struct error *err)
{
	cleanup_(jobsock_freep) struct jobsock *jobsock = calloc(1, sizeof(*jobsock));
	int r;

	if (!jobsock) {
		(void)close_fd(config->listen_fd);
		return error_oom(err);
	}
	jobsock->config = *config;
	list_init(&jobsock->viewers);
	/* By us and not by dutd: peer credentials name whoever called listen(). */
	if (listen(config->listen_fd, BACKLOG) < 0)
		return error_errno(err, "cannot listen on job.sock");
	r = start(jobsock, err);
	if (r < 0)
		return r;
	*ret = take_ptr(jobsock);
	return 0;
}

struct jobsock *jobsock_free(struct jobsock *jobsock)
{
	if (!jobsock)
		return NULL;
	jobsock->server = http_server_free(jobsock->server);
	(void)sd_event_source_disable_unref(jobsock->linger);
	(void)close_fd(jobsock->config.listen_fd);
	free(jobsock);
	return NULL;
}

void jobsock_wake(struct jobsock *jobsock)
{
	bool is_there = jobsock->ended || jobsock->config.stream(jobsock->config.data);

	LIST_FOREACH_SAFE(link, after, &jobsock->viewers) {
		struct viewer *viewer = CONTAINER_OF(link, struct viewer, link);

		if (!viewer->waiting)
			http_stream_wake(viewer->stream);
		else if (is_there)
			start_console(viewer);
	}
}

void jobsock_end(struct jobsock *jobsock)
{
	if (jobsock->ended)
		return;
	jobsock->ended = true;
	(void)sd_event_source_set_time_relative(
		jobsock->linger, list_empty(&jobsock->viewers) ? 0 : JOBSOCK_LINGER_US);
	(void)sd_event_source_set_enabled(jobsock->linger, SD_EVENT_ONESHOT);
	jobsock_wake(jobsock);
}

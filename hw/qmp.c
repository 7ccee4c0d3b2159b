/* SPDX-License-Identifier: MIT */
#include "hw/qmp.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

enum { MAX_LINE = 64 << 10, COMMAND_SIZE = 128 };

struct qmp {
	int fd;
	sd_event_source *source, *defer;
	char *line; /* MAX_LINE bytes: what has come of the present line */
	size_t length;
	bool negotiated, broken;
	bool busy; /* done is to be called */
	char command[COMMAND_SIZE];
	bool sent;
	qmp_done_fn done;
	void *data;
};

struct qmp *qmp_free(struct qmp *qmp)
{
	if (!qmp)
		return NULL;
	sd_event_source_disable_unref(qmp->source);
	sd_event_source_disable_unref(qmp->defer);
	(void)close_fd(qmp->fd);
	free(qmp->line);
	free(qmp);
	return NULL;
}

CLEANUP_DEFINE(struct qmp *, qmp_free)

static void finish(struct qmp *qmp, int r, const json_t *answer, const struct error *err)
{
	qmp_done_fn done = qmp->done;

	if (!qmp->busy)
		return;
	qmp->busy = qmp->sent = false;
	qmp->done = NULL;
	/* done may free us. */
	done(r, answer, err, qmp->data);
}

static void break_off(struct qmp *qmp, int code, const char *text)
{
	struct error err;

	qmp->broken = true;
	(void)sd_event_source_set_enabled(qmp->source, SD_EVENT_OFF);
	(void)error_set(&err, code, "%s", text);
	finish(qmp, code, NULL, &err);
}

static int send_text(struct qmp *qmp, const char *text)
{
	size_t length = strlen(text);

	return send(qmp->fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length ? 0
											   : -EPIPE;
}

static int send_command(struct qmp *qmp)
{
	if (!qmp->busy || qmp->sent || !qmp->negotiated)
		return 0;
	qmp->sent = true;
	return send_text(qmp, qmp->command);
}

/* A complete line. False when the connection is over, or was freed by a callback. */
static bool handle_line(struct qmp *qmp, const json_t *message)
{
	const json_t *error = json_object_get(message, "error");
	const json_t *answer = json_object_get(message, "return");
	struct error err;
	int r = 0;

	if (json_object_get(message, "event"))
		return true;
	if (json_object_get(message, "QMP")) {
		r = send_text(qmp, "{\"execute\": \"qmp_capabilities\"}\n");
	} else if (!qmp->negotiated && answer) {
		qmp->negotiated = true;
		r = send_command(qmp);
	} else if (answer && qmp->sent) {
		finish(qmp, 0, answer, NULL);
		return false;
	} else if (error && qmp->sent) {
		const char *text = json_string_value(json_object_get(error, "desc"));

		r = error_set(&err, -EIO, "QEMU: %s", text ? text : "an error without words");
		finish(qmp, r, NULL, &err);
		return false;
	} else {
		break_off(qmp, -EBADMSG, "QEMU's control connection speaks no QMP");
		return false;
	}
	if (r < 0)
		break_off(qmp, -EPIPE, "QEMU does not read its control connection");
	return r >= 0;
}

/* The first complete line that has come, or NULL; it is taken out of the buffer. */
static json_t *take_line(struct qmp *qmp, bool *ret_found)
{
	char *end = memchr(qmp->line, '\n', qmp->length);
	size_t used = end ? (size_t)(end - qmp->line) + 1 : 0;
	json_t *message;

	*ret_found = end;
	if (!end)
		return NULL;
	message = json_loadb(qmp->line, used, 0, NULL);
	qmp->length -= used;
	memmove(qmp->line, qmp->line + used, qmp->length);
	return message;
}

/* Handles the lines that are there, one a call of the loop when a callback ran. */
static void handle_lines(struct qmp *qmp)
{
	for (;;) {
		json_auto_t *message = NULL;
		bool found;

		message = take_line(qmp, &found);
		if (!found)
			return;
		if (!json_is_object(message)) {
			break_off(qmp, -EBADMSG, "QEMU's control connection speaks no QMP");
			return;
		}
		/* Further lines wait for the next turn: the callback may have freed the connection.
		 */
		if (memchr(qmp->line, '\n', qmp->length))
			(void)sd_event_source_set_enabled(qmp->defer, SD_EVENT_ONESHOT);
		if (!handle_line(qmp, message))
			return;
	}
}

static int on_defer(sd_event_source *source, void *data)
{
	struct qmp *qmp = data;

	(void)source;
	if (!qmp->broken)
		handle_lines(qmp);
	return 0;
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct qmp *qmp = data;
	ssize_t n;

	(void)source;
	(void)events;
	n = recv(fd, qmp->line + qmp->length, MAX_LINE - qmp->length, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		break_off(qmp, -EPIPE, "QEMU has closed its control connection");
		return 0;
	}
	qmp->length += (size_t)n;
	if (qmp->length == MAX_LINE && !memchr(qmp->line, '\n', qmp->length))
		break_off(qmp, -EBADMSG, "QEMU's control connection sends a line without end");
	else
		handle_lines(qmp);
	return 0;
}

int qmp_new(struct qmp **ret, sd_event *event, int fd, struct error *err)
{
	cleanup_(qmp_freep) struct qmp *qmp = calloc(1, sizeof(*qmp));
	int r;

	if (!qmp) {
		(void)close_fd(fd);
		return error_oom(err);
	}
	qmp->fd = fd;
	qmp->line = malloc(MAX_LINE);
	if (!qmp->line)
		return error_oom(err);
	r = sd_event_add_io(event, &qmp->source, fd, EPOLLIN, on_readable, qmp);
	if (r >= 0)
		r = sd_event_add_defer(event, &qmp->defer, on_defer, qmp);
	if (r >= 0)
		r = sd_event_source_set_enabled(qmp->defer, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "cannot watch QEMU's control connection");
	(void)sd_event_source_set_description(qmp->source, "qmp");
	*ret = take_ptr(qmp);
	return 0;
}

int qmp_command(struct qmp *qmp, const char *command, qmp_done_fn done, void *data,
		struct error *err)
{
	if (qmp->broken)
		return error_set(err, -EPIPE, "QEMU's control connection is closed");
	if (qmp->busy)
		return error_set(err, -EBUSY, "QEMU is still at another command");
	(void)snprintf(qmp->command, sizeof(qmp->command), "{\"execute\": \"%s\"}\n", command);
	qmp->busy = true;
	qmp->sent = false;
	qmp->done = done;
	qmp->data = data;
	if (send_command(qmp) < 0) {
		qmp->busy = false;
		return error_set(err, -EPIPE, "QEMU does not read its control connection");
	}
	return 0;
}

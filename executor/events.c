/* SPDX-License-Identifier: MIT */
#include "executor/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "base/log.h"
#include "base/text.h"
#include "executor/mask.h"

enum {
	MAX_TEXT = 2048, /* bytes of the sentence */
	USEC_PER_MSEC = 1000,
	REAL_DIGITS = 12, /* of a number of seconds: microseconds of two weeks */
};

static const double msec_per_sec = 1e3;

struct events {
	int fd;
	uint64_t seq, begun_us, lost;
	uint64_t bytes; /* of the file */
	char *dut;
	json_t *job;
	struct mask mask;
	void (*written)(void *data);
	void *data;
};

struct events *events_close(struct events *events)
{
	if (events) {
		(void)close_fd(events->fd);
		free(events->dut);
		json_decref(events->job);
		mask_done(&events->mask);
		free(events);
	}
	return NULL;
}

CLEANUP_DEFINE(struct events *, events_close)

/* Counts the lines that an earlier attempt wrote, and ends a torn last one. */
static int count_lines(struct events *events, struct error *err)
{
	char buffer[4096], last = '\n';
	off_t at = 0;

	for (;;) {
		ssize_t n = pread(events->fd, buffer, sizeof(buffer), at);

		if (n < 0)
			return error_errno(err, "cannot read events.jsonl");
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			events->seq += buffer[i] == '\n';
		last = buffer[n - 1];
		at += n;
	}
	events->bytes = (uint64_t)at;
	if (last != '\n') {
		events->seq++;
		if (write(events->fd, "\n", 1) != 1)
			return error_errno(err, "cannot write events.jsonl");
	}
	return 0;
}

int events_open(struct events **ret, const struct events_config *config, struct error *err)
{
	cleanup_(events_closep) struct events *events = malloc(sizeof(*events));
	int r;

	if (!events)
		return error_oom(err);
	*events = (struct events){
		.fd = -1,
		.written = config->written,
		.data = config->data,
		.dut = strdup(config->dut),
		.job = json_incref(config->job),
	};
	if (!events->dut || mask_init(&events->mask, config->environ) < 0)
		return error_oom(err);
	events->fd = openat(config->dir_fd, "events.jsonl",
			    O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (events->fd < 0)
		return error_errno(err, "cannot open events.jsonl");
	r = count_lines(events, err);
	if (r < 0)
		return r;
	*ret = take_ptr(events);
	return 0;
}

void events_begin(struct events *events, uint64_t now_us)
{
	events->begun_us = now_us;
}

double events_elapsed(const struct events *events, uint64_t now_us)
{
	uint64_t elapsed_ms;

	if (!events->begun_us || now_us < events->begun_us)
		return 0;
	elapsed_ms = (now_us - events->begun_us + USEC_PER_MSEC / 2) / USEC_PER_MSEC;
	return (double)elapsed_ms / msec_per_sec;
}

static void note_lost(struct events *events, const char *text)
{
	if (events->lost++ == 0)
		log_msg(LOG_WARNING, "events.jsonl: %s", text);
}

/* Takes the reference to event. One that finds no room has no number either: it is another one's.
 */
static void write_event(struct events *events, json_t *event)
{
	free_ char *text = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS));
	free_ char *line = NULL;
	struct error err;
	int length;

	json_decref(event);
	length = text ? asprintf(&line, "%s\n", text) : -1;
	if (length < 0) {
		line = NULL;
		note_lost(events, "out of memory");
		return;
	}
	if (file_append(events->fd, line, (size_t)length, &err) < 0) {
		note_lost(events, err.text);
		return;
	}
	events->seq++;
	events->bytes += (uint64_t)length;
	events->written(events->data);
}

void events_emit(struct events *events, const char *type, json_t *extra, const char *format, ...)
{
	char time[CLOCK_ISO_SIZE], text[MAX_TEXT];
	va_list arguments;
	json_t *event;

	if ((events->seq >= EVENTS_MAX || events->bytes >= EVENTS_BYTES_MAX) &&
	    strcmp(type, "job_state") != 0) {
		json_decref(extra);
		return;
	}
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	mask_text(&events->mask, text);
	mask_json(&events->mask, extra);

	event = json_pack("{s:I, s:s, s:f, s:s, s:s, s:O, s:o}", "seq", (json_int_t)events->seq,
			  "time", clock_format_iso(time, clock_realtime_us()), "elapsed",
			  events_elapsed(events, clock_now_us()), "type", type, "dut", events->dut,
			  "job", events->job, "text", jsontext_new(text));
	if (extra)
		(void)json_object_update_missing(event, extra);
	json_decref(extra);
	write_event(events, event);
}

json_t *events_line(const struct events *events, const char *bytes, size_t length, size_t max)
{
	char text[4 * EVENT_LINE_MAX];

	/* A secret must be hidden before the text is cut, else its beginning could stay. */
	(void)text_escape(text, sizeof(text), bytes, length);
	mask_text(&events->mask, text);
	if (strlen(text) > max)
		memcpy(text + max - 3, "...", 4);
	return json_string(text);
}

void events_mask(const struct events *events, char *text)
{
	mask_text(&events->mask, text);
}

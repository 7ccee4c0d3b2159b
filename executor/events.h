/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/error.h"

/*
 * events.jsonl: what happened in a job, a JSON object a line and a write() a line. Each has seq,
 * time, elapsed, type, dut, job and text (a sentence for people). See dut-executor(8).
 */

enum {
	EVENTS_MAX = 100000,	     /* more are dropped, except job_state */
	EVENTS_BYTES_MAX = 64 << 20, /* so are those behind so many bytes */
	EVENT_LINE_MAX = 1024,	     /* bytes of a console line in an event */
	RESULT_LINE_MAX = 256,	     /* bytes of one in result.json */
};

struct events;

struct events_config {
	int dir_fd;
	const char *dut;
	json_t *job;		     /* the id as job.json has it; borrowed */
	json_t *environ;	     /* for secrets to be hidden; borrowed, may be NULL */
	void (*written)(void *data); /* after each line, for viewers */
	void *data;
};

/* Goes on behind what is there already. */
int events_open(struct events **ret, const struct events_config *config, struct error *err);
struct events *events_close(struct events *events);

/* "elapsed" counts from here; it is 0 before. */
void events_begin(struct events *events, uint64_t now_us);
double events_elapsed(const struct events *events, uint64_t now_us);

/*
 * Writes one event. Takes the reference to extra, which may be NULL. A line that cannot be written
 * is counted, and the log says so once: a full disk must not end a job by itself.
 */
void events_emit(struct events *events, const char *type, json_t *extra, const char *format, ...)
	printf_(4, 5);

/* A console line (any bytes) as a text for people: printable ASCII, secrets hidden, at most max
 * bytes. */
json_t *events_line(const struct events *events, const char *bytes, size_t length, size_t max);

/* Hides secrets in a text, in place. */
void events_mask(const struct events *events, char *text);

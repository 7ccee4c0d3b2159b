/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/http.h"
#include "base/list.h"
#include "dut/history.h"

/*
 * Somebody who watches a console, a job's log or a job's events over HTTP. The file is the queue: a
 * viewer is an offset, and is asked for nothing while its client does not read. Each is on the list
 * of the line or job that wakes it.
 */

struct binding;
struct job;

enum { MAX_VIEWERS = 100 }; /* of one console or job, half of them of one user; more get 429 */

struct viewers {
	struct list list; /* viewer.link */
	unsigned count;
	unsigned max;
	void (*idle)(void *data); /* runs when the last one has left; or NULL */
	void *idle_data;
};

void viewers_init(struct viewers *viewers, unsigned max);

/*
 * Answers with the console's bytes from offset on, for ever.
 *
 * Errors: -EAGAIN over the limit; the request is then unanswered.
 * Owns:   history is borrowed and outlives the server.
 */
int viewer_add_console(struct viewers *viewers, struct http_request *request,
		       const struct history *history, uint64_t offset, struct error *err);

struct viewer_file {
	const struct job *job; /* borrowed, outlives the server */
	int jobs_dir_fd;
	const char *name, *content_type;
	uint64_t position; /* to begin at */
	/* Who reads counts the bytes as console offsets: where they jump, because the job was begun
	 * again, the answer breaks off. */
	bool is_counted;
	bool follow;		 /* until the job has ended and all was sent; else what there is */
	struct binding *binding; /* to be attached to while the client reads; or NULL */
};

/* Answers with a file of a job's folder. */
int viewer_add_file(struct viewers *viewers, struct http_request *request,
		    const struct viewer_file *file, struct error *err);

/* What they watch is no more: their streams end. */
void viewers_end(struct viewers *viewers);

/* Something was appended, or a job ended. */
void viewers_wake(struct viewers *viewers);

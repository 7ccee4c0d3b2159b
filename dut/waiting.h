/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Jobs in the queue: they wait with job.claim, and get a board or an end by it. */

struct daemon;
struct job;

/*
 * A job that waits for one of these DUTs joins the queue, in the place that its priority and the
 * time since which it waits give it. After a first attempt its wait has no limit any more.
 * dispatch_later() has to follow.
 */
int waiting_add(struct daemon *daemon, struct job *job, const char *const *duts, size_t n_duts,
		struct error *err);

/* The same for the DUTs that it waited for before: at the start, or when it is begun again. */
int waiting_return(struct daemon *daemon, struct job *job, struct error *err);

/* All jobs that an earlier dutd left waiting join the queue. */
void waiting_load(struct daemon *daemon);

/* Whether the folder of a job was made in vain, because it was cancelled or its time was over
 * meanwhile. It has its end then. */
bool waiting_is_over(struct daemon *daemon, struct job *job);

/* job_to_json(), and for one that waits "cause" and "expected_end": what it waits for, and until
 * when. */
json_t *waiting_to_json(const struct daemon *daemon, const struct job *job);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "base/error.h"

/*
 * One thread for what waits on the disk (fsync, creating a job's folder), so that the event loop
 * never does. Pieces of work run one after the other, in the order in which they came.
 */

struct worker;

int worker_new(struct worker **ret, sd_event *event, struct error *err);

/* Finishes all work that was accepted, without calling done, and ends the thread. Blocks for as
 * long. */
struct worker *worker_free(struct worker *worker);

/* Runs in the thread: may touch nothing but what data points to. Returns 0 or a negative errno with
 * err filled. */
typedef int (*work_fn)(void *data, struct error *err);

/* Runs in the loop afterwards, with what work returned. */
typedef void (*work_done_fn)(int r, const struct error *err, void *data);

/* done may be NULL; then release(data) is all that happens. release (or NULL) runs after done, or
 * in worker_free(). */
int worker_run(struct worker *worker, work_fn work, work_done_fn done, void (*release)(void *data),
	       void *data, struct error *err);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * What happens in the lab, as GET /events tells it (server-sent events, dutd-api(7)). The last ones
 * are kept in memory, for those who come back: a viewer is a place among them, and is asked for
 * nothing while its client does not read. Who is too slow, or was away for too long, is told how
 * many it has missed.
 */

struct daemon;
struct http_request;
struct job;
struct lab_events;

enum {
	LAB_EVENTS_KEPT = 4096,
	LAB_EVENTS_MAX_BYTES = 2 << 20, /* of those that are kept */
	LAB_EVENTS_MAX_VIEWERS = 100,	/* half of them of one user; more get 429 */
};

int lab_events_new(struct lab_events **ret, struct daemon *daemon, struct error *err);
struct lab_events *lab_events_free(struct lab_events *events);

/*
 * Tells an event: dut is NULL, job 0 where there is none; members (or NULL, the reference is taken)
 * are further members of its object. What cannot be told for lack of memory counts as missed.
 */
void lab_event(struct daemon *daemon, const char *type, const char *dut, uint64_t job,
	       json_t *members);

/*
 * Something that a DUT's state is derived from may have changed: before the loop does anything else
 * all are looked at, and those that have another state are told. Cheap, and may be called too
 * often.
 */
void lab_look(struct daemon *daemon);

/* The same for a job: tells its state if it is another one than was told last. */
void lab_look_at_job(struct daemon *daemon, struct job *job);

/* GET /events; data is the daemon. */
void api_events(struct http_request *request, void *data);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "cli/session.h"

/* Waits for the end of a job: a question to the daemon that is answered when the job has ended. */

struct waiter;

/*
 * on_end runs once, from the loop, when the job has ended (borrowed; answer is NULL), or the daemon
 * could not say (job is NULL; the answer is the callee's). The waiter may be freed in it.
 */
typedef void (*waiter_fn)(json_t *job, struct answer *answer, void *data);

int waiter_new(struct waiter **ret, struct session *session, const char *id, waiter_fn on_end,
	       void *data, struct error *err);
struct waiter *waiter_free(struct waiter *waiter);
CLEANUP_DEFINE(struct waiter *, waiter_free)

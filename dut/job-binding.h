/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"

/* A job that is bound to its client is cancelled when the client is lost: client_lost. */

struct daemon;
struct http_request;
struct job;

/* From now on its client may be lost: after it was answered, or after the start of dutd. */
void job_binding_watch(struct daemon *daemon, struct job *job);

/*
 * Answers whether the stream that is asked for holds the job: 1, and it has to be attached to its
 * binding; 0: it does not. -EACCES: it has another id.
 */
int job_binding_is_holder(const struct job *job, const struct http_request *request,
			  struct error *err);

/* DELETE /jobs/{id}/binding; data is the daemon. */
void api_job_unbind(struct http_request *request, void *data);

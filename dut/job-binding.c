/* SPDX-License-Identifier: MIT */
#include "dut/job-binding.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http.h"
#include "base/log.h"
#include "dut/access.h"
#include "dut/api.h"
#include "dut/audit.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/job.h"

static void on_lost(void *data)
{
	struct job *job = data;
	struct daemon *daemon = job->client.daemon;
	struct access_identity who;
	char why[128];

	if (job->state == JOB_ENDED || job->cancelled)
		return;
	job->client.lost = true;
	(void)snprintf(why, sizeof(why), "its client has been gone for %g s (timeouts.client)",
		       (double)daemon->config->client_us / 1e6);
	access_identify_dutd(&who, "timer");
	api_cancel_job(daemon, job, who.name, why);
	audit_note(daemon, &who, job->dut, job->id, "cancel", "%s", why);
	if (job->board && job->board->job == job)
		board_cancel_job(job->board);
}

void job_binding_watch(struct daemon *daemon, struct job *job)
{
	const struct binding_config config = {
		.event = daemon->event,
		.token = job->client.submission_id,
		.limit_us = daemon->config->client_us,
		.lost = on_lost,
		.data = job,
	};
	struct error err;

	job->client.daemon = daemon;
	if (!job->client.bound || !job->client.submission_id || job->state == JOB_ENDED ||
	    job->cancelled)
		return;
	if (binding_begin(&job->client.binding, &config, &err) < 0)
		log_job(job->dut, job->id, LOG_ERR, "%s", err.text);
}

int job_binding_is_holder(const struct job *job, const struct http_request *request,
			  struct error *err)
{
	const char *token = http_request_query(request, "bind");
	const struct job_client *client = &job->client;

	if (!token)
		return 0;
	if (!client->submission_id || !binding_is_token(client->submission_id, token))
		return error_set(err, -EACCES,
				 "bind: this is not the submission_id of job %" PRIu64, job->id);
	return client->bound;
}

/* ---- DELETE /jobs/{id}/binding ---- */

/* Waits for the record to be on disk. */
struct unbind_call {
	struct daemon *daemon;
	struct http_request *request; /* NULL: the caller has left */
	uint64_t id;
};

static void on_caller_gone(void *data)
{
	struct unbind_call *call = data;

	call->request = NULL;
}

static void on_unbound(int r, const struct error *err, void *data)
{
	struct unbind_call *call = data;
	const struct job *job = daemon_find_job(call->daemon, call->id);

	if (call->request && r < 0)
		http_reply_error(call->request, api_status(r), "it is not on disk: %s", err->text);
	else if (call->request)
		http_reply_json(call->request, 200, job ? job_to_json(job) : json_object());
	free(call);
}

static void unbind(struct http_request *request, struct daemon *daemon, struct job *job)
{
	struct unbind_call *call = malloc(sizeof(*call));
	struct error err;
	int r;

	if (!call) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	*call = (struct unbind_call){ .daemon = daemon, .request = request, .id = job->id };
	if (job->client.bound)
		log_job(job->dut, job->id, LOG_INFO, "is left alone by its client");
	job->client.bound = false;
	binding_end(&job->client.binding);
	r = daemon_commit(daemon, job, on_unbound, call, &err);
	if (r < 0) {
		http_reply_error(request, api_status(r), "%s", err.text);
		free(call);
		return;
	}
	http_request_on_gone(request, on_caller_gone, call);
}

static void unbind_if_allowed(struct http_request *request, struct daemon *daemon, struct job *job)
{
	struct access_identity who;

	access_identify(daemon, request, &who);
	if (!access_owns(&who, job->owner, job->owner_uid) &&
	    !access_need(request, &who, ACCESS_ADMIN, "job %" PRIu64 " belongs to %s: to unbind it",
			 job->id, job->owner))
		return;
	if (job->state == JOB_ENDED)
		http_reply_error(request, 409, "job %" PRIu64 " has ended already: %s", job->id,
				 job_status_name(job->status));
	else
		unbind(request, daemon, job);
}

void api_job_unbind(struct http_request *request, void *data)
{
	api_with_job(request, data, unbind_if_allowed);
}

/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "dut/api.h"
#include "dut/daemon.h"
#include "dut/records.h"

/* Jobs as they are found: those that dutd has something to do with are in memory, all others in the
 * records, for which the request sleeps. */

enum { DEFAULT_LIMIT = 100, MAX_LIMIT = 1000 };

/* ---- one ---- */

struct job_call {
	struct daemon *daemon;
	struct http_request *request; /* NULL: the client has left */
	api_job_fn handle;
};

static void reply_no_job(struct http_request *request)
{
	const char *text = http_request_argument(request, "id");
	char escaped[64];

	http_reply_error(request, 404, "there is no job '%s'",
			 text_escape(escaped, sizeof(escaped), text, strlen(text)));
}

static void on_call_gone(void *data)
{
	struct job_call *call = data;

	call->request = NULL;
}

/* It comes into memory for as long as somebody reads of it. */
static struct job *keep_found(struct daemon *daemon, struct job *found)
{
	struct job *job = daemon_find_job(daemon, found->id);

	if (job) {
		job_free(found);
		return job;
	}
	daemon_add_job(daemon, found);
	daemon_sweep(daemon);
	return found;
}

static void on_job_found(int r, const struct error *err, struct job *found, void *data)
{
	struct job_call *call = data;
	struct http_request *request = call->request;

	if (!request) {
		job_free(found);
	} else {
		http_request_on_gone(request, NULL, NULL);
		if (r < 0)
			http_reply_error(request, api_status(r), "%s", err->text);
		else if (!found)
			reply_no_job(request);
		else
			call->handle(request, call->daemon, keep_found(call->daemon, found));
	}
	free(call);
}

void api_with_job(struct http_request *request, struct daemon *daemon, api_job_fn handle)
{
	const char *text = http_request_argument(request, "id");
	struct job_call *call;
	struct job *job;
	struct error err;
	uint64_t id;
	int r;

	if (text_to_uint64(&id, text, 1, INT64_MAX, NULL) < 0) {
		reply_no_job(request);
		return;
	}
	job = daemon_find_job(daemon, id);
	if (job) {
		handle(request, daemon, job);
		return;
	}
	call = malloc(sizeof(*call));
	if (!call) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	*call = (struct job_call){ .daemon = daemon, .request = request, .handle = handle };
	r = records_find_job(daemon->records, id, on_job_found, call, &err);
	if (r < 0) {
		free(call);
		http_reply_error(request, api_status(r), "%s", err.text);
		return;
	}
	http_request_on_gone(request, on_call_gone, call);
}

/* ---- many ---- */

struct list_call {
	struct daemon *daemon;
	struct http_request *request; /* NULL: the client has left */
	uint64_t limit, before, after;
	bool oldest_first;
};

static void on_list_gone(void *data)
{
	struct list_call *call = data;

	call->request = NULL;
}

/* Whether it has, had or may get this DUT. */
static bool is_on(const struct job *job, const char *dut)
{
	if (job->dut)
		return strcmp(dut, job->dut) == 0;
	return queue_waits(&job->claim) && queue_wants(&job->claim, dut);
}

static bool is_wanted(const struct http_request *request, const struct job *job)
{
	const char *state = http_request_query(request, "state");
	const char *dut = http_request_query(request, "dut");
	const char *owner = http_request_query(request, "owner");

	return (!state || strcmp(state, job_state_name(job_told_state(job))) == 0) &&
	       (!dut || is_on(job, dut)) && (!owner || strcmp(owner, job->owner) == 0);
}

static uint64_t id_of(const json_t *job)
{
	uint64_t id = 0;

	(void)text_to_uint64(&id, json_string_value(json_object_get(job, "id")), 0, INT64_MAX,
			     NULL);
	return id;
}

/* Whether a comes before b in the list; neither is 0. */
static bool is_earlier(const struct list_call *call, uint64_t a, uint64_t b)
{
	return call->oldest_first ? a < b : a > b;
}

/* Both are sorted; one that is in both is in memory. */
static json_t *merge(const struct list_call *call, const json_t *rows)
{
	struct list *head = &call->daemon->jobs;
	struct list *link = call->oldest_first ? head->next : head->previous;
	json_t *jobs = json_array();
	size_t i = 0;

	while (json_array_size(jobs) < call->limit) {
		json_t *row = json_array_get(rows, i);
		uint64_t row_id = row ? id_of(row) : 0;
		const struct job *job = link == head ? NULL : CONTAINER_OF(link, struct job, link);

		if (job && (!row || !is_earlier(call, row_id, job->id))) {
			if (job->id < call->before && job->id > call->after &&
			    is_wanted(call->request, job))
				(void)json_array_append_new(jobs, job_to_json(job));
			i += job->id == row_id;
			link = call->oldest_first ? link->next : link->previous;
		} else if (row) {
			(void)json_array_append(jobs, row);
			i++;
		} else {
			break;
		}
	}
	return jobs;
}

static void reply_list(const struct list_call *call, const json_t *rows)
{
	http_reply_json(call->request, 200, json_pack("{s:o}", "jobs", merge(call, rows)));
}

static void on_listed(int r, const struct error *err, const json_t *rows, void *data)
{
	struct list_call *call = data;

	if (call->request && r < 0)
		http_reply_error(call->request, api_status(r), "%s", err->text);
	else if (call->request)
		reply_list(call, rows);
	free(call);
}

static int read_page(const struct http_request *request, struct list_call *call, struct error *err)
{
	const char *limit = http_request_query(request, "limit");
	const char *before = http_request_query(request, "before");
	const char *after = http_request_query(request, "after");
	int r = 0;

	if (limit)
		r = text_to_uint64(&call->limit, limit, 1, MAX_LIMIT, err);
	if (r >= 0 && before)
		r = text_to_uint64(&call->before, before, 0, INT64_MAX, err);
	if (r >= 0 && after)
		r = text_to_uint64(&call->after, after, 0, INT64_MAX, err);
	call->oldest_first = after;
	return r < 0 ? error_prefix(err, r, "limit, before, after") : 0;
}

/* Nothing but what has ended is in the records alone. */
static bool wants_rows(const struct http_request *request)
{
	const char *state = http_request_query(request, "state");

	return !state || strcmp(state, job_state_name(JOB_ENDED)) == 0;
}

static int start_list(const struct list_call *call, struct error *err)
{
	const struct records_filter filter = {
		.dut = http_request_query(call->request, "dut"),
		.owner = http_request_query(call->request, "owner"),
		.before = call->before,
		.after = call->after,
		.oldest_first = call->oldest_first,
		.limit = (unsigned)call->limit,
	};
	struct list_call *ours = malloc(sizeof(*ours));
	int r;

	if (!ours)
		return error_oom(err);
	*ours = *call;
	r = records_list_jobs(call->daemon->records, &filter, on_listed, ours, err);
	if (r < 0)
		free(ours);
	else
		http_request_on_gone(call->request, on_list_gone, ours);
	return r;
}

/* The youngest first, of which before=ID gives the next page; or the oldest first after an ID. */
void api_jobs(struct http_request *request, void *data)
{
	struct list_call call = {
		.daemon = data,
		.request = request,
		.limit = DEFAULT_LIMIT,
		.before = UINT64_MAX,
	};
	struct error err;
	int r = read_page(request, &call, &err);

	if (r >= 0 && !wants_rows(request)) {
		reply_list(&call, NULL);
		return;
	}
	if (r >= 0)
		r = start_list(&call, &err);
	if (r < 0)
		http_reply_error(request, api_status(r), "%s", err.text);
}

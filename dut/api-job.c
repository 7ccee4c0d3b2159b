/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "dut/access.h"
#include "dut/api.h"
#include "dut/audit.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/job-binding.h"
#include "dut/metadata.h"
#include "dut/results.h"
#include "dut/waiting.h"

enum { MAX_WAIT_S = 3600, MAX_WAITERS = 1000 };

/* ---- one job, now or at its end ---- */

struct waiter {
	struct list link; /* daemon.waiters */
	struct http_request *request;
	struct job *job;
	struct daemon *daemon;
	void (*begun)(struct http_request *request, struct daemon *daemon, struct job *job);
	uint64_t user; /* http_peer.user */
	uint64_t
		place; /* that it knows, and wants to know when it is another one; 0: it does not */
	sd_event_source *timer;
};

static void waiter_free(struct waiter *waiter)
{
	list_remove(&waiter->link);
	sd_event_source_disable_unref(waiter->timer);
	free(waiter);
}

static void on_waiter_gone(void *data)
{
	waiter_free(data);
}

static void answer_waiter(struct waiter *waiter)
{
	http_reply_json(waiter->request, 200, waiting_to_json(waiter->daemon, waiter->job));
	waiter_free(waiter);
}

static int on_wait_over(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	answer_waiter(data);
	return 0;
}

static int waiter_new(struct waiter **ret, struct http_request *request, struct daemon *daemon,
		      struct job *job, struct error *err)
{
	struct waiter *waiter;
	const struct http_peer *peer = http_request_peer(request);
	unsigned count = 0, of_user = 0;

	LIST_FOREACH(link, &daemon->waiters) {
		count++;
		of_user += CONTAINER_OF(link, struct waiter, link)->user == peer->user;
	}
	if (count >= MAX_WAITERS)
		return error_set(err, -EAGAIN, "%d wait already, which is the limit", MAX_WAITERS);
	if (of_user >= MAX_WAITERS / 2)
		return error_set(err, -EAGAIN,
				 "%u requests of %s wait already, which is the limit for one user",
				 of_user, peer->user_name);
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		return error_oom(err);
	waiter->request = request;
	waiter->daemon = daemon;
	waiter->job = job;
	waiter->user = peer->user;
	list_append(&daemon->waiters, &waiter->link);
	*ret = waiter;
	return 0;
}

static int wait_for_end(struct http_request *request, struct daemon *daemon, struct job *job,
			uint64_t seconds, uint64_t place, struct error *err)
{
	struct waiter *waiter;
	int r = waiter_new(&waiter, request, daemon, job, err);

	if (r < 0)
		return r;
	waiter->place = place;
	r = sd_event_add_time_relative(daemon->event, &waiter->timer, CLOCK_BOOTTIME,
				       seconds * 1000000, 0, on_wait_over, waiter);
	if (r < 0) {
		waiter_free(waiter);
		return error_code(err, r, "cannot wait");
	}
	http_request_on_gone(request, on_waiter_gone, waiter);
	return 0;
}

/* Whether a job is where somebody knows it to be; anywhere, if he does not care. */
static bool is_at(const struct job *job, uint64_t place)
{
	const struct claim *claim = &job->claim;

	return place == 0 || (queue_waits(claim) && queue_place(claim->queue, claim) == place);
}

void api_places_changed(struct daemon *daemon)
{
	LIST_FOREACH_SAFE(link, after, &daemon->waiters) {
		struct waiter *waiter = CONTAINER_OF(link, struct waiter, link);

		if (!is_at(waiter->job, waiter->place))
			answer_waiter(waiter);
	}
}

static void reply_job(struct http_request *request, struct daemon *daemon, struct job *job)
{
	const char *wait = http_request_query(request, "wait");
	const char *place_text = http_request_query(request, "place");
	uint64_t seconds = 0, place = 0;
	struct error err;
	int r = 0;

	if (wait)
		r = text_to_uint64(&seconds, wait, 0, MAX_WAIT_S, &err);
	if (r >= 0 && place_text)
		r = text_to_uint64(&place, place_text, 1, UINT32_MAX, &err);
	if (r >= 0 && seconds > 0 && job_told_state(job) != JOB_ENDED && is_at(job, place)) {
		r = wait_for_end(request, daemon, job, seconds, place, &err);
		if (r >= 0)
			return;
	}
	if (r < 0)
		http_reply_error(request, api_status(r), "wait, place: %s", err.text);
	else
		http_reply_json(request, 200, waiting_to_json(daemon, job));
}

void api_job(struct http_request *request, void *data)
{
	api_with_job(request, data, reply_job);
}

static void go_on(struct waiter *waiter)
{
	struct waiter ours = *waiter;

	waiter_free(waiter);
	http_request_on_gone(ours.request, NULL, NULL);
	ours.begun(ours.request, ours.daemon, ours.job);
}

void api_job_changed(struct daemon *daemon, struct job *job)
{
	enum job_state state = job_told_state(job);

	LIST_FOREACH_SAFE(link, after, &daemon->waiters) {
		struct waiter *waiter = CONTAINER_OF(link, struct waiter, link);

		if (waiter->job != job || state == JOB_WAITING)
			continue;
		if (waiter->begun)
			go_on(waiter);
		else if (state == JOB_ENDED)
			answer_waiter(waiter);
	}
	viewers_wake(&job->viewers);
}

/* ---- files ---- */

static bool is_following(const struct http_request *request)
{
	const char *follow = http_request_query(request, "follow");

	return follow && strcmp(follow, "0") != 0;
}

/* The one who views the job's files wants to be woken. */
static void watch(const struct daemon *daemon, const struct job *job)
{
	const struct board *board = job->dut ? daemon_find_board(daemon, job->dut) : NULL;

	for (size_t i = 0; board && board->job == job && i < board->n_lines; i++)
		line_watch(board->lines[i]);
}

/* Whether its files are there; when they are not the request is answered. */
static bool has_files(struct http_request *request, const struct job *job)
{
	char when[CLOCK_ISO_SIZE];

	if (!job->pruned_us)
		return true;
	http_reply_error(request, 410, "the files of job %" PRIu64 " were removed on %s", job->id,
			 clock_format_iso(when, job->pruned_us));
	return false;
}

static void reply_log(struct http_request *request, struct daemon *daemon, struct job *job)
{
	const char *text = http_request_query(request, "offset");
	struct waiter *waiter = NULL;
	uint64_t offset = 0;
	char first[24];
	struct error err;
	int r = 0;

	if (!has_files(request, job))
		return;
	/* Where the log of a job begins is known when the job has a DUT. */
	if (is_following(request) && job_told_state(job) == JOB_WAITING) {
		r = waiter_new(&waiter, request, daemon, job, &err);
		if (r >= 0 && waiter) {
			waiter->begun = reply_log;
			http_request_on_gone(request, on_waiter_gone, waiter);
			return;
		}
	}
	if (r >= 0 && text && text_to_uint64(&offset, text, 0, INT64_MAX, &err) < 0)
		r = error_prefix(&err, -EINVAL, "offset");
	if (r >= 0) {
		if (offset < job->console_base)
			offset = job->console_base;
		(void)snprintf(first, sizeof(first), "%" PRIu64, offset);
		http_reply_header(request, "Console-Offset", first);
		r = viewer_add_file(&job->viewers, request,
				    &(const struct viewer_file){
					    .job = job,
					    .jobs_dir_fd = daemon->jobs_fd,
					    .name = "console.log",
					    .content_type = "application/octet-stream",
					    .position = offset - job->console_base,
					    .is_counted = true,
					    .follow = is_following(request),
				    },
				    &err);
	}
	if (r < 0)
		http_reply_error(request, api_status(r), "%s", err.text);
	else
		watch(daemon, job);
}

void api_job_log(struct http_request *request, void *data)
{
	api_with_job(request, data, reply_log);
}

static void reply_events(struct http_request *request, struct daemon *daemon, struct job *job)
{
	struct error err;
	int r;

	if (!has_files(request, job))
		return;
	r = job_binding_is_holder(job, request, &err);
	if (r >= 0)
		r = viewer_add_file(&job->viewers, request,
				    &(const struct viewer_file){
					    .job = job,
					    .jobs_dir_fd = daemon->jobs_fd,
					    .name = "events.jsonl",
					    .content_type = HTTP_JSON_LINES,
					    .follow = is_following(request),
					    .binding = r > 0 ? &job->client.binding : NULL,
				    },
				    &err);
	if (r < 0)
		http_reply_error(request, api_status(r), "%s", err.text);
	else
		watch(daemon, job);
}

void api_job_events(struct http_request *request, void *data)
{
	api_with_job(request, data, reply_events);
}

static void reply_results(struct http_request *request, struct daemon *daemon, struct job *job)
{
	struct error err;
	int r;

	if (!has_files(request, job))
		return;
	if (job_told_state(job) != JOB_ENDED) {
		http_reply_error(request, 409, "job %" PRIu64 " has not ended: it is %s", job->id,
				 job_state_name(job_told_state(job)));
		return;
	}
	r = results_reply(daemon, request, job, &err);
	if (r < 0)
		http_reply_error(request, api_status(r), "the results of job %" PRIu64 ": %s",
				 job->id, err.text);
}

void api_job_results(struct http_request *request, void *data)
{
	api_with_job(request, data, reply_results);
}

/* ---- cancel ---- */

/* The why of a body, which may be empty, or NULL; -EINVAL for what is neither. */
static int read_why(const struct http_request *request, json_t **ret_body, const char **ret_why,
		    struct error *err)
{
	size_t length;
	const char *text = http_request_body(request, &length);
	const json_t *why;

	*ret_body = text && length > 0 ? json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL)
				       : json_object();
	why = json_object_get(*ret_body, "why");
	if (!json_is_object(*ret_body) ||
	    (why && !json_is_null(why) && !metadata_is_text(why, JOB_MAX_TEXT)))
		return error_set(
			err, -EINVAL,
			"the body must be {\"why\": TEXT} with a printable text of at most "
			"%d bytes",
			JOB_MAX_TEXT);
	*ret_why = json_string_value(why);
	return 0;
}

void api_cancel_job(struct daemon *daemon, struct job *job, const char *by, const char *why)
{
	if (job->state == JOB_ENDED || job->cancelled)
		return;
	job->cancelled = true;
	job->cancel_by = job_copy_text(by);
	job->cancel_why = job_copy_text(why);
	log_job(job->dut, job->id, LOG_INFO, "is cancelled by %s%s%s", by, why ? ": " : "",
		why ? why : "");
	daemon_note(daemon, job);
	if (job->state == JOB_WAITING && !job->preparing) {
		(void)job_set_end(job, JOB_CANCELLED, job_client_cancel_reason(&job->client), NULL,
				  why);
		daemon_tell_end(daemon, job);
		dispatch_later(daemon);
	}
}

/* Waits for the record to be on disk: a cancel is committed before it is acknowledged. */
struct cancel_call {
	struct daemon *daemon;
	struct http_request *request; /* NULL: the caller has left */
	uint64_t id;
};

static void on_canceller_gone(void *data)
{
	struct cancel_call *call = data;

	call->request = NULL;
}

static void on_cancel_committed(int r, const struct error *err, void *data)
{
	struct cancel_call *call = data;
	struct job *job = daemon_find_job(call->daemon, call->id);

	if (job && job->board && job->board->job == job)
		board_cancel_job(job->board);
	if (call->request && r < 0)
		http_reply_error(call->request, api_status(r), "the cancel is not on disk: %s",
				 err->text);
	else if (call->request)
		http_reply_json(call->request, 200, job_to_json(job));
	free(call);
}

static void cancel(struct http_request *request, struct daemon *daemon, struct job *job)
{
	json_auto_t *body = NULL;
	struct cancel_call *call;
	struct access_identity who;
	struct error err;
	const char *why = NULL;
	int r;

	if (job->state == JOB_ENDED) {
		http_reply_error(request, 409, "job %" PRIu64 " has ended already: %s", job->id,
				 job_status_name(job->status));
		return;
	}
	access_identify(daemon, request, &who);
	if (!access_owns(&who, job->owner, job->owner_uid) &&
	    !access_need(request, &who, ACCESS_ADMIN, "job %" PRIu64 " belongs to %s: to cancel it",
			 job->id, job->owner))
		return;
	r = read_why(request, &body, &why, &err);
	if (r < 0) {
		http_reply_error(request, api_status(r), "%s", err.text);
		return;
	}
	call = malloc(sizeof(*call));
	if (!call) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	*call = (struct cancel_call){ .daemon = daemon, .request = request, .id = job->id };
	api_cancel_job(daemon, job, who.name, why);
	audit_note(daemon, &who, job->dut, job->id, "cancel", why ? "%s" : NULL, why);
	r = daemon_commit(daemon, job, on_cancel_committed, call, &err);
	if (r < 0) {
		http_reply_error(request, api_status(r), "%s", err.text);
		free(call);
		return;
	}
	http_request_on_gone(request, on_canceller_gone, call);
}

void api_job_cancel(struct http_request *request, void *data)
{
	api_with_job(request, data, cancel);
}

void api_dut_cancel(struct http_request *request, void *data)
{
	const char *id = http_request_argument(request, "id");
	const struct board *board = daemon_find_board(data, id);
	char escaped[128];

	if (!board)
		http_reply_error(request, 404, "there is no DUT '%s'",
				 text_escape(escaped, sizeof(escaped), id, strlen(id)));
	else if (!board->job || board->job->state == JOB_ENDED)
		http_reply_error(request, 409, "%s has no job to cancel", board->config->id);
	else
		cancel(request, data, board->job);
}

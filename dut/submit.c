/* SPDX-License-Identifier: MIT */
#include "dut/submit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"
#include "base/space.h"
#include "base/text.h"
#include "dut/access.h"
#include "dut/api.h"
#include "dut/audit.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/job-binding.h"
#include "dut/jobdir.h"
#include "dut/jobuser.h"
#include "dut/metadata.h"
#include "dut/validator.h"

/* How long a submission waits for a board that is just being switched off after a job. */
static const uint64_t SETTLE_LIMIT_US = UINT64_C(20) * 1000000;

enum {
	MAX_CANDIDATES = 1000,
	MAX_CHECKS = 4, /* processes that check job files, half of them of one user */
};

struct submission {
	struct list link; /* daemon.submissions */
	struct daemon *daemon;
	struct http_request *request; /* NULL when the client has left */
	json_t *metadata, *result;    /* as sent; as validated */
	struct access_identity owner;
	uint64_t user;	/* http_peer.user */
	const char *id; /* the submission_id in metadata, or NULL */
	char digest[JOB_CLIENT_DIGEST_SIZE];
	bool repeats; /* waits for what becomes of the one with the same id */
	struct validator *validator;
	bool unchecked;		/* waits for its turn to be checked */
	sd_event_source *timer; /* while it waits for a board that settles */
	bool waiting;
	struct board *board; /* the chosen one */
	struct job *job;
	struct {
		unsigned status; /* 0: none */
		json_t *extra;
		char *text;
	} refusal; /* that waits for the job's end to be on disk */
};

static struct http_part parts[] = {
	{ .name = "metadata",
	  .max_bytes = 256 << 10,
	  .limit = "the fixed limit",
	  .what = "metadata" },
	{ .name = "job", .limit = "limits.job_file", .what = "the job file" },
	{ .name = "job_bucket_initial_state_tarball_file",
	  .limit = "limits.bucket",
	  .what = "the bucket",
	  .to_file = true },
	{ .name = NULL },
};
const struct http_part *const submit_parts = parts;

void submit_set_limits(uint64_t job_file_bytes, uint64_t bucket_bytes)
{
	parts[1].max_bytes = job_file_bytes;
	parts[2].max_bytes = bucket_bytes;
}

static void submission_free(struct submission *submission)
{
	list_remove(&submission->link);
	if (submission->id)
		daemon_retry(submission->daemon); /* who repeats it goes on */
	validator_free(submission->validator);
	sd_event_source_disable_unref(submission->timer);
	json_decref(submission->metadata);
	json_decref(submission->result);
	json_decref(submission->refusal.extra);
	free(submission->refusal.text);
	free(submission);
}

void submissions_drop(struct daemon *daemon)
{
	LIST_FOREACH_SAFE(link, after, &daemon->submissions)
		submission_free(CONTAINER_OF(link, struct submission, link));
}

/* Who is told that his job did not start must not find it running after a crash of ours. */
static void refuse(struct submission *submission, unsigned status, json_t *extra, const char *text)
{
	const struct job *job = submission->job;

	/* One whose lock is kept has no end yet, and may not get one for long. */
	if (job && job->state == JOB_ENDED && job_told_state(job) != JOB_ENDED) {
		submission->refusal.status = status;
		submission->refusal.extra = extra;
		submission->refusal.text = strdup(text);
		return;
	}
	if (submission->request)
		http_reply_error_json(submission->request, status, extra, text);
	else
		json_decref(extra);
	submission_free(submission);
}

static void refuse_err(struct submission *submission, int r, const struct error *err)
{
	refuse(submission, api_status(r), NULL, err->text);
}

void submissions_job_changed(struct daemon *daemon, const struct job *job)
{
	LIST_FOREACH_SAFE(link, after, &daemon->submissions) {
		struct submission *submission = CONTAINER_OF(link, struct submission, link);

		if (submission->job == job && submission->refusal.status)
			refuse(submission, submission->refusal.status,
			       take_ptr(submission->refusal.extra),
			       submission->refusal.text ? submission->refusal.text
							: "out of memory");
	}
}

/* ---- the job's beginning ---- */

static void answer(struct http_request *request, unsigned status, const struct job *job)
{
	char id[24];

	(void)snprintf(id, sizeof(id), "%" PRIu64, job->id);
	http_reply_json(request, status,
			json_pack("{s:i, s:s, s:s, s:s, s:n, s:n}", "version", 1, "id", id, "dut",
				  job->dut, "state", job_state_name(job_told_state(job)), "place",
				  "error_msg"));
}

static void on_started(int r, const char *reason, void *data)
{
	struct submission *submission = data;
	const struct job *job = submission->job;
	char id[24], text[JOB_MAX_TEXT];

	(void)snprintf(id, sizeof(id), "%" PRIu64, job->id);
	if (r < 0) {
		(void)snprintf(text, sizeof(text), "job %s on %s did not start: %s", id, job->dut,
			       reason);
		refuse(submission, 500, json_pack("{s:s, s:s}", "id", id, "dut", job->dut), text);
		return;
	}
	audit_note(submission->daemon, &submission->owner, job->dut, job->id, "submit", "%s",
		   job->name);
	job_binding_watch(submission->daemon, submission->job);
	if (submission->request) {
		answer(submission->request, 201, job);
	} else if (!submission->id) {
		/* Nobody knows the id of this job. */
		api_cancel_job(submission->daemon, submission->job, submission->owner.name,
			       "the submitter left before it was answered");
		board_cancel_job(submission->board);
	}
	submission_free(submission);
}

/* The job's record may be on disk already: it gets its end, so that no later dutd starts it. */
static void end_before_start(struct submission *submission, int r, const char *why)
{
	bool disk = r == -ENOSPC || r == -EDQUOT;

	(void)job_set_end(submission->job, JOB_SETUP_FAIL, disk ? "disk" : "executor_failed", "lab",
			  why);
	submission->job->preparing = false;
	submission->job->off_pending = false;
	submission->job->board = NULL;
	daemon_tell_end(submission->daemon, submission->job);
	board_give_back(submission->board);
	daemon_retry(submission->daemon);
}

static void on_folder_made(int r, const struct error *err, void *data)
{
	struct submission *submission = data;
	struct error failure;

	if (r >= 0) {
		submission->job->preparing = false;
		r = board_start_job(submission->board, submission->job, on_started, submission,
				    &failure);
		err = &failure;
	}
	if (r < 0) {
		struct error text = *err;

		end_before_start(submission, r, text.text);
		refuse_err(submission, r, &text);
	}
}

static int begin_job(struct submission *submission, struct board *board, struct error *err)
{
	const char *name = json_string_value(json_object_get(submission->metadata, "name"));
	const char *own_name = json_string_value(json_object_get(submission->result, "name"));
	struct daemon *daemon = submission->daemon;
	const char *text;
	size_t length;
	int r;

	/* It does not wait any more: nothing may end it from here on but its job. */
	submission->timer = sd_event_source_disable_unref(submission->timer);
	r = job_new(&submission->job, daemon->next_id++,
		    name       ? name
		    : own_name ? own_name
			       : "untitled",
		    submission->owner.name, submission->owner.uid, board->config->id, err);
	if (r >= 0)
		r = job_client_init(&submission->job->client, submission->metadata,
				    submission->digest, err);
	if (r < 0) {
		submission->job = job_free(submission->job);
		return r;
	}
	submission->job->preparing = true;
	submission->job->board = board;
	list_append(&daemon->jobs, &submission->job->link);
	/* From here on nobody else gets it. */
	submission->board = board;
	board->job = submission->job;
	board->starting = true;
	text = http_request_part(submission->request, "job", &length);
	/* Before the next submission looks whether one is left. */
	r = jobuser_take(daemon, submission->job, err);
	if (r >= 0)
		r = jobdir_create(daemon, board, submission->job, submission->metadata, text,
				  length,
				  http_request_part_fd(submission->request,
						       "job_bucket_initial_state_tarball_file"),
				  on_folder_made, submission, err);
	if (r < 0)
		end_before_start(submission, r, err->text);
	return r;
}

/* ---- the choice of a board ---- */

static void refuse_busy(struct submission *submission, const struct board *board, size_t candidates)
{
	char holder[512], text[700];
	json_t *extra = json_pack("{s:s, s:o}", "dut", board->config->id, "job",
				  board->job ? job_to_json(board->job) : json_null());

	board_describe_holder(board, holder, sizeof(holder));
	if (candidates > 1)
		(void)snprintf(text, sizeof(text), "all %zu DUTs that fit are busy; %s %s",
			       candidates, board->config->id, holder);
	else
		(void)snprintf(text, sizeof(text), "%s %s", board->config->id, holder);
	refuse(submission, 409, extra, text);
}

static void choose_board(struct submission *submission, bool may_wait);

static int on_settle_limit(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	choose_board(data, false);
	return 0;
}

static int wait_for_settling(struct submission *submission, struct error *err)
{
	int r = 0;

	if (!submission->timer)
		r = sd_event_add_time_relative(submission->daemon->event, &submission->timer,
					       CLOCK_BOOTTIME, SETTLE_LIMIT_US, 0, on_settle_limit,
					       submission);
	if (r < 0)
		return error_code(err, r, "cannot wait for the board");
	submission->waiting = true;
	return 0;
}

static void choose_board(struct submission *submission, bool may_wait)
{
	const json_t *duts = json_object_get(submission->result, "duts");
	struct board *first = NULL, *free_board = NULL;
	bool settling = false;
	struct error err;
	const json_t *dut;
	size_t i;
	int r;

	submission->waiting = false;
	if (!submission->request) {
		submission_free(submission);
		return;
	}
	json_array_foreach(duts, i, dut) {
		struct board *board =
			json_is_string(dut)
				? daemon_find_board(submission->daemon, json_string_value(dut))
				: NULL;

		if (!board)
			continue;
		if (!first)
			first = board;
		/* One's own reservation before all others. */
		if ((!free_board || board->reservation) &&
		    board_is_free_for(board, submission->owner.name, submission->owner.uid))
			free_board = board;
		settling = settling ||
			   board_is_settling_for(board, submission->owner.name,
						 submission->owner.uid) ||
			   (board_is_being_renewed(board) && !board->renewal.leaving);
	}
	if (!first) {
		refuse(submission, 500, NULL, "the check of the job file named no DUT of ours");
		return;
	}
	if (free_board && !jobuser_is_left(submission->daemon))
		r = error_set(&err, -EAGAIN,
			      "all %zu users of job_users have a job; try again when one has ended",
			      submission->daemon->config->n_job_users);
	else if (free_board)
		r = begin_job(submission, free_board, &err);
	else if (settling && may_wait)
		r = wait_for_settling(submission, &err);
	else {
		refuse_busy(submission, first, json_array_size(duts));
		return;
	}
	if (r < 0)
		refuse_err(submission, r, &err);
}

static void begin(struct submission *submission);
static void start_checks(struct daemon *daemon);

void submissions_retry(struct daemon *daemon)
{
	/* Each frees at most itself: what else follows comes from the loop (daemon_retry()). */
	LIST_FOREACH_SAFE(link, after, &daemon->submissions) {
		struct submission *submission = CONTAINER_OF(link, struct submission, link);

		if (submission->waiting)
			choose_board(submission, true);
		else if (submission->repeats)
			begin(submission);
	}
	start_checks(daemon);
}

/* ---- the check ---- */

static void refuse_job_file(struct submission *submission, const json_t *errors)
{
	const json_t *first = json_array_get(errors, 0);
	const char *text = json_string_value(json_object_get(first, "text"));
	const char *no_match = json_string_value(json_object_get(first, "no_match"));
	json_t *extra = json_pack("{s:O}", "errors", errors);
	unsigned status = 400;

	if (no_match || json_is_true(json_object_get(first, "no_match")))
		status = json_object_get(first, "unknown_id") ||
					 (no_match && strcmp(no_match, "id") == 0)
				 ? 404
				 : 406;
	(void)json_object_set(extra, "line", json_object_get(first, "line"));
	(void)json_object_set(extra, "column", json_object_get(first, "column"));
	refuse(submission, status, extra, text ? text : "the job file is not valid");
}

static void on_validated(int r, const struct error *err, const json_t *result, void *data)
{
	struct submission *submission = data;
	const json_t *errors = json_object_get(result, "errors");

	submission->validator = NULL;
	start_checks(submission->daemon);
	if (r < 0) {
		refuse_err(submission, r, err);
		return;
	}
	if (json_array_size(errors) > 0) {
		refuse_job_file(submission, errors);
		return;
	}
	submission->result = json_deep_copy(result);
	choose_board(submission, true);
}

static json_t *candidate_facts(const struct daemon *daemon)
{
	json_t *duts = json_array();

	LIST_FOREACH(link, &daemon->boards) {
		const struct board *board = CONTAINER_OF(link, struct board, link);

		if (json_array_size(duts) < MAX_CANDIDATES)
			(void)json_array_append_new(duts, jobdir_dut_facts(board));
	}
	return duts;
}

static int start_check(struct submission *submission, struct error *err)
{
	const struct daemon *daemon = submission->daemon;
	const json_t *target = json_object_get(submission->metadata, "target");
	json_t *input = jobdir_common_facts(daemon, submission->metadata);
	size_t length;
	const char *text = http_request_part(submission->request, "job", &length);
	json_t *job = json_stringn(text, length);

	if (!job) {
		json_decref(input);
		return error_set(err, -EINVAL, "the job file is not UTF-8");
	}
	(void)json_object_set_new(input, "v", json_integer(1));
	(void)json_object_set_new(input, "job", job);
	(void)json_object_set(input, "target", target ? (json_t *)(uintptr_t)target : json_null());
	(void)json_object_set_new(input, "duts", candidate_facts(daemon));
	return validator_start(&submission->validator, submission->daemon, input, on_validated,
			       submission, err);
}

/* Whether a check may begin: they take seconds of a processor each. */
static bool may_check(const struct daemon *daemon, uint64_t user)
{
	unsigned all = 0, of_user = 0;

	LIST_FOREACH(link, &daemon->submissions) {
		const struct submission *other = CONTAINER_OF(link, struct submission, link);

		all += other->validator != NULL;
		of_user += other->validator && other->user == user;
	}
	return all < MAX_CHECKS && of_user < MAX_CHECKS / 2;
}

/* Those that were asked for first begin first, as far as their users' share goes. */
static void start_checks(struct daemon *daemon)
{
	LIST_FOREACH_SAFE(link, after, &daemon->submissions) {
		struct submission *submission = CONTAINER_OF(link, struct submission, link);
		struct error err;
		int r;

		if (!submission->unchecked || !may_check(daemon, submission->user))
			continue;
		submission->unchecked = false;
		r = start_check(submission, &err);
		if (r < 0)
			refuse_err(submission, r, &err);
	}
}

/* ---- repeats ---- */

static void identify(struct submission *submission)
{
	int fd = http_request_part_fd(submission->request, "job_bucket_initial_state_tarball_file");
	struct stat status;
	size_t length;
	const char *text = http_request_part(submission->request, "job", &length);

	submission->id = json_string_value(json_object_get(submission->metadata, "submission_id"));
	job_client_digest(submission->digest, submission->metadata, text, length,
			  fd >= 0 && fstat(fd, &status) == 0 ? (int64_t)status.st_size : -1);
}

/* One that came before and has the same id. */
static struct submission *find_earlier(const struct submission *submission)
{
	LIST_FOREACH(link, &submission->daemon->submissions) {
		struct submission *other = CONTAINER_OF(link, struct submission, link);

		if (other == submission)
			return NULL;
		if (other->id && strcmp(other->id, submission->id) == 0)
			return other;
	}
	return NULL;
}

static struct job *find_job_of(const struct daemon *daemon, const char *id)
{
	LIST_FOREACH(link, &daemon->jobs) {
		struct job *job = CONTAINER_OF(link, struct job, link);

		if (job->client.submission_id && strcmp(job->client.submission_id, id) == 0)
			return job;
	}
	return NULL;
}

/* The id says that it is a repeat: is it one? */
static bool is_same(struct submission *submission, const char *owner, uid_t owner_uid,
		    const char *digest)
{
	const char *text = NULL;

	if (!access_owns(&submission->owner, owner, owner_uid))
		text = "this submission_id is that of somebody else's job";
	else if (strcmp(digest, submission->digest) != 0)
		text = "this submission_id is that of another submission, which was not the same";
	if (text)
		refuse(submission, 409, NULL, text);
	return !text;
}

/* A repeat gets the job of the first one, also while that is still on its way. */
static bool is_repeat(struct submission *submission)
{
	const struct submission *earlier = find_earlier(submission);
	const struct job *job;

	submission->repeats = false;
	if (earlier) {
		if (is_same(submission, earlier->owner.name, earlier->owner.uid, earlier->digest))
			submission->repeats = true;
		return true;
	}
	job = find_job_of(submission->daemon, submission->id);
	if (!job)
		return false;
	if (is_same(submission, job->owner, job->owner_uid, job->client.digest)) {
		answer(submission->request, 200, job);
		submission_free(submission);
	}
	return true;
}

/* Frees at most this one; start_checks() has to follow. */
static void begin(struct submission *submission)
{
	if (!submission->id || !is_repeat(submission))
		submission->unchecked = true;
}

/* ---- the request ---- */

static void on_gone(void *data)
{
	struct submission *submission = data;
	struct daemon *daemon = submission->daemon;

	submission->request = NULL;
	/* A job that has begun goes on to on_started(); before that there is nothing to keep. */
	if (!submission->job)
		submission_free(submission);
	start_checks(daemon);
}

static unsigned count_submissions(const struct daemon *daemon)
{
	unsigned count = 0;

	LIST_FOREACH(link, &daemon->submissions)
		count++;
	return count;
}

/* Before the upload comes: there is no room for it, or will not be. */
static bool refuse_for_space(struct http_request *request, const struct daemon *daemon)
{
	uint64_t floor = daemon->config->limits.free_space, length = 0;
	const char *header = http_request_header(request, "Content-Length");
	struct error err;

	if (space_check(daemon->jobs_fd, floor, &err) < 0) {
		http_reply_error(request, 507, "no job can be taken: %s", err.text);
		return true;
	}
	if (!header || text_to_uint64(&length, header, 0, INT64_MAX - floor, NULL) < 0 ||
	    !space_is_low(daemon->jobs_fd, floor + length))
		return false;
	http_reply_error(request, 507,
			 "a submission of %" PRIu64
			 " bytes would leave less than limits.free_space on the disk",
			 length);
	return true;
}

void submit_admit(struct http_request *request, void *data)
{
	const struct daemon *daemon = data;
	uint64_t unfinished = 0;

	if (daemon->stop_timer) {
		http_reply_error(request, 503, "dutd is stopping; try again when it is back");
		return;
	}
	if (refuse_for_space(request, daemon))
		return;
	LIST_FOREACH(link, &daemon->jobs)
		unfinished += CONTAINER_OF(link, struct job, link)->state != JOB_ENDED;
	if (unfinished >= daemon->config->limits.waiting_jobs)
		http_reply_error(request, 429,
				 "%" PRIu64 " jobs are not finished, which is "
				 "limits.waiting_jobs (%" PRIu64 ")",
				 unfinished, daemon->config->limits.waiting_jobs);
}

void submit_handle(struct http_request *request, void *data)
{
	struct daemon *daemon = data;
	struct submission *submission;
	struct error err;
	const char *text;
	size_t length;
	int r;

	if (daemon->stop_timer) {
		http_reply_error(request, 503, "dutd is stopping; try again when it is back");
		return;
	}
	if (count_submissions(daemon) >= SUBMIT_MAX) {
		http_reply_error(request, 429,
				 "%d submissions are being handled already, which is the limit",
				 SUBMIT_MAX);
		return;
	}
	submission = calloc(1, sizeof(*submission));
	if (!submission) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	submission->daemon = daemon;
	submission->request = request;
	submission->user = http_request_peer(request)->user;
	access_identify(daemon, request, &submission->owner);
	list_append(&daemon->submissions, &submission->link);
	http_request_on_gone(request, on_gone, submission);

	text = http_request_part(request, "metadata", &length);
	submission->metadata = text ? json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (!text || !http_request_part(request, "job", &length)) {
		refuse(submission, 400, NULL,
		       "a submission needs the form parts 'metadata' and 'job'");
		return;
	}
	r = metadata_check(submission->metadata, &err);
	if (r < 0) {
		refuse_err(submission, r, &err);
		return;
	}
	identify(submission);
	begin(submission);
	start_checks(daemon);
}

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
#include "dut/dispatch.h"
#include "dut/jobdir.h"
#include "dut/jobuser.h"
#include "dut/metadata.h"
#include "dut/records.h"
#include "dut/submit-internal.h"
#include "dut/validator.h"

enum {
	MAX_CANDIDATES = 1000,
	MAX_CHECKS = 4, /* processes that check job files, half of them of one user */
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

void submission_free(struct submission *submission)
{
	list_remove(&submission->link);
	if (submission->id)
		dispatch_later(submission->daemon); /* who repeats it goes on */
	queue_remove(&submission->claim);
	if (submission->asked)
		*submission->asked = NULL;
	validator_free(submission->validator);
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
void submission_refuse(struct submission *submission, unsigned status, json_t *extra,
		       const char *text)
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

void submission_refuse_err(struct submission *submission, int r, const struct error *err)
{
	submission_refuse(submission, api_status(r), NULL, err->text);
}

void submissions_job_changed(struct daemon *daemon, const struct job *job)
{
	LIST_FOREACH_SAFE(link, after, &daemon->submissions) {
		struct submission *submission = CONTAINER_OF(link, struct submission, link);

		if (submission->job == job && submission->refusal.status)
			submission_refuse(submission, submission->refusal.status,
					  take_ptr(submission->refusal.extra),
					  submission->refusal.text ? submission->refusal.text
								   : "out of memory");
	}
}

static void begin(struct submission *submission);
static void start_checks(struct daemon *daemon);

void submissions_retry(struct daemon *daemon)
{
	/* Each frees at most itself: what else follows comes from the loop (dispatch_later()). */
	LIST_FOREACH_SAFE(link, after, &daemon->submissions) {
		struct submission *submission = CONTAINER_OF(link, struct submission, link);

		if (queue_waits(&submission->claim))
			submission_look_again(submission);
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
	submission_refuse(submission, status, extra, text ? text : "the job file is not valid");
}

static void on_validated(int r, const struct error *err, const json_t *result, void *data)
{
	struct submission *submission = data;
	const json_t *errors = json_object_get(result, "errors");

	submission->validator = NULL;
	start_checks(submission->daemon);
	if (r < 0) {
		submission_refuse_err(submission, r, err);
		return;
	}
	if (json_array_size(errors) > 0) {
		refuse_job_file(submission, errors);
		return;
	}
	submission->result = json_deep_copy(result);
	submission_choose(submission);
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
	if (submission->owner.uid == ACCESS_NO_UID) {
		(void)json_object_set_new(input, "file_roots", json_array());
		(void)json_object_set_new(input, "by_tcp", json_true());
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
			submission_refuse_err(submission, r, &err);
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
		submission_refuse(submission, 409, NULL, text);
	return !text;
}

static void answer_repeat(struct submission *submission, const struct job *job)
{
	if (!is_same(submission, job->owner, job->owner_uid, job->client.digest))
		return;
	submission_answer(submission->request, 200, job);
	submission_free(submission);
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
	if (job)
		answer_repeat(submission, job);
	return job;
}

/* Of a job that has ended nothing may be left but its row. */
static void on_row_found(int r, const struct error *err, struct job *job, void *data)
{
	struct submission **asked = data, *submission = *asked;
	struct daemon *daemon;

	free(asked);
	if (submission) {
		daemon = submission->daemon;
		submission->asked = NULL;
		if (r < 0)
			submission_refuse_err(submission, r, err);
		else if (job)
			answer_repeat(submission, job);
		else
			submission->unchecked = true;
		start_checks(daemon);
	}
	job_free(job);
}

static int look_for_row(struct submission *submission, struct error *err)
{
	struct submission **asked = malloc(sizeof(struct submission *));
	int r;

	if (!asked)
		return error_oom(err);
	*asked = submission;
	r = records_find_submission(submission->daemon->records, submission->id, on_row_found,
				    asked, err);
	if (r < 0)
		free(asked);
	else
		submission->asked = asked;
	return r;
}

/* Frees at most this one; start_checks() has to follow. */
static void begin(struct submission *submission)
{
	struct error err;
	int r;

	if (!submission->id) {
		submission->unchecked = true;
		return;
	}
	if (is_repeat(submission))
		return;
	r = look_for_row(submission, &err);
	if (r < 0)
		submission_refuse_err(submission, r, &err);
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

	if (daemon->stop_timer)
		http_reply_error(request, 503, "dutd is stopping; try again when it is back");
	else
		(void)refuse_for_space(request, daemon);
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
		submission_refuse(submission, 400, NULL,
				  "a submission needs the form parts 'metadata' and 'job'");
		return;
	}
	r = metadata_check(submission->metadata, &err);
	if (r < 0) {
		submission_refuse_err(submission, r, &err);
		return;
	}
	submission->wait_us = metadata_wait(submission->metadata);
	submission->priority = metadata_priority(submission->metadata);
	if (submission->priority > 0 &&
	    !access_need(request, &submission->owner, ACCESS_ADMIN, "a priority above 0")) {
		submission_free(submission);
		return;
	}
	identify(submission);
	begin(submission);
	start_checks(daemon);
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dut/api.h"
#include "dut/audit.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/job-binding.h"
#include "dut/jobdir.h"
#include "dut/jobuser.h"
#include "dut/lab-events.h"
#include "dut/submit-internal.h"
#include "dut/submit.h"
#include "dut/waiting.h"

/*
 * A submission that is good gets a board at once, if one is free and nobody waits for it; its
 * submitter is answered when the executor is there. Else it waits, if it was sent with a wait: its
 * job joins the queue and is answered when it is on disk. Else it is refused, but not because of a
 * board that is just being switched off after a job: for that one it waits in the queue itself.
 */

/* How long a submission waits for a board that settles. */
static const uint64_t SETTLE_LIMIT_US = UINT64_C(20) * 1000000;

enum { MAX_TARGET = 1024 /* bytes of a target that is remembered to be shown */ };

/* ---- the answers ---- */

void submission_answer(struct http_request *request, unsigned status, const struct job *job)
{
	const struct claim *claim = &job->claim;
	char id[24];

	(void)snprintf(id, sizeof(id), "%" PRIu64, job->id);
	http_reply_json(request, status,
			json_pack("{s:i, s:s, s:s?, s:s, s:o, s:n}", "version", 1, "id", id, "dut",
				  job->dut, "state", job_state_name(job_told_state(job)), "place",
				  queue_waits(claim)
					  ? json_integer(queue_place(claim->queue, claim))
					  : json_null(),
				  "error_msg"));
}

static void accept(struct submission *submission)
{
	struct job *job = submission->job;

	audit_note(submission->daemon, &submission->owner, job->dut, job->id, "submit", "%s",
		   job->name);
	job_binding_watch(submission->daemon, job);
	lab_look_at_job(submission->daemon, job);
	if (submission->request) {
		submission_answer(submission->request, 201, job);
	} else if (!submission->id) {
		/* Nobody knows the id of this job. */
		api_cancel_job(submission->daemon, job, submission->owner.name,
			       "the submitter left before it was answered");
		if (job->board && job->board->job == job)
			board_cancel_job(job->board);
	}
	submission_free(submission);
}

/* The claim is in the queue, so that its place is known. */
static void refuse_busy(struct submission *submission)
{
	const struct daemon *daemon = submission->daemon;
	const struct board *board = dispatch_awaited(daemon, &submission->claim);
	char text[DISPATCH_REFUSAL_SIZE];
	json_t *extra = json_pack("{s:o}", "job",
				  board && board->job ? job_to_json(board->job) : json_null());

	dispatch_refuse(daemon, &submission->claim, text, extra);
	submission_refuse(submission, 409, extra, text);
}

/* ---- the job's beginning ---- */

static void on_started(int r, const char *reason, void *data)
{
	struct submission *submission = data;
	const struct job *job = submission->job;
	char id[24], text[JOB_MAX_TEXT];

	if (r >= 0) {
		accept(submission);
		return;
	}
	(void)snprintf(id, sizeof(id), "%" PRIu64, job->id);
	(void)snprintf(text, sizeof(text), "job %s on %s did not start: %s", id, job->dut, reason);
	submission_refuse(submission, 500, json_pack("{s:s, s:s}", "id", id, "dut", job->dut),
			  text);
}

/* The job's record may be on disk already: it gets its end, so that no later dutd starts it. */
static void end_before_start(const struct submission *submission, int r, const char *why)
{
	bool disk = r == -ENOSPC || r == -EDQUOT;
	struct job *job = submission->job;
	struct board *board = job->board;

	(void)job_set_end(job, JOB_SETUP_FAIL, disk ? "disk" : "executor_failed", "lab", why);
	job->preparing = false;
	job->off_pending = false;
	job->board = NULL;
	daemon_tell_end(submission->daemon, job);
	if (board)
		board_give_back(board);
	dispatch_later(submission->daemon);
}

static void on_folder_made(int r, const struct error *err, void *data)
{
	struct submission *submission = data;
	struct job *job = submission->job;
	struct error failure;

	if (r >= 0) {
		job->preparing = false;
		if (!job->board) {
			(void)waiting_is_over(submission->daemon, job);
			accept(submission);
			return;
		}
		r = board_start_job(job->board, job, on_started, submission, &failure);
		err = &failure;
	}
	if (r < 0) {
		struct error text = *err;

		end_before_start(submission, r, text.text);
		submission_refuse_err(submission, r, &text);
	}
}

static char *remember_target(const json_t *target)
{
	char *text = json_dumps(target, JSON_COMPACT);

	if (text && strlen(text) <= MAX_TARGET)
		return text;
	free(text);
	return NULL;
}

static int make_job(struct submission *submission, const char *dut, struct error *err)
{
	const char *name = json_string_value(json_object_get(submission->metadata, "name"));
	const char *own_name = json_string_value(json_object_get(submission->result, "name"));
	bool ignores = json_is_true(json_object_get(submission->metadata, "ignore_deadline"));
	const json_t *deadline = json_object_get(submission->result, "deadline");
	struct daemon *daemon = submission->daemon;
	struct job *job = NULL;
	int r;

	r = job_new(&job, daemon->next_id++,
		    name       ? name
		    : own_name ? own_name
			       : "untitled",
		    submission->owner.name, submission->owner.uid, dut, err);
	if (r >= 0)
		r = job_client_init(&job->client, submission->metadata, submission->digest, err);
	if (r < 0) {
		job_free(job);
		return r;
	}
	job->priority = submission->priority;
	job->wait_us = submission->wait_us;
	job->target = remember_target(json_object_get(submission->result, "target"));
	if (json_is_integer(deadline) && !ignores)
		job->deadline_realtime_us = (uint64_t)json_integer_value(deadline);
	job->overall_us =
		(uint64_t)json_integer_value(json_object_get(submission->result, "overall"));
	job->preparing = true;
	submission->job = job;
	daemon_add_job(daemon, job);
	return 0;
}

static int make_folder(struct submission *submission, struct error *err)
{
	const struct http_request *request = submission->request;
	size_t length;
	const char *text = http_request_part(request, "job", &length);
	int tarball = http_request_part_fd(request, "job_bucket_initial_state_tarball_file");

	return jobdir_create(submission->daemon, submission->job->board, submission->job,
			     submission->metadata, text, length, tarball, on_folder_made,
			     submission, err);
}

/* Nobody else gets the board from here on. */
static int begin_job(struct submission *submission, struct board *board, struct error *err)
{
	struct job *job;
	int r;

	queue_remove(&submission->claim);
	r = make_job(submission, board->config->id, err);
	if (r < 0)
		return r;
	job = submission->job;
	job->board = board;
	board->job = job;
	board->starting = true;
	/* Before the next submission looks whether one is left. */
	r = jobuser_take(submission->daemon, job, err);
	if (r >= 0)
		r = make_folder(submission, err);
	if (r < 0)
		end_before_start(submission, r, err->text);
	return r;
}

/* ---- waiting ---- */

/* Many may wait, but no one user keeps the others from it. */
static int check_room(const struct submission *submission, struct error *err)
{
	uint64_t limit = submission->daemon->config->limits.waiting_jobs;
	const struct access_identity *owner = &submission->owner;
	unsigned of_user, count;

	count = queue_count(submission->daemon->queue, CLAIM_JOB, owner->name, &of_user);
	if (count >= limit)
		return error_set(err, -EAGAIN,
				 "%u jobs wait already, which is limits.waiting_jobs (%" PRIu64 ")",
				 count, limit);
	if (of_user >= (limit + 1) / 2 && owner->role < ACCESS_ADMIN)
		return error_set(
			err, -EAGAIN,
			"%u jobs of %s wait already, which is the limit for one user, half "
			"of limits.waiting_jobs (%" PRIu64 ")",
			of_user, owner->name, limit);
	return 0;
}

/* Takes the place that its submission has in the queue. */
static int join_queue(struct submission *submission, struct error *err)
{
	free_ const char **duts = NULL;
	const char *const *names;
	size_t count;
	int r = check_room(submission, err);

	if (r < 0)
		return r;
	names = queue_duts(&submission->claim, &count);
	duts = calloc(count, sizeof(*duts));
	if (!duts)
		return error_oom(err);
	memcpy(duts, names, count * sizeof(*duts));
	r = make_job(submission, count == 1 ? duts[0] : NULL, err);
	if (r < 0)
		return r;
	r = waiting_add(submission->daemon, submission->job, duts, count, err);
	/* The names live as long as somebody waits for them. */
	queue_remove(&submission->claim);
	if (r >= 0)
		r = make_folder(submission, err);
	if (r < 0)
		end_before_start(submission, r, err->text);
	else
		dispatch_later(submission->daemon);
	return r;
}

static bool is_settling(const struct submission *submission)
{
	size_t count;
	const char *const *names = queue_duts(&submission->claim, &count);

	for (size_t i = 0; i < count; i++) {
		const struct board *board = daemon_find_board(submission->daemon, names[i]);

		if (!board)
			continue;
		if (board_is_settling_for(board, submission->owner.name, submission->owner.uid) ||
		    (board_is_being_renewed(board) && !board->renewal.leaving))
			return true;
	}
	return false;
}

void submission_look_again(struct submission *submission)
{
	if (!is_settling(submission))
		refuse_busy(submission);
}

/* ---- the choice ---- */

static int check_users(const struct daemon *daemon, struct error *err)
{
	if (jobuser_is_left(daemon))
		return 0;
	return error_set(err, -EAGAIN,
			 "all %zu users of job_users have a job; try again when one has ended",
			 daemon->config->n_job_users);
}

static int give(struct claim *claim, struct board *board)
{
	struct submission *submission = CONTAINER_OF(claim, struct submission, claim);
	struct error err;
	int r = check_users(submission->daemon, &err);

	if (r >= 0)
		r = begin_job(submission, board, &err);
	if (r >= 0)
		return 1;
	submission_refuse_err(submission, r, &err);
	return -1;
}

static void over(struct claim *claim, enum claim_end end)
{
	(void)end;
	refuse_busy(CONTAINER_OF(claim, struct submission, claim));
}

/* Those of the DUTs that fit which are still there. */
static int claim_duts(struct submission *submission, struct error *err)
{
	const json_t *fitting = json_object_get(submission->result, "duts"), *dut;
	struct daemon *daemon = submission->daemon;
	free_ const char **names = calloc(json_array_size(fitting) + 1, sizeof(*names));
	uint64_t now_us = clock_now_us();
	size_t count = 0, i;

	if (!names)
		return error_oom(err);
	json_array_foreach(fitting, i, dut) {
		const struct board *board = daemon_find_board(daemon, json_string_value(dut));

		if (board)
			names[count++] = board->config->id;
	}
	/* The check began before a reload. */
	if (count == 0) {
		const char *only = json_string_value(json_array_get(fitting, 0));

		return error_set(err, -ENOENT, "%s is not configured any more",
				 only && json_array_size(fitting) == 1 ? only : "no DUT that fits");
	}
	submission->claim = (struct claim){
		.kind = CLAIM_SUBMISSION,
		.owner = submission->owner.name,
		.owner_uid = submission->owner.uid,
		.priority = submission->priority,
		.queued_us = (int64_t)now_us,
		.number = daemon->next_id,
		.limit_us = now_us + SETTLE_LIMIT_US,
		.deadline_realtime_us = UINT64_MAX,
		.give = give,
		.over = over,
	};
	return queue_add(daemon->queue, &submission->claim, names, count, err);
}

void submission_choose(struct submission *submission)
{
	struct daemon *daemon = submission->daemon;
	struct board *board = NULL;
	struct error err;
	int r;

	if (!submission->request) {
		submission_free(submission);
		return;
	}
	r = claim_duts(submission, &err);
	if (r >= 0)
		board = dispatch_find_board(daemon, &submission->claim);
	if (board)
		r = check_users(daemon, &err);
	if (board && r >= 0)
		r = begin_job(submission, board, &err);
	else if (queue_waits(&submission->claim) && submission->wait_us > 0)
		r = join_queue(submission, &err);
	else if (r >= 0 && !is_settling(submission)) {
		refuse_busy(submission);
		return;
	} else if (r >= 0) {
		dispatch_later(daemon);
	}
	if (r < 0)
		submission_refuse_err(submission, r, &err);
}

/* SPDX-License-Identifier: MIT */
#include "dut/waiting.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/jsontext.h"
#include "base/log.h"
#include "base/text.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/jobuser.h"

/* ---- its turn ---- */

/* Its folder is being made: nobody else gets the board meanwhile. */
static int keep_board(struct board *board, struct job *job, struct error *err)
{
	int r = jobuser_take(board->daemon, job, err);

	if (r < 0)
		return r;
	job->board = board;
	board->job = job;
	board->starting = true;
	return 0;
}

static int give(struct claim *claim, struct board *board)
{
	struct job *job = CONTAINER_OF(claim, struct job, claim);
	struct daemon *daemon = board->daemon;
	struct error err;
	int r;

	if ((!job->user.uid && !jobuser_is_left(daemon)) ||
	    job_set_dut(job, board->config->id, NULL) < 0)
		return 0;
	queue_remove(claim);
	r = job->preparing ? keep_board(board, job, &err)
			   : board_start_job(board, job, NULL, NULL, &err);
	if (r >= 0)
		return 1;
	log_job(board->config->id, job->id, LOG_ERR, "cannot start: %s", err.text);
	board_give_back(board);
	job->board = NULL;
	job->off_pending = false;
	(void)job_set_end(job, JOB_SETUP_FAIL, "executor_failed", "lab", err.text);
	daemon_tell_end(daemon, job);
	return -1;
}

/* ---- its time is over ---- */

static void end_in_vain(struct daemon *daemon, struct job *job, enum claim_end end,
			const char *cause)
{
	const char *separator = *cause ? "; " : "";
	char text[JOB_MAX_TEXT], moment[CLOCK_ISO_SIZE];

	if (end == CLAIM_TOO_LATE) {
		(void)snprintf(
			text, sizeof(text), "the job had to begin before its deadline, %s%s%s",
			clock_format_iso(moment, job->deadline_realtime_us), separator, cause);
		(void)job_set_end(job, JOB_SETUP_FAIL, "deadline", "job", text);
	} else {
		(void)snprintf(text, sizeof(text), "no DUT was free within %s%s%s",
			       text_format_duration(moment, sizeof(moment), job->wait_us),
			       separator, cause);
		(void)job_set_end(job, JOB_SETUP_FAIL, "queue_timeout", "lab", text);
	}
	log_job(job->dut, job->id, LOG_INFO, "ended %s (%s)", job_status_name(job->status),
		job->reason ? job->reason : "");
	daemon_tell_end(daemon, job);
}

static void over(struct claim *claim, enum claim_end end)
{
	struct job *job = CONTAINER_OF(claim, struct job, claim);
	struct daemon *daemon = claim->data;
	char cause[DISPATCH_CAUSE_SIZE];

	dispatch_cause(daemon, claim, cause, NULL);
	queue_remove(claim);
	/* Its first record is on its way to the disk: waiting_is_over() comes behind it. */
	if (!job->preparing)
		end_in_vain(daemon, job, end, cause);
}

bool waiting_is_over(struct daemon *daemon, struct job *job)
{
	bool late = job->deadline_realtime_us <= clock_realtime_us();

	if (job->board)
		return false;
	if (job->cancelled) {
		(void)job_set_end(job, JOB_CANCELLED, "cancelled", NULL, job->cancel_why);
		daemon_tell_end(daemon, job);
		return true;
	}
	if (queue_waits(&job->claim))
		return false;
	end_in_vain(daemon, job, late ? CLAIM_TOO_LATE : CLAIM_WAITED_LONG_ENOUGH, "");
	return true;
}

/* ---- joining ---- */

static uint64_t find_limit(const struct job *job, int64_t queued_us)
{
	int64_t limit_us;

	if (job->wait_us == UINT64_MAX || job->attempt > 0)
		return UINT64_MAX;
	limit_us = queued_us + (int64_t)job->wait_us;
	return limit_us > 0 ? (uint64_t)limit_us : 0;
}

static int64_t queued_since(const struct job *job)
{
	const struct moment now = moment_now();

	return moment_on_boottime(&job->queued, &now);
}

static int join_queue(struct daemon *daemon, struct job *job, const char *const *duts,
		      size_t n_duts, uint64_t limit_us, struct error *err)
{
	job->claim = (struct claim){
		.kind = CLAIM_JOB,
		.owner = job->owner,
		.owner_uid = job->owner_uid,
		.priority = job->priority,
		.queued_us = queued_since(job),
		.number = job->id,
		.limit_us = limit_us,
		.deadline_realtime_us = job->deadline_realtime_us,
		.give = give,
		.over = over,
		.data = daemon,
	};
	return queue_add(daemon->queue, &job->claim, duts, n_duts, err);
}

int waiting_add(struct daemon *daemon, struct job *job, const char *const *duts, size_t n_duts,
		struct error *err)
{
	return join_queue(daemon, job, duts, n_duts, find_limit(job, queued_since(job)), err);
}

int waiting_return(struct daemon *daemon, struct job *job, struct error *err)
{
	size_t count = job->dut ? 1 : json_array_size(job->duts);
	free_ const char **duts = calloc(count + 1, sizeof(*duts));
	int r;

	if (!duts)
		return error_oom(err);
	for (size_t i = 0; i < count; i++)
		duts[i] = job->dut ? job->dut : json_string_value(json_array_get(job->duts, i));
	/* One that did not want to wait was taken because it had a board: it gets one again. */
	r = join_queue(daemon, job, duts, count,
		       job->wait_us ? find_limit(job, queued_since(job)) : UINT64_MAX, err);
	if (r < 0)
		return r;
	json_decref(job->duts);
	job->duts = NULL;
	return 0;
}

void waiting_load(struct daemon *daemon)
{
	struct error err;

	LIST_FOREACH(link, &daemon->jobs) {
		struct job *job = CONTAINER_OF(link, struct job, link);

		if (job->state == JOB_WAITING && waiting_return(daemon, job, &err) < 0)
			log_job(job->dut, job->id, LOG_ERR, "cannot wait: %s", err.text);
	}
}

/* ---- what is told of it ---- */

json_t *waiting_to_json(const struct daemon *daemon, const struct job *job)
{
	json_t *object = job_to_json(job);
	char cause[DISPATCH_CAUSE_SIZE], until[CLOCK_ISO_SIZE];
	uint64_t until_us;

	if (!queue_waits(&job->claim)) {
		(void)json_object_set_new(object, "cause", json_null());
		return object;
	}
	dispatch_cause(daemon, &job->claim, cause, &until_us);
	(void)json_object_set_new(object, "cause", jsontext_new(cause));
	if (until_us)
		(void)json_object_set_new(object, "expected_end",
					  json_string(clock_format_iso(until, until_us)));
	return object;
}

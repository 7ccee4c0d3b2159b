/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "dut/board-internal.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/jobuser.h"
#include "dut/lab-events.h"
#include "dut/lease.h"
#include "dut/reservation.h"
#include "dut/waiting.h"

/*
 * A board's way through a job: taken, given to an executor, taken back with the lock, concluded by
 * what lies in the job's folder, switched off. Recovery after a crash of dutd is the same code, run
 * when the lock is ours.
 */

static const uint64_t OFF_RETRY_US = UINT64_C(10) * 1000000;
static const uint64_t CONCLUDE_RETRY_US = 1000000;

/* A flood is stopped at its limit by whoever reads it, a pipe and a step later. */
enum { LOG_SLACK = 1 << 20 };

static void read_lines(struct board *board)
{
	struct error err;

	for (size_t i = 0; i < board->n_lines; i++)
		if (line_read(board->lines[i], &err) < 0)
			log_board(board->config->id, LOG_ERR, "console %s: %s",
				  line_name(board->lines[i]), err.text);
}

/* Idle at last: the console is read, the power is known. */
void board_begin_idle(struct board *board)
{
	bool off = board->config->off_at_start && !board->reservation;
	struct error err;

	/* One that was kept may have hung up since, with words that nobody has read. */
	for (size_t i = 0; i < board->n_lines; i++)
		if (line_state(board->lines[i]) == LINE_HELD)
			(void)line_read(board->lines[i], NULL);
	for (size_t i = 0; i < board->n_lines; i++)
		(void)line_connect(board->lines[i], NULL);
	read_lines(board);
	if (board->outlet && outlet_request(board->outlet, off ? OUTLET_OFF : OUTLET_READ, NULL,
					    NULL, NULL, &err) < 0)
		log_board(board->config->id, LOG_ERR, "power: %s", err.text);
	dispatch_later(board->daemon);
}

void board_give_back(struct board *board)
{
	board->job = NULL;
	board->starting = false;
	board->on_started = NULL;
	read_lines(board);
}

/* ---- the off after a job ---- */

void board_off_is_over(struct board *board)
{
	struct job *job = board->job;

	board->off.pending = board->off.failed = false;
	board->off.timer = sd_event_source_disable_unref(board->off.timer);
	board->job = NULL;
	if (job) {
		job->off_pending = false;
		job->board = NULL;
		daemon_note(board->daemon, job);
	}
	if (board->reservation)
		reservation_go_on(board->reservation);
	dispatch_later(board->daemon);
}

static int on_off_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct board *board = data;

	(void)source;
	(void)usec;
	board_switch_off(board);
	return 0;
}

static void retry_off_later(struct board *board, const char *text)
{
	int r;

	if (!board->off.failed)
		log_board(board->config->id, LOG_ERR,
			  "cannot be switched off, trying again every %" PRIu64 " s: %s",
			  OFF_RETRY_US / 1000000, text);
	board->off.failed = true;
	dispatch_later(board->daemon); /* who waited for it to settle is told */
	board->off.timer = sd_event_source_disable_unref(board->off.timer);
	r = sd_event_add_time_relative(board->daemon->event, &board->off.timer, CLOCK_BOOTTIME,
				       OFF_RETRY_US, 0, on_off_retry, board);
	if (r < 0)
		log_board(board->config->id, LOG_CRIT, "cannot retry the power-off: %s",
			  strerror(-r));
}

static void on_off_done(const struct power_result *result, void *data)
{
	struct board *board = data;

	if (!board->off.pending)
		return;
	if (result->error < 0 || result->state != POWER_OFF || !result->verified) {
		retry_off_later(board, result->error < 0 ? result->text.text
							 : "the power does not read back OFF");
		return;
	}
	if (board->off.failed)
		log_board(board->config->id, LOG_NOTICE, "is off at last");
	board_off_is_over(board);
}

void board_switch_off(struct board *board)
{
	struct error err;

	if (!board->off.pending) {
		board->off.pending = true;
		board->off.begun_us = clock_now_us();
	}
	lab_look(board->daemon);
	if (outlet_request(board->outlet, OUTLET_OFF, NULL, on_off_done, board, &err) < 0)
		retry_off_later(board, err.text);
}

/* ---- a job's beginning ---- */

void board_tell_starter(struct board *board, int r, const char *reason)
{
	void (*started)(int r, const char *reason, void *data) = board->on_started;

	board->on_started = NULL;
	if (started)
		started(r, reason, board->on_started_data);
}

/* The attempt is on disk: from here on a crash ends in board_conclude(). */
static void on_committed(int r, const struct error *err, void *data)
{
	struct board *board = data;
	struct error failure;

	if (r < 0) {
		board_conclude(board, err->text);
		return;
	}
	if (board->job->cancelled) {
		board_conclude(board, NULL);
		return;
	}
	r = lease_start(&board->lease, board, board->job, &failure);
	if (r < 0)
		board_conclude(board, failure.text);
}

int board_start_job(struct board *board, struct job *job,
		    void (*started)(int r, const char *reason, void *data), void *data,
		    struct error *err)
{
	int r;

	for (size_t i = 0; i < board->n_lines; i++)
		(void)line_connect(board->lines[i], NULL);
	r = board->n_lines > 0 ? line_hold(board->lines[0], err) : 0;
	if (r < 0)
		return r;
	r = jobuser_take(board->daemon, job, err);
	if (r >= 0)
		r = job_begin_attempt(job, err);
	if (r < 0)
		return r;
	job->board = board;
	job->off_pending = board->config->after_job == AFTER_JOB_OFF;
	json_decref(job->dut_config);
	job->dut_config = config_dut_to_json(board->present);
	if (board->n_lines > 0 && job->attempt > 1 && job->earlier[job->attempt - 2].has_console) {
		r = history_set_aside(line_history(board->lines[0]),
				      job->earlier[job->attempt - 2].console_base, job->id,
				      job->attempt - 1, err);
		if (r < 0)
			return r;
	}
	if (board->n_lines > 0) {
		job->has_console = true;
		job->console_base = line_offset(board->lines[0]);
		r = line_begin_loan(board->lines[0], job->id, err);
		if (r < 0)
			return r;
	}
	board->job = job;
	board->starting = true;
	board->on_started = started;
	board->on_started_data = data;
	lab_look_at_job(board->daemon, job);
	lab_look(board->daemon);
	return lease_commit(board, job, on_committed, board, err);
}

void board_job_runs(struct board *board)
{
	struct job *job = board->job;

	board->starting = false;
	job->state = job_next(job->state, JOB_GO);
	job->started_us = clock_realtime_us();
	log_job(board->config->id, job->id, LOG_INFO, "runs, executor pid %d",
		(int)lease_pid(board->lease));
	daemon_note(board->daemon, job);
	daemon_job_changed(board->daemon, job);
	board_tell_starter(board, 0, NULL);
}

void board_cancel_job(struct board *board)
{
	if (board->lease)
		lease_cancel(board->lease);
}

/* ---- its end ---- */

/* The end of an executor that is gone, and left no result. */
static void decide_end(const struct board *board, int dir_fd, const char *reason,
		       struct job_result *end)
{
	const struct job *job = board->job;
	bool started = dir_fd >= 0 && faccessat(dir_fd, "started", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	const char *why = reason;

	*end = (struct job_result){ .status = JOB_CANCELLED,
				    .reason = strdup(job_client_cancel_reason(&job->client)) };
	if (job->cancelled) {
		why = job->cancel_why;
	} else if (started) {
		bool rebooted = strcmp(job->boot_id, clock_boot_id()) != 0;

		free(end->reason);
		end->reason = strdup(rebooted ? "gateway_reboot" : "executor_killed");
		end->verdict = strdup("lab");
		end->status = JOB_INCOMPLETE;
		if (!why)
			why = rebooted ? "the gateway was restarted while the job ran"
				       : "the executor died without a result";
	} else {
		free(end->reason);
		end->reason = strdup("executor_failed");
		end->verdict = strdup("lab");
		end->status = JOB_SETUP_FAIL;
		if (!why)
			why = dir_fd < 0 ? "the folder of the job is gone"
					 : "its executors died before they had begun";
	}
	end->message = why ? strdup(why) : NULL;
}

static void end_job(struct board *board, const struct job_result *end)
{
	struct job *job = board->job;

	if (job_set_end(job, end->status, end->reason, end->verdict, end->message)) {
		log_job(board->config->id, job->id, LOG_INFO, "ended %s (%s)",
			job_status_name(job->status), job->reason);
		daemon_tell_end(board->daemon, job);
	}
}

/* An attempt of which no trace is left (dutd died before the spawn) goes back to where it was. */
static bool try_again(struct board *board, const char *reason, int dir_fd)
{
	struct job *job = board->job;
	struct error err;

	if (reason || job->cancelled || job->attempt >= JOB_MAX_ATTEMPTS || dir_fd < 0 ||
	    faccessat(dir_fd, "started", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
	    faccessat(dir_fd, "result.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return false;
	if (waiting_return(board->daemon, job, &err) < 0) {
		log_job(board->config->id, job->id, LOG_ERR, "cannot wait: %s", err.text);
		return false;
	}
	job->state = job_next(job->state, JOB_REQUEUE);
	job->off_pending = false;
	job->started_us = 0;
	job->board = NULL;
	board->job = NULL;
	lab_look_at_job(board->daemon, job);
	daemon_note(board->daemon, job);
	return true;
}

/* What says nothing of the job: the machine is short of something, and may not be in a second. */
static bool is_transient(int r)
{
	static const int numbers[] = { EMFILE, ENFILE, ENOMEM, EIO, EINTR, EAGAIN, ENOSPC, EDQUOT };

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (r == -numbers[i])
			return true;
	return false;
}

static int on_conclude_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct board *board = data;
	free_ char *reason = take_ptr(board->conclude.reason);

	(void)source;
	(void)usec;
	board_conclude(board, reason);
	return 0;
}

/* The board goes off all the same; the job's end waits until it can be read. */
static void conclude_later(struct board *board, const char *reason, const struct error *err)
{
	if (!board->conclude.text[0]) {
		log_job(board->config->id, board->job->id, LOG_ERR,
			"its end cannot be read, trying again: %s", err->text);
		if (board->job->off_pending && board->outlet)
			(void)outlet_request(board->outlet, OUTLET_OFF, NULL, NULL, NULL, NULL);
	}
	(void)snprintf(board->conclude.text, sizeof(board->conclude.text), "%s", err->text);
	lab_look(board->daemon);
	free(board->conclude.reason);
	board->conclude.reason = reason ? strdup(reason) : NULL;
	board->conclude.timer = sd_event_source_disable_unref(board->conclude.timer);
	(void)sd_event_add_time_relative(board->daemon->event, &board->conclude.timer,
					 CLOCK_BOOTTIME, CONCLUDE_RETRY_US, 0, on_conclude_retry,
					 board);
}

/* Takes the console back and reads the result: 1 there is one, 0 none, in *why what is wrong with
 * what is there; a transient error changes nothing. */
static int take_back(struct board *board, int dir_fd, struct job_result *end, struct error *why,
		     struct error *err)
{
	const struct job *job = board->job;
	int r;

	if (job->has_console && board->n_lines > 0) {
		r = line_end_loan(board->lines[0], dir_fd, job->console_base,
				  board->daemon->config->limits.console_log + LOG_SLACK, err);
		if (is_transient(r) && line_state(board->lines[0]) == LINE_LENT)
			return r;
		if (r < 0)
			log_job(board->config->id, job->id, LOG_ERR, "console: %s", err->text);
		/* A log that is none any more: the console comes back without it. */
		if (line_state(board->lines[0]) == LINE_LENT)
			(void)line_end_loan(board->lines[0], -1, job->console_base, 0, NULL);
	}
	if (dir_fd < 0)
		return 0;
	r = job_read_result(job, dir_fd, end, err);
	if (r >= 0 || is_transient(r))
		return r < 0 ? r : 1;
	if (r != -ENOENT) {
		log_job(board->config->id, job->id, LOG_WARNING, "%s", err->text);
		*why = *err;
	}
	return 0;
}

void board_conclude(struct board *board, const char *reason)
{
	struct job_result end = { 0 };
	struct job *job = board->job;
	struct error why = { "" }, err;
	close_ int dir_fd = -1;
	char path[32];
	int r;

	(void)snprintf(path, sizeof(path), "%" PRIu64, job->id);
	r = file_open_beneath(&dir_fd, board->daemon->jobs_fd, path, O_DIRECTORY | O_RDONLY, &err);
	if (r < 0 && !is_transient(r))
		log_job(board->config->id, job->id, LOG_ERR, "its folder: %s", err.text);
	if (!is_transient(r))
		r = take_back(board, dir_fd, &end, &why, &err);
	if (is_transient(r)) {
		conclude_later(board, reason, &err);
		return;
	}
	board->conclude.text[0] = '\0';
	read_lines(board);
	board->starting = false;
	if (r == 0 && try_again(board, reason, dir_fd)) {
		board_begin_idle(board);
		return;
	}
	if (r == 0)
		decide_end(board, dir_fd, why.text[0] ? why.text : reason, &end);
	end_job(board, &end);
	board_tell_starter(board, -EIO, end.message ? end.message : end.reason);
	job_result_done(&end);
	if (job->off_pending && board->outlet)
		board_switch_off(board);
	else
		board_off_is_over(board);
}

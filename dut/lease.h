/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * The time for which a board's lock belongs to an executor: it is started with the lock, the
 * sockets and the job's folder; it gets the console lent and its power requests served over
 * control.sock; when it is gone the lock is taken back and the board concludes the job. See
 * dut-executor(8).
 */

struct board;
struct job;
struct lease;

/*
 * Puts the attempt on disk: job.json and the record with STARTING, attempt, nonce and off_pending.
 * done runs when both are safe.
 */
int lease_commit(struct board *board, struct job *job,
		 void (*done)(int r, const struct error *err, void *data), void *data,
		 struct error *err);

/*
 * Starts the executor; the board's lock goes to it. On failure the lock is still the board's. Later
 * the lease calls board_job_runs(), and board_conclude() at the end, and frees itself then.
 */
int lease_start(struct lease **ret, struct board *board, struct job *job, struct error *err);

/*
 * Takes over the executor of an earlier dutd: pid is the process that holds the board's lock, and
 * the job the one in our records. Its hello decides; until it has come, lease_is_answering() is
 * false, and it is asked again every second. Once it has come, board_adopted() is called. An
 * executor that is taken over is never killed for being silent here.
 *
 * Errors: -ESRCH when the process is gone.
 */
int lease_adopt(struct lease **ret, struct board *board, struct job *job, pid_t pid,
		struct error *err);

/* Stops watching: the executor runs on without us. */
struct lease *lease_free(struct lease *lease);

pid_t lease_pid(const struct lease *lease);

/* Whether the executor has answered within its time. */
bool lease_is_answering(const struct lease *lease);

/*
 * Lends the default console if the executor does not have its present fd. True when something was
 * lent: the executor's `lent` then calls outlet_continue().
 */
bool lease_lend(struct lease *lease);

/*
 * The lent console may have hung up. While the board is to be running it is opened again as soon as
 * that is possible, and lent; after 10 s the job is ended, console_lost.
 */
void lease_watch_console(struct lease *lease);

/* Passes on the job's cancel, as soon as the executor can be reached; one that does not leave is
 * killed. */
void lease_cancel(struct lease *lease);

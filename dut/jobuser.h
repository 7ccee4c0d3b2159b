/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/sandbox.h"

/*
 * The users of job_users: where dutd is root, each job runs as one of them, which it has for itself
 * until nothing of it is left. Who has which stands in the jobs' records.
 */

struct daemon;
struct job;

/* Whose QEMU is, where dutd is root and there is this user. */
#define JOBUSER_BOARD "dut-board"

/* Looks for it. Blocks: on the user database. */
struct sandbox_user jobuser_of_boards(void);

/* Whether jobs get users of their own. */
bool jobuser_wanted(const struct daemon *daemon);

/* What stands between a hostile job and the machine is missing something: an array of texts. */
json_t *jobuser_protections_missing(const struct daemon *daemon);

/* Gives the job a user that no other job has; nothing where they are not wanted. -EAGAIN when all
 * are taken. */
int jobuser_take(const struct daemon *daemon, struct job *job, struct error *err);

/* Whether jobuser_take() would find one. */
bool jobuser_is_left(const struct daemon *daemon);

/* Hands a job's folder to its user (uid 0: to nobody), as far as it may: what dutd has put there
 * stays dutd's. Blocks on the disk: for the worker. */
int jobuser_hand_over(const struct sandbox_user *user, int job_dir_fd, struct error *err);

/* Kills what runs as the job's user; does not wait. */
void jobuser_end_processes(struct daemon *daemon, const struct job *job);

/*
 * For a job that has ended: kills what is left of it, takes its folder back, and then the user is
 * free. What fails is tried again every second.
 */
void jobuser_release(struct daemon *daemon, struct job *job);

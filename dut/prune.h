/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"

struct daemon;
struct job;
struct prune;

/*
 * Removes the files of the oldest jobs that dutd has nothing left to do with, while there are more
 * than limits.kept_jobs, or they take more than limits.kept_size of the disk, and of those that
 * ended longer ago than limits.kept_age. Their rows stay, limits.kept_records of them. A job that
 * is being read waits.
 */

/*
 * Counts what there is, and goes on with what an earlier dutd had begun to remove.
 *
 * Blocks: on the disk.
 */
int prune_new(struct prune **ret, struct daemon *daemon, struct error *err);
struct prune *prune_free(struct prune *prune);

/* One more job has come to its end. */
void prune_count(struct daemon *daemon, const struct job *job);

/* Looks whether there are too many. */
void prune_jobs(struct daemon *daemon);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

/* A job's folder, and the job.json in it: what its executor gets to know. */

enum { JOBDIR_BIG_TARBALL = 1 << 20 /* bytes; a larger one is stored by daemon.bulk_worker */ };

struct board;
struct daemon;
struct job;

/* The facts of a DUT that a job file may use: {"id", "aliases", "tags", "mac", "tty", "variables",
 * "deploy", "console"}. */
json_t *jobdir_dut_facts(const struct board *board);

/* What is the same for all DUTs: {"environ", "variables", "timeouts", "limits", "file_roots",
 * "ignore_deadline"}. */
json_t *jobdir_common_facts(const struct daemon *daemon, const json_t *metadata);

/* A job.json without the members of an attempt, and without those of the DUT where board is NULL;
 * of metadata that is another one's, too, for what came with the submission stays the same. */
json_t *jobdir_describe(const struct daemon *daemon, const struct board *board,
			const struct job *job, const json_t *metadata);

/*
 * A job begins once more, because its attempt of this number left no trace of a start: what that
 * one wrote is renamed to console.N.log, console.N.idx and events.N.jsonl, so that the next one
 * begins its own. Files that are not there are passed over.
 *
 * Blocks: on the disk.
 */
int jobdir_set_aside(int job_dir_fd, unsigned attempt, struct error *err);

/*
 * Makes jobs/<id> (board is NULL while the job waits for one) with job.yml, job.json and bucket.tar
 * (tarball_fd may be -1), and the job's first record. done runs when all of it is on disk.
 *
 * Owns: text and tarball_fd are copied.
 */
int jobdir_create(struct daemon *daemon, const struct board *board, struct job *job,
		  const json_t *metadata, const char *text, size_t length, int tarball_fd,
		  void (*done)(int r, const struct error *err, void *data), void *data,
		  struct error *err);

/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "dut/board.h"
#include "dut/daemon-internal.h"
#include "dut/daemon.h"

/*
 * The boards at the start of dutd. One that an earlier dutd has left with a job is opened as it was
 * then, which the job's record says: the present configuration holds for it when the job is over.
 * It may not be there any more.
 */

CLEANUP_DEFINE(struct config_dut *, config_dut_unref)

static bool has_board(const struct job *job)
{
	return job->dut &&
	       (job->state == JOB_STARTING || job->state == JOB_RUNNING || job->off_pending);
}

/* Without power and consoles: a job can still be taken over, and its end be read. */
static int make_bare(struct config_dut **ret, const struct job *job, struct error *err)
{
	json_auto_t *bare = json_pack("{s:{}}", job->dut);

	return bare ? config_dut_from_json(ret, bare, err) : error_oom(err);
}

/* The configuration of a job's DUT as it was when the job was started; NULL: not known. */
static struct config_dut *recorded_dut(const struct job *job)
{
	struct config_dut *dut = NULL;
	struct error err;
	int r;

	if (!job->dut_config)
		return NULL;
	r = config_dut_from_json(&dut, job->dut_config, &err);
	if (r >= 0 && strcmp(dut->id, job->dut) == 0)
		return dut;
	log_job(job->dut, job->id, LOG_WARNING, "its DUT cannot be as it was: %s",
		r < 0 ? err.text : "the record has another name");
	return config_dut_unref(dut);
}

static int open_board(struct daemon *daemon, struct config_dut *dut, struct error *err)
{
	struct board *board;
	int r = board_new(&board, daemon, dut, err);

	if (r >= 0)
		list_append(&daemon->boards, &board->link);
	return r;
}

/* The youngest job that still has to do with a DUT, or NULL. */
static const struct job *find_job_of(const struct daemon *daemon, const char *dut)
{
	const struct job *found = NULL;

	LIST_FOREACH(link, &daemon->jobs) {
		const struct job *job = CONTAINER_OF(link, struct job, link);

		if (has_board(job) && strcmp(job->dut, dut) == 0)
			found = job;
	}
	return found;
}

static int open_configured(struct daemon *daemon, struct config_dut *dut, struct error *err)
{
	const struct job *job = find_job_of(daemon, dut->id);
	cleanup_(config_dut_unrefp) struct config_dut *before = job ? recorded_dut(job) : NULL;

	if (!before || open_board(daemon, before, err) < 0)
		return open_board(daemon, dut, err);
	board_configure(before->board, dut);
	return 0;
}

/* It is configured no more, and has a job. */
static int open_leaving(struct daemon *daemon, const struct job *job, struct error *err)
{
	cleanup_(config_dut_unrefp) struct config_dut *dut = recorded_dut(job);
	int r = dut ? open_board(daemon, dut, err) : -1;

	if (r < 0) {
		dut = config_dut_unref(dut);
		r = make_bare(&dut, job, err);
		if (r >= 0)
			r = open_board(daemon, dut, err);
	}
	if (r < 0)
		return r;
	board_configure(dut->board, NULL);
	daemon->n_leaving++;
	log_job(job->dut, job->id, LOG_NOTICE,
		"its DUT is not configured any more, and leaves when the job is over");
	return 0;
}

static bool is_there(const struct daemon *daemon, const char *dut)
{
	const struct board *board = daemon_find_board(daemon, dut);

	return board && strcmp(board->config->id, dut) == 0;
}

int daemon_open_boards(struct daemon *daemon, struct error *err)
{
	for (size_t i = 0; i < daemon->config->n_duts; i++) {
		int r = open_configured(daemon, daemon->config->duts[i], err);

		if (r < 0)
			return r;
	}
	LIST_FOREACH(link, &daemon->jobs) {
		const struct job *job = CONTAINER_OF(link, struct job, link);
		struct error failure;

		if (has_board(job) && !is_there(daemon, job->dut) &&
		    open_leaving(daemon, find_job_of(daemon, job->dut), &failure) < 0)
			log_job(job->dut, job->id, LOG_ERR, "its DUT cannot be opened: %s",
				failure.text);
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "dut/board.h"
#include "dut/daemon-internal.h"
#include "dut/daemon.h"
#include "dut/jobuser.h"
#include "dut/prune.h"
#include "dut/records.h"

/*
 * The jobs in memory and their records on the disk: read at the start, written at every step of a
 * job, and all that is left of a job when dutd has nothing to do with it any more.
 */

static const uint64_t SAVE_RETRY_US = 1000000;

enum { SAVES_AT_ONCE = 64 };

/* ---- the start ---- */

void daemon_add_job(struct daemon *daemon, struct job *job)
{
	struct list *at = &daemon->jobs;

	/* Nearly always at the end. */
	while (at->previous != &daemon->jobs &&
	       CONTAINER_OF(at->previous, struct job, link)->id > job->id)
		at = at->previous;
	list_append(at, &job->link);
	list_append(&daemon->jobs_by_id[job->id % DAEMON_JOB_LISTS], &job->id_link);
}

static void on_loaded(struct job *job, bool has_file, void *data)
{
	/* What was left is written again. */
	job->unsaved = job->unsaved || !has_file;
	if (!has_file)
		log_job(job->dut, job->id, LOG_WARNING,
			"its record was lost: it is as it was in dutd.db");
	daemon_add_job(data, job);
}

/* Ids are never used twice, also when next-id was lost: whatever there is a trace of counts. */
int daemon_load_jobs(struct daemon *daemon, struct error *err)
{
	uint64_t highest = 0;
	int r = records_load_jobs(daemon->records, on_loaded, daemon, &highest, err);

	if (r < 0)
		return r;
	if (daemon->next_id <= highest)
		daemon->next_id = highest + 1;
	return 0;
}

/* ---- commits ---- */

struct record_work {
	struct daemon *daemon;
	uint64_t id;
	int jobs_fd;
	char name[32];
	char *text;
	bool ended;  /* the record has the job's end */
	bool closed; /* and nothing is left to do */
	bool safe;   /* the files are on disk */
	struct daemon_commit commit;
};

static int write_files(struct filebatch *files, void *data, struct error *err)
{
	const struct record_work *work = data;
	int r = work->commit.files ? work->commit.files(files, work->commit.data, err) : 0;

	if (r < 0)
		return r;
	/* Last: it says that the rest is there. */
	return filebatch_write(files, work->commit.is_new ? FILEBATCH_REPLACE : FILEBATCH_RESERVED,
			       work->jobs_fd, work->name, work->text, strlen(work->text), 0600,
			       err);
}

static int write_row(struct database *database, void *data, struct error *err)
{
	const struct record_work *work = data;

	return records_write_row(database, work->id, work->text, err);
}

void daemon_save_later(struct daemon *daemon)
{
	(void)sd_event_source_set_time_relative(daemon->save_timer, SAVE_RETRY_US);
	(void)sd_event_source_set_enabled(daemon->save_timer, SD_EVENT_ONESHOT);
}

/* A step that nobody waits for still has to get to the disk: a full one may have room again. */
static void save_later(struct daemon *daemon, struct job *job, const char *text)
{
	if (!job->unsaved)
		log_job(job->dut, job->id, LOG_ERR, "its record is not on disk, trying again: %s",
			text);
	job->unsaved = true;
	daemon_save_later(daemon);
}

static int on_save_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct daemon *daemon = data;
	unsigned count = 0;

	(void)source;
	(void)usec;
	LIST_FOREACH(link, &daemon->jobs) {
		struct job *job = CONTAINER_OF(link, struct job, link);

		/* What is under way tells how it went. */
		if (job->unsaved && job->commits == 0 && ++count <= SAVES_AT_ONCE)
			daemon_note(daemon, job);
		jobuser_release(daemon, job);
	}
	if (count > SAVES_AT_ONCE)
		daemon_save_later(daemon);
	return 0;
}

/* The job's file is enough for the next start; its row only has to follow some time. */
static void row_failed(struct daemon *daemon, struct job *job, const char *text)
{
	if (!daemon->rows_fail)
		log_msg(LOG_ERR, "rows of jobs cannot be written, trying again: %s", text);
	daemon->rows_fail = true;
	job->unsaved = true;
	daemon_save_later(daemon);
}

static void row_written(struct daemon *daemon, struct job *job, bool closed)
{
	if (daemon->rows_fail)
		log_msg(LOG_NOTICE, "rows of jobs can be written again");
	daemon->rows_fail = false;
	job->unsaved = false;
	if (closed && !job->closed) {
		job->closed = true;
		prune_count(daemon, job);
	}
}

static void record_done(int r, const struct error *err, void *data)
{
	const struct record_work *work = data;
	struct daemon *daemon = work->daemon;
	struct job *job = daemon_find_job(daemon, work->id);

	if (job)
		job->commits--;
	if (work->commit.done)
		work->commit.done(work->safe ? 0 : r, err, work->commit.data);
	if (!job)
		return;
	if (r >= 0)
		row_written(daemon, job, work->closed);
	else if (work->safe)
		row_failed(daemon, job, err->text);
	else if (!work->commit.done)
		save_later(daemon, job, err->text);
	if (work->ended && job->untold != JOB_INVALID) {
		job->untold = JOB_INVALID;
		daemon_job_changed(daemon, job);
	}
	daemon_sweep(daemon);
}

static void record_release(void *data)
{
	struct record_work *work = data;

	if (work->commit.release)
		work->commit.release(work->commit.data);
	free(work->text);
	free(work);
}

int daemon_commit_with(struct daemon *daemon, struct job *job, const struct daemon_commit *commit,
		       struct error *err)
{
	struct record_work *ours = calloc(1, sizeof(*ours));
	json_auto_t *record = job_to_record(job);
	int r;

	if (!ours)
		return error_oom(err);
	*ours = (struct record_work){
		.daemon = daemon,
		.id = job->id,
		.jobs_fd = daemon->jobs_fd,
		.text = record ? json_dumps(record, JSON_INDENT(1)) : NULL,
		.ended = job->state == JOB_ENDED,
		.closed = job_is_closed(job),
		.commit = *commit,
	};
	const struct records_work work = {
		.files = write_files,
		.write = write_row,
		.done = record_done,
		.release = record_release,
		.data = ours,
		.files_safe = &ours->safe,
	};

	(void)snprintf(ours->name, sizeof(ours->name), "%" PRIu64 ".json", job->id);
	r = ours->text ? records_run(daemon->records, &work, err) : error_oom(err);
	if (r < 0) {
		free(ours->text);
		free(ours);
		return r;
	}
	job->commits++;
	return 0;
}

int daemon_commit(struct daemon *daemon, struct job *job, daemon_commit_fn done, void *data,
		  struct error *err)
{
	const struct daemon_commit commit = { .done = done, .data = data };

	return daemon_commit_with(daemon, job, &commit, err);
}

void daemon_note(struct daemon *daemon, struct job *job)
{
	struct error err;

	if (daemon_commit(daemon, job, NULL, NULL, &err) < 0)
		save_later(daemon, job, err.text);
}

/* ---- what is not needed any more ---- */

static bool has_a_board(const struct daemon *daemon, const struct job *job)
{
	LIST_FOREACH(link, &daemon->boards)
		if (CONTAINER_OF(link, struct board, link)->job == job)
			return true;
	return false;
}

static void on_idle(void *data)
{
	daemon_sweep(data);
}

static int on_sweep(sd_event_source *source, void *data)
{
	struct daemon *daemon = data;

	(void)source;
	LIST_FOREACH_SAFE(link, after, &daemon->jobs) {
		struct job *job = CONTAINER_OF(link, struct job, link);

		if (!job->closed || !job_is_closed(job) || job->commits > 0 || job->unsaved ||
		    job->releasing || job->untold != JOB_INVALID || has_a_board(daemon, job))
			continue;
		if (job->viewers.count > 0) {
			job->viewers.idle = on_idle;
			job->viewers.idle_data = daemon;
			continue;
		}
		job_free(job);
	}
	prune_jobs(daemon);
	return 0;
}

void daemon_sweep(struct daemon *daemon)
{
	if (daemon->sweep)
		(void)sd_event_source_set_enabled(daemon->sweep, SD_EVENT_ONESHOT);
}

int daemon_add_record_sources(struct daemon *daemon)
{
	int r = sd_event_add_time(daemon->event, &daemon->save_timer, CLOCK_BOOTTIME, 0, 0,
				  on_save_timer, daemon);

	if (r >= 0)
		r = sd_event_source_set_enabled(daemon->save_timer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_defer(daemon->event, &daemon->sweep, on_sweep, daemon);
	return r < 0 ? r : sd_event_source_set_enabled(daemon->sweep, SD_EVENT_OFF);
}

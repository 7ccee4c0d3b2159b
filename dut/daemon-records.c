/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "dut/daemon-internal.h"
#include "dut/daemon.h"
#include "dut/jobuser.h"
#include "dut/reserve.h"
#include "dut/worker.h"

/*
 * The jobs' records on the disk: read at the start, and written by the worker at every step of a
 * job.
 */

static const uint64_t SAVE_RETRY_US = 1000000;

enum { MAX_RECORD = 1 << 20 };

/* ---- the start ---- */

static void insert_job(struct daemon *daemon, struct job *job)
{
	struct list *at = &daemon->jobs;

	/* Nearly always at the end. */
	while (at->previous != &daemon->jobs &&
	       CONTAINER_OF(at->previous, struct job, link)->id > job->id)
		at = at->previous;
	list_append(at, &job->link);
}

static int load_record(struct daemon *daemon, const char *name, struct error *err)
{
	json_auto_t *record = NULL;
	free_ char *text = NULL;
	struct job *job;
	size_t length;
	int r;

	r = file_read_beneath(&text, &length, daemon->jobs_fd, name, MAX_RECORD, err);
	if (r < 0)
		return r;
	record = json_loadb(text, length, 0, NULL);
	r = job_from_record(&job, record, err);
	if (r < 0)
		return r;
	insert_job(daemon, job);
	return 0;
}

/* Ids are never used twice, also when next-id was lost: whatever lies in jobs/ counts. */
static void note_used_id(struct daemon *daemon, uint64_t id)
{
	if (id >= daemon->next_id)
		daemon->next_id = id + 1;
}

int daemon_load_jobs(struct daemon *daemon, struct error *err)
{
	closedir_ DIR *dir = NULL;
	int fd = openat(daemon->jobs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int r = error_errno(err, "cannot list the jobs");

		(void)close_fd(fd);
		return r;
	}
	while ((entry = readdir(dir))) {
		uint64_t id;
		bool is_record = text_number_before(&id, entry->d_name, ".json");

		if (!is_record && !text_number_before(&id, entry->d_name, ""))
			continue;
		note_used_id(daemon, id);
		if (is_record && load_record(daemon, entry->d_name, err) < 0)
			log_msg(LOG_ERR, "the record %s is left alone: %s", entry->d_name,
				err->text);
	}
	if (daemon->next_id == 0)
		daemon->next_id = 1;
	return 0;
}

/* ---- commits ---- */

struct record_work {
	struct daemon *daemon;
	uint64_t id;
	int state_fd, jobs_fd;
	char name[32];
	char *text;
	bool ended; /* the record has the job's end */
	daemon_commit_fn done;
	void *data;
};

static int write_record(void *data, struct error *err)
{
	const struct record_work *work = data;

	return reserve_replace(work->state_fd, work->jobs_fd, work->name, work->text, 0600, err);
}

/* A step that nobody waits for still has to get to the disk: a full one may have room again. */
static void save_later(struct daemon *daemon, uint64_t id, const char *text)
{
	struct job *job = daemon_find_job(daemon, id);

	if (!job)
		return;
	if (!job->unsaved)
		log_job(job->dut, id, LOG_ERR, "its record is not on disk, trying again: %s", text);
	job->unsaved = true;
	daemon_save_later(daemon);
}

void daemon_save_later(struct daemon *daemon)
{
	(void)sd_event_source_set_time_relative(daemon->save_timer, SAVE_RETRY_US);
	(void)sd_event_source_set_enabled(daemon->save_timer, SD_EVENT_ONESHOT);
}

static int on_save_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct daemon *daemon = data;

	(void)source;
	(void)usec;
	LIST_FOREACH(link, &daemon->jobs) {
		struct job *job = CONTAINER_OF(link, struct job, link);

		if (job->unsaved)
			daemon_note(daemon, job);
		jobuser_release(daemon, job);
	}
	return 0;
}

static void record_done(int r, const struct error *err, void *data)
{
	const struct record_work *work = data;
	struct job *job = daemon_find_job(work->daemon, work->id);

	if (work->done)
		work->done(r, err, work->data);
	else if (r < 0)
		save_later(work->daemon, work->id, err->text);
	else if (job)
		job->unsaved = false;
	if (job && work->ended && job->untold != JOB_INVALID) {
		job->untold = JOB_INVALID;
		daemon_job_changed(work->daemon, job);
	}
}

static void record_release(void *data)
{
	struct record_work *work = data;

	free(work->text);
	free(work);
}

int daemon_commit(struct daemon *daemon, const struct job *job, daemon_commit_fn done, void *data,
		  struct error *err)
{
	struct record_work *work = calloc(1, sizeof(*work));
	json_auto_t *record = job_to_record(job);
	int r;

	if (!work)
		return error_oom(err);
	work->daemon = daemon;
	work->id = job->id;
	work->state_fd = daemon->state_fd;
	work->ended = job->state == JOB_ENDED;
	work->jobs_fd = daemon->jobs_fd;
	work->done = done;
	work->data = data;
	work->text = record ? json_dumps(record, JSON_INDENT(1)) : NULL;
	(void)snprintf(work->name, sizeof(work->name), "%" PRIu64 ".json", job->id);
	r = work->text ? worker_run(daemon->worker, write_record, record_done, record_release, work,
				    err)
		       : error_oom(err);
	if (r < 0)
		record_release(work);
	return r;
}

void daemon_note(struct daemon *daemon, struct job *job)
{
	struct error err;

	if (daemon_commit(daemon, job, NULL, NULL, &err) < 0)
		save_later(daemon, job->id, err.text);
}

int daemon_add_save_timer(struct daemon *daemon)
{
	int r = sd_event_add_time(daemon->event, &daemon->save_timer, CLOCK_BOOTTIME, 0, 0,
				  on_save_timer, daemon);

	return r < 0 ? r : sd_event_source_set_enabled(daemon->save_timer, SD_EVENT_OFF);
}

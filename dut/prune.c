/* SPDX-License-Identifier: MIT */
#include "dut/prune.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/log.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/worker.h"

/*
 * In two steps, so that no moment leaves half a job: behind all writes of its record the folder
 * gets another name and the record goes; then, beside everything else, the files go, however many
 * they are.
 */

static const char prefix[] = ".removed-";

enum { NAME_SIZE = 48 };

struct removal {
	struct daemon *daemon;
	int jobs_fd;
	uint64_t id;
	char name[NAME_SIZE]; /* of the folder, once it is to go */
};

static int remove_files(void *data, struct error *err)
{
	const struct removal *removal = data;
	close_ int fd = -1;
	int r = file_open_beneath(&fd, removal->jobs_fd, removal->name, O_RDONLY | O_DIRECTORY,
				  err);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = folder_clear(fd, err);
	if (r >= 0 && unlinkat(removal->jobs_fd, removal->name, AT_REMOVEDIR) < 0)
		r = error_errno(err, "%s", removal->name);
	return r;
}

static void on_files_removed(int r, const struct error *err, void *data)
{
	const struct removal *removal = data;

	if (r < 0)
		log_msg(LOG_WARNING, "%s cannot be removed: %s", removal->name, err->text);
}

static void start_removing(struct daemon *daemon, const char *name)
{
	struct removal *removal = calloc(1, sizeof(*removal));
	struct error err;

	if (!removal)
		return; /* at the next start */
	removal->jobs_fd = daemon->jobs_fd;
	(void)snprintf(removal->name, sizeof(removal->name), "%s", name);
	if (worker_run(daemon->bulk_worker, remove_files, on_files_removed, free, removal, &err) <
	    0)
		free(removal);
}

void prune_leftovers(struct daemon *daemon)
{
	closedir_ DIR *dir = NULL;
	int fd = openat(daemon->jobs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		(void)close_fd(fd);
	while (dir && (entry = readdir(dir)))
		if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
		    strlen(entry->d_name) < NAME_SIZE)
			start_removing(daemon, entry->d_name);
}

static int forget(void *data, struct error *err)
{
	const struct removal *removal = data;
	char name[NAME_SIZE];

	(void)snprintf(name, sizeof(name), "%" PRIu64, removal->id);
	if (renameat(removal->jobs_fd, name, removal->jobs_fd, removal->name) < 0 &&
	    errno != ENOENT)
		return error_errno(err, "%s", name);
	(void)snprintf(name, sizeof(name), "%" PRIu64 ".json", removal->id);
	if (unlinkat(removal->jobs_fd, name, 0) < 0 && errno != ENOENT)
		return error_errno(err, "%s", name);
	return 0;
}

static bool has_a_board(const struct daemon *daemon, const struct job *job)
{
	LIST_FOREACH(link, &daemon->boards)
		if (CONTAINER_OF(link, struct board, link)->job == job)
			return true;
	return false;
}

/* Whether nobody needs it any more. */
static bool may_go(const struct daemon *daemon, const struct job *job)
{
	return job->state == JOB_ENDED && job->untold == JOB_INVALID && !job->off_pending &&
	       !job->unsaved && !job->releasing && job->user.uid == 0 && job->viewers.count == 0 &&
	       !has_a_board(daemon, job);
}

static void drop(struct daemon *daemon, struct job *job)
{
	const struct board *board = daemon_find_board(daemon, job->dut);

	if (board && board->n_lines > 0)
		history_remove_job(line_history(board->lines[0]), job->id);
	job_free(job);
}

static void on_forgotten(int r, const struct error *err, void *data)
{
	const struct removal *removal = data;
	struct daemon *daemon = removal->daemon;
	struct job *job = daemon_find_job(daemon, removal->id);

	daemon->pruning = false;
	if (r < 0) {
		log_msg(LOG_WARNING, "an old job cannot be removed: %s", err->text);
		return; /* tried again when the next one has ended */
	}
	start_removing(daemon, removal->name);
	if (job && may_go(daemon, job))
		drop(daemon, job);
	else if (job)
		job->removed = true; /* somebody has just begun to read it */
	prune_jobs(daemon);
}

static void start_forgetting(struct daemon *daemon, const struct job *job)
{
	struct removal *removal = calloc(1, sizeof(*removal));
	struct error err;

	if (!removal)
		return;
	removal->daemon = daemon;
	removal->jobs_fd = daemon->jobs_fd;
	removal->id = job->id;
	(void)snprintf(removal->name, sizeof(removal->name), "%s%" PRIu64, prefix, job->id);
	daemon->pruning = true;
	if (worker_run(daemon->worker, forget, on_forgotten, free, removal, &err) < 0) {
		daemon->pruning = false;
		free(removal);
	}
}

void prune_jobs(struct daemon *daemon)
{
	struct job *oldest = NULL;
	uint64_t ended = 0;

	if (daemon->pruning)
		return;
	LIST_FOREACH_SAFE(link, after, &daemon->jobs) {
		struct job *job = CONTAINER_OF(link, struct job, link);

		if (job->removed) {
			if (may_go(daemon, job))
				drop(daemon, job);
			continue;
		}
		ended += job->state == JOB_ENDED;
		if (!oldest && may_go(daemon, job))
			oldest = job;
	}
	if (ended > daemon->config->limits.kept_jobs && oldest)
		start_forgetting(daemon, oldest);
}

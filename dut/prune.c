/* SPDX-License-Identifier: MIT */
#include "dut/prune.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/log.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/prune-internal.h"
#include "dut/records.h"
#include "dut/worker.h"

/*
 * In steps, so that no moment leaves half a job: behind all writes of its record the folder gets
 * another name, the record goes, and the row says so; then, beside everything else, the files go,
 * however many they are.
 */

static const char prefix[] = ".removed-";
static const uint64_t AGE_LOOK_US = UINT64_C(600) * 1000000;

enum { NAME_SIZE = 48, AT_ONCE = 32 };

/* ---- files ---- */

struct removal {
	int jobs_fd;
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
		log_msg(LOG_WARNING, "%s cannot be removed: %s",
			removal->name[0] ? removal->name : "what was left", err->text);
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

/* What an earlier dutd had begun to remove. */
static int remove_leftovers(void *data, struct error *err)
{
	struct removal *removal = data;
	closedir_ DIR *dir = NULL;
	const struct dirent *entry;
	int r = file_open_dir(&dir, removal->jobs_fd, err);

	if (r < 0)
		return error_prefix(err, r, "cannot list the jobs");
	while (r >= 0 && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 ||
		    strlen(entry->d_name) >= NAME_SIZE)
			continue;
		(void)snprintf(removal->name, sizeof(removal->name), "%s", entry->d_name);
		r = remove_files(removal, err);
	}
	return r;
}

static void start_removing_leftovers(struct daemon *daemon)
{
	struct removal *removal = calloc(1, sizeof(*removal));

	if (!removal)
		return;
	removal->jobs_fd = daemon->jobs_fd;
	if (worker_run(daemon->bulk_worker, remove_leftovers, on_files_removed, free, removal,
		       NULL) < 0)
		free(removal);
}

/* ---- the oldest ---- */

struct candidate {
	uint64_t id, bytes;
	char *dut;
};

struct round {
	struct daemon *daemon;
	int jobs_fd;
	bool any; /* not only those that are too old */
	uint64_t ended_before_us, rows_over;
	struct candidate list[AT_ONCE];
	size_t count;
};

static void round_free(void *data)
{
	struct round *round = data;

	for (size_t i = 0; i < round->count; i++)
		free(round->list[i].dut);
	free(round);
}

static int add_candidate(const struct database_row *row, void *data, struct error *err)
{
	struct round *round = data;
	char *dut = strdup(database_text(row, 1));

	if (!dut)
		return error_oom(err);
	round->list[round->count++] = (struct candidate){
		.id = (uint64_t)database_integer(row, 0),
		.bytes = (uint64_t)database_integer(row, 2),
		.dut = dut,
	};
	return 0;
}

static int find_oldest(struct database *database, void *data, struct error *err)
{
	struct round *round = data;

	return database_query(database, add_candidate, round, err,
			      "SELECT id, dut, size FROM jobs"
			      " WHERE NOT open AND pruned_us IS NULL AND (?1 OR ended_us < ?2)"
			      " ORDER BY id LIMIT ?3",
			      "iui", (int64_t)round->any, round->ended_before_us, (int64_t)AT_ONCE);
}

static void removed_name(char name[static NAME_SIZE], uint64_t id)
{
	(void)snprintf(name, NAME_SIZE, "%s%" PRIu64, prefix, id);
}

static int forget_files(struct filebatch *files, void *data, struct error *err)
{
	const struct round *round = data;

	for (size_t i = 0; i < round->count; i++) {
		char name[NAME_SIZE], removed[NAME_SIZE];

		(void)snprintf(name, sizeof(name), "%" PRIu64, round->list[i].id);
		removed_name(removed, round->list[i].id);
		if (renameat(round->jobs_fd, name, round->jobs_fd, removed) < 0 && errno != ENOENT)
			return error_errno(err, "%s", name);
		(void)snprintf(name, sizeof(name), "%" PRIu64 ".json", round->list[i].id);
		if (unlinkat(round->jobs_fd, name, 0) < 0 && errno != ENOENT)
			return error_errno(err, "%s", name);
	}
	return filebatch_touch(files, round->jobs_fd, err);
}

static int forget_rows(struct database *database, void *data, struct error *err)
{
	const struct round *round = data;
	int r = 0;

	for (size_t i = 0; i < round->count && r >= 0; i++)
		r = database_run(database, err, "UPDATE jobs SET pruned_us = ? WHERE id = ?", "uu",
				 clock_realtime_us(), round->list[i].id);
	if (r >= 0 && round->rows_over > 0)
		r = database_run(database, err,
				 "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs"
				 " WHERE pruned_us IS NOT NULL ORDER BY id LIMIT ?)",
				 "u", round->rows_over);
	return r;
}

static void tell_removal(struct daemon *daemon, const struct candidate *candidate)
{
	const struct board *board = daemon_find_board(daemon, candidate->dut);
	char name[NAME_SIZE];

	log_job(candidate->dut, candidate->id, LOG_INFO,
		"its files are removed, it is one of the oldest (limits.kept_jobs, kept_age, "
		"kept_size)");
	if (board && board->n_lines > 0)
		history_remove_job(line_history(board->lines[0]), candidate->id);
	removed_name(name, candidate->id);
	start_removing(daemon, name);
}

static void on_forgotten(int r, const struct error *err, void *data)
{
	const struct round *round = data;
	struct prune *prune = round->daemon->prune;

	prune->is_busy = false;
	if (r < 0) {
		log_msg(LOG_WARNING, "old jobs cannot be removed: %s", err->text);
		return; /* tried again when the next one has ended */
	}
	for (size_t i = 0; i < round->count; i++) {
		const struct candidate *candidate = &round->list[i];

		tell_removal(round->daemon, candidate);
		prune->kept -= prune->kept > 0;
		prune->kept_bytes -=
			candidate->bytes < prune->kept_bytes ? candidate->bytes : prune->kept_bytes;
		prune->pruned++;
	}
	prune->pruned -= round->rows_over < prune->pruned ? round->rows_over : prune->pruned;
	prune_jobs(round->daemon);
}

/* How many of those that were found have to go; the others are taken out. */
static void choose(const struct prune *prune, struct round *round)
{
	const struct config_limits *limits = &prune->daemon->config->limits;
	uint64_t kept = prune->kept, bytes = prune->kept_bytes;
	size_t count = 0;

	for (size_t i = 0; i < round->count; i++) {
		struct candidate *candidate = &round->list[i];
		bool over = !round->any || kept > limits->kept_jobs ||
			    (limits->kept_size && bytes > limits->kept_size);

		/* One in memory is being read, or written once more. */
		if (!over || daemon_find_job(prune->daemon, candidate->id)) {
			free(candidate->dut);
			continue;
		}
		kept--;
		bytes -= candidate->bytes < bytes ? candidate->bytes : bytes;
		round->list[count++] = *candidate;
	}
	round->count = count;
}

static int start_forgetting(struct prune *prune, struct round *round, struct error *err)
{
	const struct config_limits *limits = &prune->daemon->config->limits;
	const struct records_work work = {
		.files = forget_files,
		.write = forget_rows,
		.done = on_forgotten,
		.release = round_free,
		.data = round,
	};
	uint64_t rows = prune->pruned + round->count;

	round->rows_over = rows > limits->kept_records ? rows - limits->kept_records : 0;
	return records_run(prune->daemon->records, &work, err);
}

static void on_found(int r, const struct error *err, void *data)
{
	struct round *found = data, *round;
	struct prune *prune = found->daemon->prune;
	struct error failure;

	if (r >= 0) {
		choose(prune, found);
		if (!found->any && found->count == 0)
			prune->look_at_age = false;
	}
	prune->is_busy = false;
	if (r < 0)
		log_msg(LOG_WARNING, "old jobs cannot be found: %s", err->text);
	if (r < 0 || found->count == 0)
		return;
	round = malloc(sizeof(*round));
	if (!round)
		return;
	*round = *found;
	found->count = 0;
	prune->is_busy = true;
	if (start_forgetting(prune, round, &failure) < 0) {
		prune->is_busy = false;
		round_free(round);
	}
}

void prune_jobs(struct daemon *daemon)
{
	struct prune *prune = daemon->prune;
	const struct config_limits *limits = &daemon->config->limits;
	bool over = prune->kept > limits->kept_jobs ||
		    (limits->kept_size && prune->kept_bytes > limits->kept_size);
	struct round *round;
	uint64_t now = clock_realtime_us();
	struct error err;

	if (prune->is_busy || (!over && !prune->look_at_age))
		return;
	round = calloc(1, sizeof(*round));
	if (!round)
		return;
	round->daemon = daemon;
	round->jobs_fd = daemon->jobs_fd;
	round->any = over;
	round->ended_before_us =
		limits->kept_age_us && limits->kept_age_us < now ? now - limits->kept_age_us : 0;
	const struct records_work work = {
		.read = find_oldest, .done = on_found, .release = round_free, .data = round
	};

	prune->is_busy = records_run(daemon->records, &work, &err) >= 0;
	if (!prune->is_busy)
		round_free(round);
}

/* ---- age ---- */

static int on_age_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct prune *prune = data;

	(void)usec;
	prune->look_at_age = prune->daemon->config->limits.kept_age_us > 0;
	prune_jobs(prune->daemon);
	(void)sd_event_source_set_time_relative(source, AGE_LOOK_US);
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

void prune_count(struct daemon *daemon, const struct job *job)
{
	struct prune *prune = daemon->prune;

	prune->kept++;
	/* A long one ends after younger ones. */
	if (job->id <= prune->measured)
		prune->measured = job->id - 1;
	prune_measure(daemon);
}

/* ---- the start ---- */

struct prune *prune_free(struct prune *prune)
{
	if (prune)
		sd_event_source_disable_unref(prune->age_timer);
	free(prune);
	return NULL;
}

int prune_new(struct prune **ret, struct daemon *daemon, struct error *err)
{
	struct prune *prune = calloc(1, sizeof(*prune));
	int r;

	if (!prune)
		return error_oom(err);
	prune->daemon = daemon;
	r = records_count_jobs(daemon->records, &prune->kept, &prune->kept_bytes, &prune->pruned,
			       err);
	if (r >= 0) {
		r = sd_event_add_time_relative(daemon->event, &prune->age_timer, CLOCK_BOOTTIME, 0,
					       0, on_age_timer, prune);
		if (r < 0)
			(void)error_code(err, r, "cannot add a timer");
	}
	if (r < 0) {
		prune_free(prune);
		return r;
	}
	*ret = prune;
	start_removing_leftovers(daemon);
	prune_measure(daemon);
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "dut/job.h"
#include "dut/records-internal.h"
#include "dut/reserve.h"

/*
 * The start: the jobs' files beside their rows. Of a job whose row says that nothing is left to do
 * the file is not read, so that a hundred thousand of them cost no more than a list of names.
 */

enum { CHUNK = 1000 /* files that are read before their rows are written */ };

struct trace {
	uint64_t id;
	bool has_file;
	bool done; /* its row says so */
};

struct read_file {
	struct job *job;
	char *text;
};

struct loader {
	struct records *records;
	void (*each)(struct job *job, bool has_file, void *data);
	void *data;
	struct trace *traces; /* of jobs in the folder, by id, each once */
	size_t n_traces, n_allocated;
	size_t next; /* of them, while rows are walked through in the same order */
	struct read_file chunk[CHUNK];
	size_t n_chunk;
	struct job **rows; /* that have lost their files, though something is left to do */
	size_t n_rows;
	uint64_t *gone; /* others that have */
	size_t n_gone;
	unsigned imported;
};

static int add_trace(struct loader *loader, uint64_t id, bool is_file, struct error *err)
{
	if (loader->n_traces == loader->n_allocated) {
		size_t grown = loader->n_allocated ? 2 * loader->n_allocated : 1024;
		struct trace *traces = reallocarray(loader->traces, grown, sizeof(*traces));

		if (!traces)
			return error_oom(err);
		loader->traces = traces;
		loader->n_allocated = grown;
	}
	loader->traces[loader->n_traces++] = (struct trace){ .id = id, .has_file = is_file };
	return 0;
}

static int by_id(const void *a, const void *b)
{
	const struct trace *left = a, *right = b;

	return left->id < right->id ? -1 : left->id > right->id;
}

/* A job's file and its folder are two names. */
static void join_traces(struct loader *loader)
{
	struct trace *traces = loader->traces;
	size_t kept = 0;

	if (loader->n_traces == 0)
		return;
	qsort(traces, loader->n_traces, sizeof(*traces), by_id);
	for (size_t i = 1; i < loader->n_traces; i++) {
		if (traces[i].id != traces[kept].id) {
			traces[++kept] = traces[i];
			continue;
		}
		traces[kept].has_file = traces[kept].has_file || traces[i].has_file;
	}
	loader->n_traces = kept + 1;
}

static int list_folder(struct loader *loader, struct error *err)
{
	closedir_ DIR *dir = NULL;
	const struct dirent *entry;
	int r = file_open_dir(&dir, loader->records->jobs_fd, err);

	if (r < 0)
		return error_prefix(err, r, "cannot list the jobs");
	while (r >= 0 && (entry = readdir(dir))) {
		uint64_t id;

		/* What a crash has left of a record that was being replaced. */
		if (entry->d_name[0] == '.' &&
		    text_number_before(&id, entry->d_name + 1, ".json.tmp"))
			(void)unlinkat(loader->records->jobs_fd, entry->d_name, 0);
		if (text_number_before(&id, entry->d_name, ".json"))
			r = add_trace(loader, id, true, err);
		else if (text_number_before(&id, entry->d_name, ""))
			r = add_trace(loader, id, false, err);
	}
	join_traces(loader);
	return r;
}

static struct trace *find_trace(struct loader *loader, uint64_t id)
{
	while (loader->next < loader->n_traces && loader->traces[loader->next].id < id)
		loader->next++;
	return loader->next < loader->n_traces && loader->traces[loader->next].id == id
		       ? &loader->traces[loader->next]
		       : NULL;
}

/* ---- rows ---- */

static int on_closed_row(const struct database_row *row, void *data, struct error *err)
{
	struct loader *loader = data;
	uint64_t id = (uint64_t)database_integer(row, 0), *gone;
	struct trace *trace = find_trace(loader, id);

	if (trace) {
		trace->done = true;
		return 0;
	}
	gone = reallocarray(loader->gone, loader->n_gone + 1, sizeof(*gone));
	if (!gone)
		return error_oom(err);
	loader->gone = gone;
	gone[loader->n_gone++] = id;
	return 0;
}

static int on_open_row(const struct database_row *row, void *data, struct error *err)
{
	struct loader *loader = data;
	struct trace *trace = find_trace(loader, (uint64_t)database_integer(row, 2));
	struct job **rows;
	int r;

	if (trace && trace->has_file)
		return 0;
	rows = reallocarray(loader->rows, loader->n_rows + 1, sizeof(struct job *));
	if (!rows)
		return error_oom(err);
	loader->rows = rows;
	r = records_job_from_row(&rows[loader->n_rows], row, err);
	if (r < 0)
		return r;
	rows[loader->n_rows++]->closed = false;
	return 0;
}

static int look_at_rows(struct loader *loader, struct error *err)
{
	struct database *database = loader->records->database;
	int r = database_query(database, on_closed_row, loader, err,
			       "SELECT id FROM jobs WHERE NOT open AND pruned_us IS NULL"
			       " ORDER BY id",
			       "");

	loader->next = 0;
	if (r >= 0)
		r = database_query(database, on_open_row, loader, err,
				   "SELECT record, pruned_us, id FROM jobs WHERE open ORDER BY id",
				   "");
	return r;
}

/* Somebody has removed them by hand, or a crash came after their removal. */
static int mark_gone(struct loader *loader, struct error *err)
{
	struct database *database = loader->records->database;
	int r = 0;

	for (size_t i = 0; i < loader->n_gone && r >= 0; i++)
		r = database_run(database, err, "UPDATE jobs SET pruned_us = ? WHERE id = ?", "uu",
				 clock_realtime_us(), loader->gone[i]);
	return r;
}

/* ---- files that have no such row ---- */

static int write_chunk(struct loader *loader, struct error *err)
{
	struct database *database = loader->records->database;
	int r = database_begin(database, err);

	if (r >= 0)
		r = mark_gone(loader, err);
	for (size_t i = 0; i < loader->n_chunk && r >= 0; i++)
		r = records_write_row(database, loader->chunk[i].job->id, loader->chunk[i].text,
				      err);
	if (r >= 0)
		r = database_commit(database, err);
	if (r < 0)
		database_roll_back(database);
	return r;
}

/* What gets no row stays in memory, and is tried again. */
static int end_chunk(struct loader *loader, struct error *err)
{
	int r;

	records_extend_timeout();
	do
		r = write_chunk(loader, err);
	while ((r == -ENOSPC || r == -EDQUOT) && reserve_give_up(loader->records->state_fd));
	if (r < 0)
		log_msg(LOG_ERR, "jobs have no row yet, trying again: %s", err->text);
	for (size_t i = 0; i < loader->n_chunk; i++) {
		struct job *job = loader->chunk[i].job;

		loader->imported += job_is_closed(job) && r >= 0;
		job->unsaved = r < 0;
		free(loader->chunk[i].text);
		if (job_is_closed(job) && r >= 0)
			job_free(job);
		else
			loader->each(job, true, loader->data);
	}
	loader->n_chunk = loader->n_gone = 0;
	return 0;
}

static int load_files(struct loader *loader, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < loader->n_traces && r >= 0; i++) {
		const struct trace *trace = &loader->traces[i];
		struct read_file *file = &loader->chunk[loader->n_chunk];
		char name[32];

		if (trace->done || !trace->has_file)
			continue;
		(void)snprintf(name, sizeof(name), "%" PRIu64 ".json", trace->id);
		if (records_read_file(loader->records, name, &file->job, &file->text, err) < 0)
			log_msg(LOG_ERR, "the record %s is left alone: %s", name, err->text);
		else if (++loader->n_chunk == CHUNK)
			r = end_chunk(loader, err);
	}
	return r < 0 ? r : end_chunk(loader, err);
}

static int on_highest(const struct database_row *row, void *data, struct error *err)
{
	uint64_t *highest = data, id = (uint64_t)database_integer(row, 0);

	(void)err;
	if (id > *highest)
		*highest = id;
	return 0;
}

static int load(struct loader *loader, uint64_t *ret_highest, struct error *err)
{
	size_t n_gone;
	int r = list_folder(loader, err);

	if (r >= 0)
		r = look_at_rows(loader, err);
	if (r >= 0)
		r = database_query(loader->records->database, on_highest, ret_highest, err,
				   "SELECT max(id) FROM jobs", "");
	n_gone = loader->n_gone;
	/* What goes wrong so far can be tried again. */
	if (r < 0)
		return r;
	r = load_files(loader, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < loader->n_rows; i++)
		loader->each(take_ptr(loader->rows[i]), false, loader->data);
	if (loader->n_traces > 0 && loader->traces[loader->n_traces - 1].id > *ret_highest)
		*ret_highest = loader->traces[loader->n_traces - 1].id;
	if (n_gone > 0)
		log_msg(LOG_WARNING, "the files of %zu ended jobs are gone: their records stay",
			n_gone);
	if (loader->imported > 0)
		log_msg(LOG_NOTICE, "%u ended jobs had no row in dutd.db that says so",
			loader->imported);
	return 0;
}

static void free_loader(struct loader *loader)
{
	for (size_t i = 0; i < loader->n_chunk; i++) {
		job_free(loader->chunk[i].job);
		free(loader->chunk[i].text);
	}
	for (size_t i = 0; i < loader->n_rows; i++)
		job_free(loader->rows[i]);
	free(loader->rows);
	free(loader->traces);
	free(loader->gone);
	free(loader);
}

static int try_load(struct records *records,
		    void (*each)(struct job *job, bool has_file, void *data), void *data,
		    uint64_t *ret_highest, struct error *err)
{
	struct loader *loader = calloc(1, sizeof(*loader));
	int r;

	if (!loader)
		return error_oom(err);
	loader->records = records;
	loader->each = each;
	loader->data = data;
	r = load(loader, ret_highest, err);
	free_loader(loader);
	return r;
}

int records_load_jobs(struct records *records,
		      void (*each)(struct job *job, bool has_file, void *data), void *data,
		      uint64_t *ret_highest, struct error *err)
{
	uint64_t highest = 0;
	int r;

	RECORDS_ASSERT_START(records);
	r = try_load(records, each, data, &highest, err);

	if (r == -EBADMSG) {
		r = records_make_anew(records, err->text, err);
		records_say_notice(records);
		if (r >= 0)
			r = try_load(records, each, data, &highest, err);
	}
	if (r < 0)
		return r;
	*ret_highest = highest;
	return 0;
}

/* ---- numbers ---- */

static int on_counts(const struct database_row *row, void *data, struct error *err)
{
	uint64_t *counts = data;

	(void)err;
	for (int i = 0; i < 3; i++)
		counts[i] = (uint64_t)database_integer(row, i);
	return 0;
}

int records_count_jobs(struct records *records, uint64_t *ret_kept, uint64_t *ret_bytes,
		       uint64_t *ret_pruned, struct error *err)
{
	uint64_t counts[3] = { 0 };
	int r;

	RECORDS_ASSERT_START(records);
	r = database_query(records->database, on_counts, counts, err,
			   "SELECT count(*), coalesce(sum(size), 0),"
			   " (SELECT count(*) FROM jobs WHERE pruned_us IS NOT NULL)"
			   " FROM jobs WHERE NOT open AND pruned_us IS NULL",
			   "");

	if (r < 0)
		return r;
	*ret_kept = counts[0];
	*ret_bytes = counts[1];
	*ret_pruned = counts[2];
	return 0;
}

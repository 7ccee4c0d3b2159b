/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dut/job.h"
#include "dut/records-internal.h"

/* Where the jobs' consoles began, of the jobs that are in no memory. Nearly all had one attempt:
 * an index alone tells of them. */

struct reader {
	void (*each)(const char *dut, const struct records_console *console, void *data);
	void *data;
};

static int on_row(const struct database_row *row, void *data, struct error *err)
{
	const struct reader *reader = data;
	const struct records_console console = {
		.base = (uint64_t)database_integer(row, 1),
		.job = (uint64_t)database_integer(row, 2),
	};
	const char *dut = database_text(row, 0);

	(void)err;
	if (dut)
		reader->each(dut, &console, reader->data);
	return 0;
}

static int on_again_row(const struct database_row *row, void *data, struct error *err)
{
	const struct reader *reader = data;
	struct records_console console = { 0 };
	struct job *job;
	int r = records_job_from_row(&job, row, err);

	if (r < 0)
		return r;
	console.job = job->id;
	for (unsigned i = 0; job->dut && i + 1 < job->attempt && i < JOB_MAX_ATTEMPTS; i++) {
		console.base = job->earlier[i].console_base;
		console.attempt = i + 1;
		if (job->earlier[i].has_console)
			reader->each(job->dut, &console, reader->data);
	}
	console.base = job->console_base;
	console.attempt = 0;
	if (job->dut && job->has_console)
		reader->each(job->dut, &console, reader->data);
	job_free(job);
	return 0;
}

/* ---- all ---- */

int records_load_consoles(struct records *records,
			  void (*each)(const char *dut, const struct records_console *console,
				       void *data),
			  void *data, struct error *err)
{
	struct reader reader = { .each = each, .data = data };
	int r;

	RECORDS_ASSERT_START(records);
	r = database_query(records->database, on_row, &reader, err,
			   "SELECT dut, base, id FROM jobs WHERE NOT open AND pruned_us IS NULL"
			   " AND base IS NOT NULL AND attempt < 2 ORDER BY dut, base, id",
			   "");
	if (r >= 0)
		r = database_query(records->database, on_again_row, &reader, err,
				   "SELECT record, pruned_us FROM jobs WHERE attempt > 1"
				   " AND NOT open AND pruned_us IS NULL ORDER BY dut, id",
				   "");
	return r;
}

/* ---- those of one DUT ---- */

struct find_work {
	char *dut;
	struct records_console *list;
	size_t count;
	bool out_of_memory;
	records_consoles_fn done;
	void *data;
};

static void release_find(void *data)
{
	struct find_work *find = data;
	struct error err;

	if (find->done)
		find->done(records_cancelled(&err), &err, NULL, 0, find->data);
	free(find->dut);
	free(find->list);
	free(find);
}

static void add_console(const char *dut, const struct records_console *console, void *data)
{
	struct find_work *find = data;
	struct records_console *list = reallocarray(find->list, find->count + 1, sizeof(*list));

	(void)dut;
	if (!list) {
		find->out_of_memory = true;
		return;
	}
	find->list = list;
	list[find->count++] = *console;
}

static int read_consoles(struct database *database, void *data, struct error *err)
{
	struct find_work *find = data;
	struct reader reader = { .each = add_console, .data = find };
	int r;

	find->count = 0;
	r = database_query(database, on_row, &reader, err,
			   "SELECT dut, base, id FROM jobs WHERE dut = ? AND NOT open"
			   " AND pruned_us IS NULL AND base IS NOT NULL AND attempt < 2"
			   " ORDER BY base, id",
			   "s", find->dut);
	if (r >= 0)
		r = database_query(database, on_again_row, &reader, err,
				   "SELECT record, pruned_us FROM jobs WHERE attempt > 1"
				   " AND dut = ? AND NOT open AND pruned_us IS NULL ORDER BY id",
				   "s", find->dut);
	return r >= 0 && find->out_of_memory ? error_oom(err) : r;
}

static void find_done(int r, const struct error *err, void *data)
{
	struct find_work *find = data;
	records_consoles_fn done = find->done;

	find->done = NULL;
	done(r, err, find->list, r < 0 ? 0 : find->count, find->data);
}

int records_find_consoles(struct records *records, const char *dut, records_consoles_fn done,
			  void *data, struct error *err)
{
	struct find_work *find = calloc(1, sizeof(*find));
	const struct records_work work = {
		.read = read_consoles,
		.done = find_done,
		.release = release_find,
		.data = find,
	};
	int r;

	if (!find)
		return error_oom(err);
	find->done = done;
	find->data = data;
	find->dut = strdup(dut);
	r = find->dut ? records_run(records, &work, err) : error_oom(err);
	if (r < 0) {
		find->done = NULL;
		release_find(find);
	}
	return r;
}

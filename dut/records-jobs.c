/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dut/job.h"
#include "dut/records-internal.h"

/* The rows of jobs: found one by one, and in pages. */

int records_job_from_row(struct job **ret, const struct database_row *row, struct error *err)
{
	json_auto_t *record = json_loads(database_text(row, 0), 0, NULL);
	int r = job_from_record(ret, record, err);

	if (r < 0)
		return r;
	(*ret)->pruned_us = (uint64_t)database_integer(row, 1);
	(*ret)->closed = true;
	return 0;
}

/* ---- one ---- */

struct find_work {
	uint64_t id;
	char *submission; /* NULL: by id */
	struct job *job;
	records_job_fn done;
	void *data;
};

static void release_find(void *data)
{
	struct find_work *find = data;
	struct error err;

	if (find->done)
		find->done(records_cancelled(&err), &err, NULL, find->data);
	job_free(find->job);
	free(find->submission);
	free(find);
}

static int take_job(const struct database_row *row, void *data, struct error *err)
{
	struct find_work *find = data;

	find->job = job_free(find->job);
	return records_job_from_row(&find->job, row, err);
}

static int read_job(struct database *database, void *data, struct error *err)
{
	struct find_work *find = data;

	if (find->submission)
		return database_query(database, take_job, find, err,
				      "SELECT record, pruned_us FROM jobs WHERE submission = ?"
				      " ORDER BY id LIMIT 1",
				      "s", find->submission);
	return database_query(database, take_job, find, err,
			      "SELECT record, pruned_us FROM jobs WHERE id = ?", "u", find->id);
}

static void find_done(int r, const struct error *err, void *data)
{
	struct find_work *find = data;
	records_job_fn done = find->done;

	find->done = NULL;
	done(r, err, r < 0 ? NULL : take_ptr(find->job), find->data);
}

static int start_find(struct records *records, struct find_work *find, struct error *err)
{
	const struct records_work work = {
		.read = read_job,
		.done = find_done,
		.release = release_find,
		.data = find,
	};
	int r = records_run(records, &work, err);

	if (r < 0) {
		find->done = NULL;
		release_find(find);
	}
	return r;
}

int records_find_job(struct records *records, uint64_t id, records_job_fn done, void *data,
		     struct error *err)
{
	struct find_work *find = calloc(1, sizeof(*find));

	if (!find)
		return error_oom(err);
	*find = (struct find_work){ .id = id, .done = done, .data = data };
	return start_find(records, find, err);
}

int records_find_submission(struct records *records, const char *submission_id, records_job_fn done,
			    void *data, struct error *err)
{
	struct find_work *find = calloc(1, sizeof(*find));

	if (!find)
		return error_oom(err);
	*find = (struct find_work){ .data = data };
	find->submission = strdup(submission_id);
	if (!find->submission) {
		release_find(find);
		return error_oom(err);
	}
	find->done = done;
	return start_find(records, find, err);
}

/* ---- pages ---- */

struct page_work {
	struct records_filter filter;
	char *dut, *owner;
	json_t *array;
	records_json_fn done;
	void *data;
};

static void release_page(void *data)
{
	struct page_work *page = data;
	struct error err;

	if (page->done)
		page->done(records_cancelled(&err), &err, page->array, page->data);
	json_decref(page->array);
	free(page->dut);
	free(page->owner);
	free(page);
}

static int add_job(const struct database_row *row, void *data, struct error *err)
{
	const struct page_work *page = data;
	struct job *job;
	int r = records_job_from_row(&job, row, err);

	if (r < 0)
		return r;
	r = json_array_append_new(page->array, job_to_json(job));
	job_free(job);
	return r < 0 ? error_oom(err) : 0;
}

/* What is common to all questions, each of which has an index that fits. */
#define PAGE_OF "SELECT record, pruned_us FROM jobs WHERE id < ?1 AND id > ?2 AND NOT open"

static int read_page(struct database *database, void *data, struct error *err)
{
	static const char *const questions[3][2] = {
		{ PAGE_OF " ORDER BY id DESC LIMIT ?3", PAGE_OF " ORDER BY id LIMIT ?3" },
		{ PAGE_OF " AND dut = ?4 AND (?5 IS NULL OR owner = ?5)"
			  " ORDER BY id DESC LIMIT ?3",
		  PAGE_OF " AND dut = ?4 AND (?5 IS NULL OR owner = ?5) ORDER BY id LIMIT ?3" },
		{ PAGE_OF " AND owner = ?5 AND ?4 IS NULL ORDER BY id DESC LIMIT ?3",
		  PAGE_OF " AND owner = ?5 AND ?4 IS NULL ORDER BY id LIMIT ?3" },
	};
	const struct page_work *page = data;
	const struct records_filter *filter = &page->filter;
	const char *const *kind = questions[page->dut ? 1 : page->owner ? 2 : 0];
	uint64_t limit = filter->limit;

	(void)json_array_clear(page->array);
	if (!page->dut && !page->owner)
		return database_query(database, add_job, data, err, kind[filter->oldest_first],
				      "uuu", filter->before, filter->after, limit);
	return database_query(database, add_job, data, err, kind[filter->oldest_first], "uuuss",
			      filter->before, filter->after, limit, page->dut, page->owner);
}

static void page_done(int r, const struct error *err, void *data)
{
	struct page_work *page = data;
	records_json_fn done = page->done;

	page->done = NULL;
	done(r, err, page->array, page->data);
}

int records_list_jobs(struct records *records, const struct records_filter *filter,
		      records_json_fn done, void *data, struct error *err)
{
	struct page_work *page = calloc(1, sizeof(*page));
	const struct records_work work = {
		.read = read_page,
		.done = page_done,
		.release = release_page,
		.data = page,
	};
	int r = 0;

	if (!page)
		return error_oom(err);
	*page = (struct page_work){ .filter = *filter, .done = done, .data = data };
	if (page->filter.before > INT64_MAX)
		page->filter.before = INT64_MAX;
	page->dut = filter->dut ? strdup(filter->dut) : NULL;
	page->owner = filter->owner ? strdup(filter->owner) : NULL;
	page->array = json_array();
	if (!page->array || (filter->dut && !page->dut) || (filter->owner && !page->owner))
		r = error_oom(err);
	if (r >= 0)
		r = records_run(records, &work, err);
	if (r < 0) {
		page->done = NULL;
		release_page(page);
	}
	return r;
}

/* SPDX-License-Identifier: MIT */
#include "dut/records.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "dut/records-internal.h"
#include "dut/reserve.h"
#include "dut/worker.h"

/*
 * The loop keeps what was asked for in `waiting`; the thread has one batch at a time, and the next
 * one is formed when it is done. So no lock is needed: the database belongs to whoever has the
 * batch.
 */

enum { MAX_BATCH = 32 /* pieces: each may have a few files open */ };

struct item {
	struct list link; /* records.waiting, then batch.items */
	struct records_work work;
	int files_r, rows_r;
	struct error files_err, rows_err;
};

struct batch {
	struct records *records;
	struct list items;
};

/* ---- in the thread: files ---- */

static void write_files(const struct records *records, struct batch *batch)
{
	struct filebatch *files = NULL;
	struct error err;
	int made = filebatch_new(&files, records->state_fd, &err);

	LIST_FOREACH(link, &batch->items) {
		struct item *item = CONTAINER_OF(link, struct item, link);

		if (!item->work.files)
			continue;
		item->files_r = made;
		item->files_err = err;
		if (made < 0)
			continue;
		filebatch_set_owner(files, item);
		item->files_r = item->work.files(files, item->work.data, &item->files_err);
	}
	if (files)
		filebatch_sync(files);
	LIST_FOREACH(link, &batch->items) {
		struct item *item = CONTAINER_OF(link, struct item, link);

		if (!item->work.files || item->files_r < 0)
			continue;
		item->files_r = filebatch_result(files, item, &item->files_err);
		if (item->files_r >= 0 && item->work.files_safe)
			*item->work.files_safe = true;
	}
	filebatch_free(files);
}

/* ---- in the thread: rows ---- */

/* What is wrong with the database or the disk, and so with all of a transaction. */
static bool is_of_all(int r)
{
	return r == -EBADMSG || r == -ENOSPC || r == -EDQUOT || r == -EIO;
}

static int write_row(struct database *database, struct item *item)
{
	struct error err;
	int r = database_begin_part(database, &item->rows_err), ended;

	if (r < 0)
		return r;
	r = item->work.write(database, item->work.data, &item->rows_err);
	item->rows_r = r < 0 ? r : 0;
	ended = database_end_part(database, r >= 0, &err);
	if (r >= 0 && ended < 0) {
		item->rows_err = err;
		return ended;
	}
	return is_of_all(r) ? r : ended;
}

static int try_rows(struct records *records, struct batch *batch, struct error *err)
{
	int r = records->database ? 0 : records_open_database(records, err);

	if (r >= 0)
		r = database_begin(records->database, err);
	if (r < 0)
		return r;
	LIST_FOREACH(link, &batch->items) {
		struct item *item = CONTAINER_OF(link, struct item, link);

		if (r < 0 || !item->work.write || item->files_r < 0)
			continue;
		r = write_row(records->database, item);
		if (r < 0)
			(void)error_set(err, r, "%s", item->rows_err.text);
	}
	if (r >= 0)
		r = database_commit(records->database, err);
	if (r < 0)
		database_roll_back(records->database);
	return r;
}

/* Whether there is something to be done about it. */
static bool may_try_again(struct records *records, int r, const struct error *why, bool *anew)
{
	if (r == -ENOSPC || r == -EDQUOT)
		return reserve_give_up(records->state_fd);
	if (r != -EBADMSG || *anew)
		return false;
	*anew = true;
	return records_make_anew(records, why->text, NULL) >= 0;
}

static void write_rows(struct records *records, struct batch *batch)
{
	bool anew = false;
	struct error err;
	int r;

	do
		r = try_rows(records, batch, &err);
	while (r < 0 && may_try_again(records, r, &err, &anew));
	LIST_FOREACH(link, &batch->items) {
		struct item *item = CONTAINER_OF(link, struct item, link);

		if (r >= 0 || !item->work.write)
			continue;
		item->rows_r = r;
		item->rows_err = err;
	}
}

static void read_rows(struct records *records, struct item *item)
{
	int r = records->database ? 0 : records_open_database(records, &item->rows_err);

	if (r >= 0)
		r = item->work.read(records->database, item->work.data, &item->rows_err);
	if (r == -EBADMSG && records_make_anew(records, item->rows_err.text, NULL) >= 0)
		r = item->work.read(records->database, item->work.data, &item->rows_err);
	item->rows_r = r < 0 ? r : 0;
}

static int work_on(void *data, struct error *err)
{
	struct batch *batch = data;
	struct records *records = batch->records;
	bool have_files = false, have_rows = false;

	(void)err;
	LIST_FOREACH(link, &batch->items) {
		const struct item *item = CONTAINER_OF(link, struct item, link);

		have_files = have_files || item->work.files;
		have_rows = have_rows || item->work.write;
	}
	if (have_files)
		write_files(records, batch);
	if (have_rows)
		write_rows(records, batch);
	LIST_FOREACH(link, &batch->items) {
		struct item *item = CONTAINER_OF(link, struct item, link);

		if (item->work.read && item->files_r >= 0 && item->rows_r >= 0)
			read_rows(records, item);
	}
	if (have_files || have_rows)
		reserve_take_again(records->state_fd);
	return 0;
}

/* ---- in the loop ---- */

static void start_batch(struct records *records);

static void free_item(struct item *item)
{
	list_remove(&item->link);
	if (item->work.release)
		item->work.release(item->work.data);
	free(item);
}

static void free_batch(void *data)
{
	struct batch *batch = data;

	while (!list_empty(&batch->items))
		free_item(CONTAINER_OF(batch->items.next, struct item, link));
	free(batch);
}

void records_say_notice(struct records *records)
{
	if (records->notice[0])
		log_msg(LOG_WARNING, "%s", records->notice);
	records->notice[0] = '\0';
}

static void batch_done(int r, const struct error *err, void *data)
{
	struct batch *batch = data;
	struct records *records = batch->records;

	(void)r;
	(void)err;
	records_say_notice(records);
	records->is_working = false;
	/* What waits already is worked on while the loop hears of this. */
	start_batch(records);
	LIST_FOREACH(link, &batch->items) {
		const struct item *item = CONTAINER_OF(link, struct item, link);

		if (!item->work.done)
			continue;
		if (item->files_r < 0)
			item->work.done(item->files_r, &item->files_err, item->work.data);
		else
			item->work.done(item->rows_r, &item->rows_err, item->work.data);
	}
}

static struct batch *form_batch(struct records *records)
{
	struct batch *batch = malloc(sizeof(*batch));

	if (!batch)
		return NULL;
	batch->records = records;
	list_init(&batch->items);
	for (unsigned i = 0; i < MAX_BATCH && !list_empty(&records->waiting); i++) {
		struct list *link = records->waiting.next;

		list_remove(link);
		list_append(&batch->items, link);
	}
	return batch;
}

static void start_batch(struct records *records)
{
	struct batch *batch;

	if (records->is_working || list_empty(&records->waiting))
		return;
	batch = form_batch(records);
	if (!batch)
		return; /* with the next piece */
	records->is_working = true;
	if (worker_run(records->worker, work_on, batch_done, free_batch, batch, NULL) >= 0)
		return;
	/* As if nothing had been formed. */
	records->is_working = false;
	while (!list_empty(&batch->items)) {
		struct list *link = batch->items.previous;

		list_remove(link);
		list_append(records->waiting.next, link);
	}
	free(batch);
}

int records_run(struct records *records, const struct records_work *work, struct error *err)
{
	struct item *item = calloc(1, sizeof(*item));

	if (!item)
		return error_oom(err);
	item->work = *work;
	list_append(&records->waiting, &item->link);
	start_batch(records);
	return 0;
}

int records_cancelled(struct error *err)
{
	return error_set(err, -ECANCELED, "dutd is stopping");
}

/* ---- opening and closing ---- */

struct records *records_free(struct records *records)
{
	if (!records)
		return NULL;
	records->worker = worker_free(records->worker);
	while (!list_empty(&records->waiting)) {
		struct batch *batch = form_batch(records);

		if (!batch)
			break;
		(void)work_on(batch, NULL);
		free_batch(batch);
	}
	records->database = database_close(records->database);
	free(records->path);
	free(records);
	return NULL;
}

CLEANUP_DEFINE(struct records *, records_free)

int records_open(struct records **ret, const struct records_config *config, struct error *err)
{
	cleanup_(records_freep) struct records *records = calloc(1, sizeof(*records));
	int r;

	if (!records)
		return error_oom(err);
	list_init(&records->waiting);
	records->state_fd = config->state_fd;
	records->jobs_fd = config->jobs_fd;
	if (asprintf(&records->path, "%s/dutd.db", config->state_dir) < 0) {
		records->path = NULL;
		return error_oom(err);
	}
	r = records_open_database(records, err);
	if (r >= 0)
		r = worker_new(&records->worker, config->event, err);
	if (r < 0)
		return r;
	records_say_notice(records);
	*ret = take_ptr(records);
	return 0;
}

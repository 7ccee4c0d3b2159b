/* SPDX-License-Identifier: MIT */
#pragma once

#include <assert.h>

#include "base/list.h"
#include "dut/records.h"

/* What the files of the records share. */

enum { RECORDS_MAX_FILE = 1 << 20 };

struct job;
struct worker;

struct records {
	char *path;	       /* of dutd.db */
	int state_fd, jobs_fd; /* borrowed */
	struct worker *worker;
	bool is_working;     /* a batch is with the worker */
	struct list waiting; /* item.link */

	/* Whoever has the batch: */
	struct database *database; /* NULL when it could not be opened */
	char notice[1024];	   /* to be said by the loop */
};

/* Opens what is there; makes it anew when that is damaged, or not there though there are jobs. */
int records_open_database(struct records *records, struct error *err);

/* Moves what is there aside, and makes it anew from the jobs' files. why goes into the log. */
int records_make_anew(struct records *records, const char *why, struct error *err);

/* Reads jobs/<name>; the text is the caller's. -EBADMSG for what is no record of ours. */
int records_read_file(const struct records *records, const char *name, struct job **ret_job,
		      char **ret_text, struct error *err);

/* A job from the columns record and pruned_us, which come first in the row. */
int records_job_from_row(struct job **ret, const struct database_row *row, struct error *err);

/* From the loop: says what has happened to the database, once. */
void records_say_notice(struct records *records);

/* The service manager gives a start another minute: many records are being read. */
void records_extend_timeout(void);

/* Fills err for a question that is not answered any more, and returns -ECANCELED. */
int records_cancelled(struct error *err);

/* What blocks is for the start, when the thread has nothing to do yet. */
#define RECORDS_ASSERT_START(records) assert(!(records)->is_working)

/* SPDX-License-Identifier: MIT */
#pragma once

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
	char notice[512];	   /* to be said by the loop */
};

/* Opens what is there; makes it anew when that is damaged, or not there though there are jobs. */
int records_open_database(struct records *records, struct error *err);

/* Moves what is there aside, and makes it anew from the jobs' files. why goes into the log. */
int records_make_anew(struct records *records, const char *why, struct error *err);

/* Reads jobs/<name>; the text is the caller's. -EBADMSG for what is no record of ours. */
int records_read_file(const struct records *records, const char *name, struct job **ret_job,
		      char **ret_text, struct error *err);

/* Writes the row of a job; text is its record as in jobs/<id>.json. */
int records_write_row(struct database *database, uint64_t id, const char *text, struct error *err);

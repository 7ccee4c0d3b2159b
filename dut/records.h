/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "dut/database.h"
#include "dut/filebatch.h"

/*
 * What dutd must not forget: <state>/dutd.db, and the files beside it that go with its rows. A
 * thread of its own owns the database. What is asked for while it works is done together
 * afterwards: files first, one sync of each and of their folder, then all rows in one transaction;
 * so one wait for the disk is enough for many. Pieces are done, and told to be done, in the order
 * in which they were asked for.
 *
 * jobs/<id>.json is written before the row of the job, and decides where the two differ: a database
 * that is lost or damaged is moved aside to dutd.db.broken-N and made anew from those files.
 */

struct records;
struct job;

struct records_config {
	sd_event *event;
	const char *state_dir; /* absolute */
	int state_fd, jobs_fd; /* borrowed */
};

/*
 * Opens the database, makes it, brings it up to date, or makes it anew.
 *
 * Errors: -ENOTSUP for that of a newer dutd.
 * Blocks: on the disk; long, when all jobs have to be read.
 */
int records_open(struct records **ret, const struct records_config *config, struct error *err);

/* Finishes all that was asked for, without calling done. Blocks for as long. */
struct records *records_free(struct records *records);

/*
 * A piece of work. files, write and read run in the thread, each of them or NULL, and touch nothing
 * but data. write may run more than once (when the disk was full, or the database had to be made
 * anew), and only the last time counts; it fails without the others of its transaction. read runs
 * after the commit.
 */
struct records_work {
	int (*files)(struct filebatch *files, void *data, struct error *err);
	int (*write)(struct database *database, void *data, struct error *err);
	int (*read)(struct database *database, void *data, struct error *err);
	/* From the loop: the first failure, or 0 when all of it is on disk. Or NULL. */
	void (*done)(int r, const struct error *err, void *data);
	void (*release)(void *data); /* after done, or in records_free(); or NULL */
	void *data;
	bool *files_safe; /* set when the files are on disk, whatever happens to the rows; or NULL
			   */
};

int records_run(struct records *records, const struct records_work *work, struct error *err);

/* The questions below that are still open in records_free() are answered with -ECANCELED. */

/* ---- jobs ---- */

/* In the thread: writes the row of a job; text is its record as in jobs/<id>.json. */
int records_write_row(struct database *database, uint64_t id, const char *text, struct error *err);

/* One that was found, or NULL when there is none; it is taken over. */
typedef void (*records_job_fn)(int r, const struct error *err, struct job *job, void *data);

/* By its number, or by the submission_id that its submitter gave it: as its row says. done runs
 * once. */
int records_find_job(struct records *records, uint64_t id, records_job_fn done, void *data,
		     struct error *err);
int records_find_submission(struct records *records, const char *submission_id, records_job_fn done,
			    void *data, struct error *err);

struct records_filter {
	const char *dut, *owner; /* or NULL */
	uint64_t before, after;	 /* ids between them; UINT64_MAX and 0: all */
	bool oldest_first;
	unsigned limit;
};

typedef void (*records_json_fn)(int r, const struct error *err, const json_t *array, void *data);

/* Those for which nothing is left to do, sorted, as job_to_json() has them. done runs once; its
 * array is borrowed. */
int records_list_jobs(struct records *records, const struct records_filter *filter,
		      records_json_fn done, void *data, struct error *err);

/*
 * The jobs for which something is left to do, for the start, before anything else was asked for:
 * where a job's file and its row differ, the file decides. each takes its job over; has_file is
 * false when only the row was left of it. What stands in no row yet gets one. *ret_highest is the
 * highest id of which there is any trace.
 *
 * Blocks: on the disk.
 */
int records_load_jobs(struct records *records,
		      void (*each)(struct job *job, bool has_file, void *data), void *data,
		      uint64_t *ret_highest, struct error *err);

/* Where the console of a job began. */
struct records_console {
	uint64_t base, job;
	unsigned attempt; /* a former one's, of a job that was begun again; else 0 */
};

/* Of all others that have their files, DUT by DUT; those of one job in the order of its attempts.
 * Likewise. */
int records_load_consoles(struct records *records,
			  void (*each)(const char *dut, const struct records_console *console,
				       void *data),
			  void *data, struct error *err);

/* The same of one DUT, later: done runs once, from the loop; its list is borrowed. */
typedef void (*records_consoles_fn)(int r, const struct error *err,
				    const struct records_console *list, size_t count, void *data);
int records_find_consoles(struct records *records, const char *dut, records_consoles_fn done,
			  void *data, struct error *err);

/* How many jobs are done with and have their files, what is known of their size, and how many are
 * left without files. Likewise. */
int records_count_jobs(struct records *records, uint64_t *ret_kept, uint64_t *ret_bytes,
		       uint64_t *ret_pruned, struct error *err);

/* ---- the audit: who did what, when ---- */

struct records_audit {
	const char *who;    /* a user or a token */
	const char *role;   /* or NULL */
	const char *from;   /* "unix", "tcp 192.0.2.1", or NULL */
	const char *dut;    /* or NULL */
	uint64_t job;	    /* 0: none */
	const char *action; /* a word: "power_on", "reserve" */
	const char *detail; /* or NULL */
};

enum { RECORDS_AUDIT_KEPT = 100000 /* entries; the oldest make room */ };

/*
 * Notes it; the time is now. done (or NULL) runs when it is on disk, or cannot be written. Nobody
 * has to wait: what was asked for earlier is on disk earlier.
 *
 * Owns: the texts are copied.
 */
int records_audit_add(struct records *records, const struct records_audit *audit,
		      void (*done)(int r, const struct error *err, void *data), void *data,
		      struct error *err);

enum { RECORDS_AUDIT_MAX = 1000 };

/*
 * Entries, the youngest first: [{"id", "time_us", "who", "role", "from", "dut", "job",
 * "action", "detail"}], at most limit of those with an id below before (UINT64_MAX: all); of one
 * DUT, or of all for NULL. done runs once; its array is borrowed.
 */
int records_audit_list(struct records *records, const char *dut, uint64_t before, unsigned limit,
		       records_json_fn done, void *data, struct error *err);

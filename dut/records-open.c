/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "dut/job.h"
#include "dut/records-internal.h"
#include "dut/schema.h"

/* Opening the database, and making it anew from the jobs' files when that cannot be. */

enum { MAX_BROKEN = 1000, AT_ONCE = 2000 /* rows in a transaction */ };

int records_write_row(struct database *database, uint64_t id, const char *text, struct error *err)
{
	return database_run(
		database, err,
		"INSERT INTO jobs (id, record, dut, owner, ended_us, base, attempt, submission, open)"
		" VALUES (?1, ?2, ?2 ->> '$.dut', ?2 ->> '$.owner', ?2 ->> '$.ended_us',"
		"  ?2 ->> '$.console_base', coalesce(?2 ->> '$.attempt', 0), ?2 ->> '$.submission_id',"
		"  ?2 ->> '$.state' <> 'ENDED' OR coalesce(?2 ->> '$.off_pending', 0)"
		"  OR ?2 ->> '$.user' IS NOT NULL)"
		" ON CONFLICT (id) DO UPDATE SET record = excluded.record, dut = excluded.dut,"
		"  owner = excluded.owner, ended_us = excluded.ended_us, base = excluded.base,"
		"  attempt = excluded.attempt, submission = excluded.submission,"
		"  open = excluded.open, pruned_us = NULL",
		"us", id, text);
}

int records_read_file(const struct records *records, const char *name, struct job **ret_job,
		      char **ret_text, struct error *err)
{
	json_auto_t *record = NULL;
	free_ char *text = NULL;
	size_t length;
	int r;

	r = file_read_beneath(&text, &length, records->jobs_fd, name, RECORDS_MAX_FILE, err);
	if (r < 0)
		return r;
	record = json_loadb(text, length, 0, NULL);
	r = job_from_record(ret_job, record, err);
	if (r < 0)
		return r;
	*ret_text = take_ptr(text);
	return 0;
}

void records_extend_timeout(void)
{
	(void)sd_notify(false, "EXTEND_TIMEOUT_USEC=60000000");
}

/* ---- making it anew ---- */

/* Those that cannot be read are left to the start, which says so. */
static int import_file(const struct records *records, const char *name, struct error *err)
{
	free_ char *text = NULL;
	struct job *job;
	int r;

	if (records_read_file(records, name, &job, &text, NULL) < 0)
		return 0;
	r = records_write_row(records->database, job->id, text, err);
	job_free(job);
	return r < 0 ? r : 1;
}

/* In several transactions: what is missing after a crash is found by the next start. */
static int import_files(const struct records *records, unsigned *count, struct error *err)
{
	closedir_ DIR *dir = NULL;
	const struct dirent *entry;
	int r = file_open_dir(&dir, records->jobs_fd, err);

	if (r < 0)
		return error_prefix(err, r, "cannot list the jobs");
	while (r >= 0 && (entry = readdir(dir))) {
		uint64_t id;

		if (!text_number_before(&id, entry->d_name, ".json"))
			continue;
		r = import_file(records, entry->d_name, err);
		if (r <= 0)
			continue;
		if (++*count % AT_ONCE != 0)
			continue;
		records_extend_timeout();
		r = database_execute(records->database, "COMMIT; BEGIN IMMEDIATE", err);
	}
	return r;
}

static int import(struct records *records, unsigned *count, struct error *err)
{
	int r = database_begin(records->database, err);

	if (r >= 0)
		r = import_files(records, count, err);
	if (r >= 0)
		r = database_commit(records->database, err);
	if (r < 0)
		database_roll_back(records->database);
	return r;
}

/* What has no file of its own, as far as it can still be read. */
static void salvage(const struct records *records, const char *broken)
{
	static const char *const copies[] = {
		"INSERT OR IGNORE INTO audit SELECT * FROM old.audit",
		"INSERT OR IGNORE INTO jobs SELECT * FROM old.jobs WHERE pruned_us IS NOT NULL",
	};
	struct database *database = records->database;

	if (database_run(database, NULL, "ATTACH ? AS old", "s", broken) < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(copies); i++)
		(void)database_execute(database, copies[i], NULL);
	(void)database_execute(database, "DETACH old", NULL);
}

static int move_aside(const struct records *records, char **ret, struct error *err)
{
	static const char *const parts[] = { "", "-wal", "-shm" };

	for (unsigned n = 1; n <= MAX_BROKEN; n++) {
		free_ char *broken = NULL;

		if (asprintf(&broken, "%s.broken-%u", records->path, n) < 0) {
			broken = NULL;
			return error_oom(err);
		}
		if (access(broken, F_OK) == 0)
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
			char from[PATH_MAX], to[PATH_MAX];

			(void)snprintf(from, sizeof(from), "%s%s", records->path, parts[i]);
			(void)snprintf(to, sizeof(to), "%s%s", broken, parts[i]);
			if (rename(from, to) < 0 && errno != ENOENT)
				return error_errno(err, "cannot move %s aside", from);
		}
		*ret = take_ptr(broken);
		return 0;
	}
	return error_set(err, -EEXIST, "there are %d files %s.broken-N", MAX_BROKEN, records->path);
}

int records_make_anew(struct records *records, const char *why, struct error *err)
{
	free_ char *broken = NULL;
	struct error reason; /* why may be err's text */
	unsigned count = 0;
	int r;

	(void)error_set(&reason, 0, "%s", why);
	records->database = database_close(records->database);
	r = move_aside(records, &broken, err);
	if (r >= 0 && broken)
		r = database_open(&records->database, records->path, err);
	if (r >= 0)
		r = schema_migrate(records->database, err);
	if (r >= 0)
		r = import(records, &count, err);
	if (r < 0 || !broken) {
		records->database = database_close(records->database);
		(void)snprintf(records->notice, sizeof(records->notice),
			       "dutd.db cannot be used (%s), nor made anew: %s", reason.text,
			       err ? err->text : strerror(-r));
		return r;
	}
	salvage(records, broken);
	(void)snprintf(
		records->notice, sizeof(records->notice),
		"dutd.db cannot be used (%s): it is %s now, and a new one has the records of "
		"%u jobs, from their files",
		reason.text, strrchr(broken, '/') + 1, count);
	return 0;
}

/* ---- opening ---- */

static bool is_unusable(int r)
{
	static const int numbers[] = { EBADMSG, EPROTO, EACCES, EPERM, EISDIR, ELOOP };

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (r == -numbers[i])
			return true;
	return false;
}

/* An empty one that has jobs to be filled from was lost. */
static int fill_new(struct records *records, struct error *err)
{
	unsigned count = 0;
	int r = import(records, &count, err);

	if (r >= 0 && count > 0)
		(void)snprintf(records->notice, sizeof(records->notice),
			       "dutd.db was not there: a new one has the records of %u jobs, from "
			       "their files",
			       count);
	return r;
}

int records_open_database(struct records *records, struct error *err)
{
	struct error why;
	int r = database_open(&records->database, records->path, &why);

	if (r >= 0)
		r = schema_migrate(records->database, &why);
	if (r > 0)
		r = fill_new(records, &why);
	if (r >= 0)
		return 0;
	records->database = database_close(records->database);
	if (is_unusable(r))
		return records_make_anew(records, why.text, err);
	return error_set(err, r, "%s", why.text);
}

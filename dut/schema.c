/* SPDX-License-Identifier: MIT */
#include "dut/schema.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/clock.h"

/*
 * Each step leads from the version before it to its own, which is its place in this list, from 1. A
 * step that was released is never changed: what is new is a new step at the end. (An index repeats
 * the columns of its own condition, because only then SQLite answers from it alone.)
 *
 * jobs: `record` is jobs/<id>.json, and the columns that are looked for are parts of it; `open`
 * says that dutd still has something to do for the job, whose file then counts more than the row.
 * `pruned_us` is when its files were removed, `size` what they take of the disk.
 */
static const char *const steps[] = {
	"CREATE TABLE jobs ("
	" id INTEGER PRIMARY KEY,"
	" record TEXT NOT NULL,"
	" dut TEXT,"
	" owner TEXT NOT NULL,"
	" ended_us INTEGER,"
	" base INTEGER,"
	" attempt INTEGER NOT NULL,"
	" submission TEXT,"
	" open INTEGER NOT NULL,"
	" size INTEGER,"
	" pruned_us INTEGER"
	") STRICT;"
	"CREATE INDEX jobs_open ON jobs (id) WHERE open;"
	"CREATE INDEX jobs_kept ON jobs (id, size, ended_us, open, pruned_us)"
	" WHERE NOT open AND pruned_us IS NULL;"
	"CREATE INDEX jobs_pruned ON jobs (id) WHERE pruned_us IS NOT NULL;"
	"CREATE INDEX jobs_dut ON jobs (dut, id);"
	"CREATE INDEX jobs_owner ON jobs (owner, id);"
	"CREATE INDEX jobs_console ON jobs (dut, base, id, open, pruned_us, attempt)"
	" WHERE NOT open AND pruned_us IS NULL AND base IS NOT NULL AND attempt < 2;"
	"CREATE INDEX jobs_again ON jobs (dut, id) WHERE attempt > 1;"
	"CREATE INDEX jobs_submission ON jobs (submission) WHERE submission IS NOT NULL;"
	"CREATE TABLE audit ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" time_us INTEGER NOT NULL,"
	" who TEXT NOT NULL,"
	" role TEXT,"
	" via TEXT,"
	" dut TEXT,"
	" job INTEGER,"
	" action TEXT NOT NULL,"
	" detail TEXT"
	") STRICT;"
	"CREATE INDEX audit_dut ON audit (dut, id);",
};

static int read_version(const struct database_row *row, void *data, struct error *err)
{
	int64_t *version = data;

	(void)err;
	*version = database_integer(row, 0);
	return 0;
}

static int take_step(struct database *database, const char *sql, int64_t version, struct error *err)
{
	int r = database_begin(database, err);

	if (r >= 0)
		r = database_execute(database, sql, err);
	if (r >= 0)
		r = database_run(database, err,
				 "INSERT INTO schema (version, time_us, dutd) VALUES (?, ?, ?)",
				 "ius", version, clock_realtime_us(), DUT_VERSION);
	if (r >= 0)
		r = database_commit(database, err);
	if (r < 0) {
		database_roll_back(database);
		return error_prefix(err, r, "cannot bring dutd.db to version %" PRIi64, version);
	}
	return 0;
}

int schema_migrate(struct database *database, struct error *err)
{
	return schema_apply(database, steps, ARRAY_SIZE(steps), err);
}

int schema_apply(struct database *database, const char *const *list, size_t count,
		 struct error *err)
{
	const int64_t newest = (int64_t)count;
	int64_t version = 0;
	bool is_new;
	int r;

	r = database_execute(database,
			     "CREATE TABLE IF NOT EXISTS schema ("
			     " version INTEGER PRIMARY KEY,"
			     " time_us INTEGER NOT NULL,"
			     " dutd TEXT NOT NULL"
			     ") STRICT",
			     err);
	if (r >= 0)
		r = database_query(database, read_version, &version, err,
				   "SELECT coalesce(max(version), 0) FROM schema", "");
	if (r < 0)
		return r;
	if (version > newest)
		return error_set(err, -ENOTSUP,
				 "dutd.db has version %" PRIi64
				 ", and this dutd knows up to %" PRIi64
				 ": it was made by a newer dutd",
				 version, newest);
	is_new = version == 0;
	while (version < newest && r >= 0) {
		r = take_step(database, list[version], version + 1, err);
		version++;
	}
	return r < 0 ? r : is_new;
}

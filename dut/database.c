/* SPDX-License-Identifier: MIT */
#include "dut/database.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { MAX_KEPT = 64 /* prepared statements */ };

struct kept_statement {
	const char *sql; /* by address */
	sqlite3_stmt *statement;
};

struct database {
	sqlite3 *handle;
	struct kept_statement kept[MAX_KEPT];
	unsigned n_kept;
};

/* A row is the statement that stands at it: only ever handled as a pointer. */
static sqlite3_stmt *statement_of(const struct database_row *row)
{
	return (sqlite3_stmt *)(uintptr_t)row;
}

static int code_of(int result)
{
	switch (result & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_ERROR:
		return -EPROTO;
	case SQLITE_PERM:
	case SQLITE_READONLY:
		return -EACCES;
	default:
		return -EIO;
	}
}

/* What the system said is better known than what SQLite makes of it. */
static int fail(struct database *database, int result, struct error *err)
{
	int number = sqlite3_system_errno(database->handle), code = code_of(result);

	if (code == -EIO && (number == ENOSPC || number == EDQUOT || number == EACCES))
		code = -number;
	return error_set(err, code, "the database: %s%s%s", sqlite3_errmsg(database->handle),
			 code == -EIO && number ? ": " : "",
			 code == -EIO && number ? strerror(number) : "");
}

/* ---- statements ---- */

static int prepare(struct database *database, sqlite3_stmt **ret, const char *sql,
		   struct error *err)
{
	struct kept_statement *kept;
	int result;

	for (unsigned i = 0; i < database->n_kept; i++) {
		if (database->kept[i].sql == sql) {
			*ret = database->kept[i].statement;
			return 0;
		}
	}
	if (database->n_kept == MAX_KEPT)
		return error_set(err, -E2BIG, "the database: more than %d statements are kept",
				 MAX_KEPT);
	kept = &database->kept[database->n_kept];
	result = sqlite3_prepare_v3(database->handle, sql, -1, SQLITE_PREPARE_PERSISTENT,
				    &kept->statement, NULL);
	if (result != SQLITE_OK)
		return fail(database, result, err);
	kept->sql = sql;
	database->n_kept++;
	*ret = kept->statement;
	return 0;
}

/* The values live until the statement has run. */
static int bind(struct database *database, sqlite3_stmt *statement, const char *types, va_list args,
		struct error *err)
{
	int result = SQLITE_OK;

	for (int i = 1; *types && result == SQLITE_OK; i++, types++) {
		if (*types == 's')
			result = sqlite3_bind_text(statement, i, va_arg(args, const char *), -1,
						   SQLITE_STATIC);
		else if (*types == 'u')
			result = sqlite3_bind_int64(statement, i,
						    (sqlite3_int64)va_arg(args, uint64_t));
		else
			result = sqlite3_bind_int64(statement, i, va_arg(args, int64_t));
	}
	return result == SQLITE_OK ? 0 : fail(database, result, err);
}

static int step_through(struct database *database, sqlite3_stmt *statement, database_row_fn each,
			void *data, struct error *err)
{
	int result, r = 0;

	while (r >= 0 && (result = sqlite3_step(statement)) != SQLITE_DONE) {
		if (result != SQLITE_ROW)
			r = fail(database, result, err);
		else if (each)
			r = each((const struct database_row *)(const void *)statement, data, err);
	}
	(void)sqlite3_reset(statement);
	(void)sqlite3_clear_bindings(statement);
	return r < 0 ? r : 0;
}

static int run(struct database *database, const char *sql, const char *types, va_list args,
	       database_row_fn each, void *data, struct error *err)
{
	sqlite3_stmt *statement = NULL;
	int r = prepare(database, &statement, sql, err);

	if (r >= 0)
		r = bind(database, statement, types, args, err);
	return r < 0 ? r : step_through(database, statement, each, data, err);
}

int database_run(struct database *database, struct error *err, const char *sql, const char *types,
		 ...)
{
	va_list args;
	int r;

	va_start(args, types);
	r = run(database, sql, types, args, NULL, NULL, err);
	va_end(args);
	return r < 0 ? r : sqlite3_changes(database->handle);
}

int database_query(struct database *database, database_row_fn each, void *data, struct error *err,
		   const char *sql, const char *types, ...)
{
	va_list args;
	int r;

	va_start(args, types);
	r = run(database, sql, types, args, each, data, err);
	va_end(args);
	return r;
}

int64_t database_integer(const struct database_row *row, int column)
{
	return sqlite3_column_int64(statement_of(row), column);
}

const char *database_text(const struct database_row *row, int column)
{
	return (const char *)sqlite3_column_text(statement_of(row), column);
}

bool database_is_null(const struct database_row *row, int column)
{
	return sqlite3_column_type(statement_of(row), column) == SQLITE_NULL;
}

int database_execute(struct database *database, const char *sql, struct error *err)
{
	int result = sqlite3_exec(database->handle, sql, NULL, NULL, NULL);

	return result == SQLITE_OK ? 0 : fail(database, result, err);
}

/* ---- transactions ---- */

int database_begin(struct database *database, struct error *err)
{
	int r = database_run(database, err, "BEGIN IMMEDIATE", "");

	return r < 0 ? r : 0;
}

int database_commit(struct database *database, struct error *err)
{
	int r = database_run(database, err, "COMMIT", "");

	return r < 0 ? r : 0;
}

void database_roll_back(struct database *database)
{
	/* Some failures have done so already. */
	if (!sqlite3_get_autocommit(database->handle))
		(void)database_run(database, NULL, "ROLLBACK", "");
}

int database_begin_part(struct database *database, struct error *err)
{
	int r = database_run(database, err, "SAVEPOINT part", "");

	return r < 0 ? r : 0;
}

int database_end_part(struct database *database, bool keep, struct error *err)
{
	int r = 0;

	/* With the whole transaction its parts are gone, too. */
	if (sqlite3_get_autocommit(database->handle))
		return error_set(err, -EIO, "the database: the transaction was undone");
	if (!keep)
		r = database_run(database, err, "ROLLBACK TO part", "");
	if (r >= 0)
		r = database_run(database, err, "RELEASE part", "");
	return r < 0 ? r : 0;
}

/* ---- opening ---- */

struct database *database_close(struct database *database)
{
	if (!database)
		return NULL;
	for (unsigned i = 0; i < database->n_kept; i++)
		(void)sqlite3_finalize(database->kept[i].statement);
	(void)sqlite3_close(database->handle);
	free(database);
	return NULL;
}

CLEANUP_DEFINE(struct database *, database_close)

/* SQLite would make it as readable as the umask allows. */
static int make_file(const char *path, struct error *err)
{
	close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? error_errno(err, "%s", path) : 0;
}

int database_open(struct database **ret, const char *path, struct error *err)
{
	/* Exclusive before the log: its index then lies in memory, where no full disk can hurt. */
	static const char settings[] = "PRAGMA locking_mode = EXCLUSIVE;"
				       "PRAGMA journal_mode = WAL;"
				       "PRAGMA synchronous = FULL;"
				       "PRAGMA foreign_keys = ON;"
				       "PRAGMA temp_store = MEMORY;"
				       "PRAGMA cache_size = -2000;";
	cleanup_(database_closep) struct database *database = calloc(1, sizeof(*database));
	int result, r;

	if (!database)
		return error_oom(err);
	r = make_file(path, err);
	if (r < 0)
		return r;
	result = sqlite3_open_v2(path, &database->handle,
				 SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
					 SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE,
				 NULL);
	if (!database->handle)
		return error_oom(err);
	if (result != SQLITE_OK)
		return fail(database, result, err);
	r = database_execute(database, settings, err);
	/* Takes the lock, and reads what is there. */
	if (r >= 0)
		r = database_execute(database, "BEGIN IMMEDIATE; COMMIT", err);
	if (r < 0)
		return r;
	*ret = take_ptr(database);
	return 0;
}

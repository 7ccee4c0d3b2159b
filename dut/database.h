/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * A file of SQLite's: dutd's alone (nobody else opens it while dutd runs), with a write-ahead log
 * that is synced at every commit. It belongs to one thread at a time. Everything here blocks on the
 * disk.
 *
 * Errors: everywhere -EBADMSG for a file that is damaged or no database, -ENOSPC and -EDQUOT for a
 * full disk, -EEXIST for what must be there only once, -EPROTO for a statement that does not fit
 * its tables, -EIO for what else SQLite says.
 */

struct database;
struct database_row;

/* Opens path, or makes it, 0600. */
int database_open(struct database **ret, const char *path, struct error *err);

/* Changes without a commit are undone. */
struct database *database_close(struct database *database);

/*
 * Runs a statement with a value for each letter of types: i int64_t, u uint64_t (kept as int64_t),
 * s const char * (NULL becomes null). The text of sql is a literal: its address is its name among
 * the statements that are kept prepared.
 *
 * Returns the number of rows that were changed.
 */
int database_run(struct database *database, struct error *err, const char *sql, const char *types,
		 ...);

/* Called for each row; a negative code ends the query, which returns it. */
typedef int (*database_row_fn)(const struct database_row *row, void *data, struct error *err);

/* The same for a question: 0, or what went wrong. */
int database_query(struct database *database, database_row_fn each, void *data, struct error *err,
		   const char *sql, const char *types, ...);

/* A value of the present row by its column, from 0. A null is 0, or NULL; texts live until the next
 * row. */
int64_t database_integer(const struct database_row *row, int column);
const char *database_text(const struct database_row *row, int column);
bool database_is_null(const struct database_row *row, int column);

/* Statements without values and rows, several with ';' between them. */
int database_execute(struct database *database, const char *sql, struct error *err);

/* After 0 of commit all that was changed since begin survives a crash; else nothing of it is there.
 */
int database_begin(struct database *database, struct error *err);
int database_commit(struct database *database, struct error *err);
void database_roll_back(struct database *database);

/* A part of a transaction that can fail without the rest. end: keep decides. */
int database_begin_part(struct database *database, struct error *err);
int database_end_part(struct database *database, bool keep, struct error *err);

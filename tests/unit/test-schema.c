/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dut/database.h"
#include "dut/schema.h"

/* A database of a made-up release, and what the two after it have changed. */
static const char *const steps[] = {
	"CREATE TABLE boards (name TEXT); INSERT INTO boards VALUES ('b1'), ('b2')",
	"ALTER TABLE boards ADD COLUMN shelf INTEGER; UPDATE boards SET shelf = 7",
	"CREATE TABLE shelves (number INTEGER); INSERT INTO shelves SELECT DISTINCT shelf FROM boards",
};

static const char *const broken_steps[] = {
	"CREATE TABLE boards (name TEXT); INSERT INTO boards VALUES ('b1'), ('b2')",
	"ALTER TABLE boards ADD COLUMN shelf INTEGER; UPDATE shelves SET shelf = 7",
};

struct fixture {
	char folder[64], path[80];
	struct database *database;
	struct error err;
	int64_t number;
};

static void open_it(struct fixture *f)
{
	f->database = database_close(f->database);
	assert_int_equal(database_open(&f->database, f->path, &f->err), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->folder, sizeof(f->folder), "/tmp/test-schema-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	(void)snprintf(f->path, sizeof(f->path), "%s/x.db", f->folder);
	open_it(f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	database_close(f->database);
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(rmdir(f->folder), 0);
	free(f);
	return 0;
}

static int take_number(const struct database_row *row, void *data, struct error *err)
{
	struct fixture *f = data;

	(void)err;
	f->number = database_integer(row, 0);
	return 0;
}

/* What a question with one number as its answer says, or -1. */
static int64_t ask(struct fixture *f, const char *sql)
{
	f->number = -1;
	return database_query(f->database, take_number, f, &f->err, sql, "") < 0 ? -1 : f->number;
}

static void an_older_one_takes_the_steps_that_it_lacks(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(schema_apply(f->database, steps, 1, &f->err), 1);
	assert_int_equal(ask(f, "SELECT count(*) FROM boards"), 2);
	open_it(f);
	assert_int_equal(schema_apply(f->database, steps, 3, &f->err), 0);
	assert_int_equal(ask(f, "SELECT count(*) FROM boards WHERE shelf = 7"), 2);
	assert_int_equal(ask(f, "SELECT number FROM shelves"), 7);
	assert_int_equal(ask(f, "SELECT group_concat(version, '') FROM schema"), 123);
	/* And none of them twice. */
	open_it(f);
	assert_int_equal(schema_apply(f->database, steps, 3, &f->err), 0);
	assert_int_equal(ask(f, "SELECT count(*) FROM boards"), 2);
}

static void a_newer_one_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(schema_apply(f->database, steps, 3, &f->err), 1);
	assert_int_equal(schema_apply(f->database, steps, 2, &f->err), -ENOTSUP);
	assert_string_equal(f->err.text, "dutd.db has version 3, and this dutd knows up to 2: it "
					 "was made by a newer dutd");
	assert_int_equal(ask(f, "SELECT number FROM shelves"), 7);
}

static void a_step_that_fails_leaves_nothing_of_itself(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(schema_apply(f->database, broken_steps, 2, &f->err), -EPROTO);
	assert_non_null(strstr(f->err.text, "cannot bring dutd.db to version 2"));
	assert_int_equal(ask(f, "SELECT max(version) FROM schema"), 1);
	assert_int_equal(ask(f, "SELECT count(*) FROM pragma_table_info('boards')"), 1);
	assert_int_equal(schema_apply(f->database, steps, 3, &f->err), 0);
}

static void an_empty_one_gets_what_this_dutd_needs(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(schema_migrate(f->database, &f->err), 1);
	assert_int_equal(ask(f, "SELECT count(*) FROM jobs"), 0);
	assert_int_equal(ask(f, "SELECT count(*) FROM audit"), 0);
	assert_int_equal(schema_migrate(f->database, &f->err), 0);
}

/* A part of a transaction fails alone, and a transaction as a whole. */
static void parts_fail_alone(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(schema_apply(f->database, steps, 1, &f->err), 1);
	assert_int_equal(database_begin(f->database, &f->err), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(database_begin_part(f->database, &f->err), 0);
		assert_int_equal(database_run(f->database, &f->err, "INSERT INTO boards VALUES (?)",
					      "s", "b3"),
				 1);
		assert_int_equal(database_end_part(f->database, i != 1, &f->err), 0);
	}
	assert_int_equal(database_commit(f->database, &f->err), 0);
	assert_int_equal(ask(f, "SELECT count(*) FROM boards"), 4);
	assert_int_equal(database_begin(f->database, &f->err), 0);
	assert_int_equal(database_run(f->database, &f->err, "DELETE FROM boards", ""), 4);
	database_roll_back(f->database);
	assert_int_equal(ask(f, "SELECT count(*) FROM boards"), 4);
	assert_int_equal(database_run(f->database, &f->err, "DELETE FROM shelves", ""), -EPROTO);
	assert_string_equal(f->err.text, "the database: no such table: shelves");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_older_one_takes_the_steps_that_it_lacks, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_newer_one_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_step_that_fails_leaves_nothing_of_itself, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(an_empty_one_gets_what_this_dutd_needs, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(parts_fail_alone, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

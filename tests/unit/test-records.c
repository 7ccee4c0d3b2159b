/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/log.h"
#include "dut/records.h"

enum { MANY = 100 };

struct fixture {
	char folder[64];
	sd_event *event;
	int state_fd, jobs_fd;
	struct records *records;
	unsigned done;
	int r;
	struct error err;
	json_t *array; /* of the last list */
	char order[MANY + 1], line[1024];
	unsigned rows;
};

static void open_it(struct fixture *f)
{
	const struct records_config config = {
		.event = f->event,
		.state_dir = f->folder,
		.state_fd = f->state_fd,
		.jobs_fd = f->jobs_fd,
	};
	struct error err = { "" };

	if (records_open(&f->records, &config, &err) < 0)
		fail_msg("%s", err.text);
}

static void open_again(struct fixture *f)
{
	f->records = records_free(f->records);
	open_it(f);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->folder, sizeof(f->folder), "/tmp/test-records-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	assert_int_equal(sd_event_new(&f->event), 0);
	f->state_fd = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(file_make_dir(&f->jobs_fd, f->state_fd, "jobs", 0700, NULL), 0);
	open_it(f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	records_free(f->records);
	sd_event_unref(f->event);
	json_decref(f->array);
	assert_int_equal(folder_clear(f->state_fd, NULL), 0);
	(void)close_fd(f->jobs_fd);
	(void)close_fd(f->state_fd);
	assert_int_equal(rmdir(f->folder), 0);
	free(f);
	return 0;
}

static void on_done(int r, const struct error *err, void *data)
{
	struct fixture *f = data;

	f->done++;
	f->r = r;
	if (r < 0)
		f->err = *err;
}

static void on_list(int r, const struct error *err, const json_t *array, void *data)
{
	struct fixture *f = data;

	json_decref(f->array);
	f->array = json_deep_copy(array);
	on_done(r, err, data);
}

static void await(struct fixture *f, unsigned done)
{
	while (f->done < done)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
}

static const char *member(const struct fixture *f, size_t i, const char *name)
{
	return json_string_value(json_object_get(json_array_get(f->array, i), name));
}

/* ---- the audit ---- */

static void add_audit(struct fixture *f, const char *who, const char *dut, const char *action)
{
	const struct records_audit audit = {
		.who = who, .role = "use", .dut = dut, .action = action
	};

	assert_int_equal(records_audit_add(f->records, &audit, on_done, f, NULL), 0);
}

static void audit_is_listed_youngest_first_and_by_dut(void **state)
{
	struct fixture *f = *state;

	add_audit(f, "alice", "b1", "reserve");
	add_audit(f, "bob", "b2", "power_on");
	add_audit(f, "alice", "b1", "release");
	await(f, 3);
	assert_int_equal(records_audit_list(f->records, "b1", UINT64_MAX, 10, on_list, f, NULL), 0);
	await(f, 4);
	assert_int_equal(f->r, 0);
	assert_int_equal(json_array_size(f->array), 2);
	assert_string_equal(member(f, 0, "action"), "release");
	assert_string_equal(member(f, 1, "action"), "reserve");
	assert_string_equal(member(f, 1, "role"), "use");
	assert_true(json_is_null(json_object_get(json_array_get(f->array, 0), "job")));
	assert_int_equal(records_audit_list(f->records, NULL, 3, 1, on_list, f, NULL), 0);
	await(f, 5);
	assert_int_equal(json_array_size(f->array), 1);
	assert_string_equal(member(f, 0, "who"), "bob");
}

static void a_question_that_is_open_at_the_end_is_answered(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(records_audit_list(f->records, NULL, UINT64_MAX, 10, on_list, f, NULL), 0);
	assert_int_equal(records_audit_list(f->records, NULL, UINT64_MAX, 10, on_list, f, NULL), 0);
	open_again(f);
	assert_int_equal(f->done, 2);
	assert_int_equal(f->r, -ECANCELED);
}

static void what_was_asked_for_is_written_when_dutd_leaves(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < MANY; i++)
		add_audit(f, "alice", "b1", "reserve");
	open_again(f);
	assert_true(f->done < MANY);
	f->done = 0;
	assert_int_equal(records_audit_list(f->records, NULL, UINT64_MAX, 1000, on_list, f, NULL),
			 0);
	await(f, 1);
	assert_int_equal(json_array_size(f->array), MANY);
}

/* ---- work ---- */

struct piece {
	struct fixture *f;
	char name;
	bool safe;
};

static int insert_audit(struct database *database, void *data, struct error *err)
{
	const struct piece *piece = data;
	const char text[] = { piece->name, '\0' };

	return database_run(database, err,
			    "INSERT INTO audit (time_us, who, action) VALUES (1, ?, ?)", "ss", text,
			    piece->name == 'x' ? NULL : text);
}

static int insert_late_audit(struct database *database, void *data, struct error *err)
{
	(void)data;
	return database_run(database, err,
			    "INSERT INTO audit (id, time_us, who, action) VALUES (?, 1, 'x', 'y')",
			    "u", (uint64_t)RECORDS_AUDIT_KEPT + 1);
}

static void audit_keeps_so_many_and_no_more(void **state)
{
	struct fixture *f = *state;
	const struct records_work late = {
		.write = insert_late_audit,
		.done = on_done,
		.data = f,
	};

	add_audit(f, "first", "b1", "reserve");
	add_audit(f, "second", "b1", "reserve");
	assert_int_equal(records_run(f->records, &late, NULL), 0);
	add_audit(f, "last", "b1", "release");
	await(f, 4);
	assert_int_equal(records_audit_list(f->records, NULL, UINT64_MAX, 10, on_list, f, NULL), 0);
	await(f, 5);
	assert_int_equal(json_array_size(f->array), 2);
}

static int write_file(struct filebatch *files, void *data, struct error *err)
{
	const struct piece *piece = data;
	const char name[] = { piece->name, '\0' };

	return filebatch_write(files, FILEBATCH_REPLACE, piece->f->state_fd,
			       piece->name == '/' ? "no/folder" : "file", name, 1, 0600, err);
}

static void note_done(int r, const struct error *err, void *data)
{
	struct piece *piece = data;
	size_t length = strlen(piece->f->order);

	(void)snprintf(piece->f->order + length, sizeof(piece->f->order) - length, "%c",
		       r < 0 ? '!' : piece->name);
	on_done(r, err, piece->f);
}

static void run_pieces(struct fixture *f, struct piece *pieces, const char *names)
{
	for (size_t i = 0; names[i]; i++) {
		const struct records_work work = {
			.files = write_file,
			.write = insert_audit,
			.done = note_done,
			.data = &pieces[i],
			.files_safe = &pieces[i].safe,
		};

		pieces[i] = (struct piece){ .f = f, .name = names[i] };
		assert_int_equal(records_run(f->records, &work, NULL), 0);
	}
	await(f, (unsigned)strlen(names));
}

static void work_is_done_in_order_and_fails_alone(void **state)
{
	struct fixture *f = *state;
	struct piece pieces[8];
	free_ char *text = NULL;

	/* The first is at work while the others come together. */
	run_pieces(f, pieces, "abx/cd");
	assert_string_equal(f->order, "ab!!cd");
	assert_true(pieces[2].safe);
	assert_false(pieces[3].safe);
	assert_true(pieces[4].safe);
	assert_int_equal(file_read_beneath(&text, NULL, f->state_fd, "file", 10, NULL), 0);
	assert_string_equal(text, "d");
	assert_int_equal(records_audit_list(f->records, NULL, UINT64_MAX, 10, on_list, f, NULL), 0);
	await(f, 7);
	assert_int_equal(json_array_size(f->array), 4);
	assert_string_equal(member(f, 0, "who"), "d");
}

/* ---- a database that is none ---- */

static void keep_line(int level, const char *board, uint64_t job, const char *text, void *data)
{
	(void)board;
	(void)job;
	if (level <= LOG_WARNING)
		(void)snprintf(data, sizeof(((struct fixture *)NULL)->line), "%s", text);
}

static const char record[] = "{\"v\":1,\"id\":7,\"name\":\"n\",\"owner\":\"alice\",\"dut\":"
			     "\"b1\",\"uid\":0,\"state\":\"ENDED\",\"status\":\"PASS\","
			     "\"reason\":\"ok\",\"attempt\":1,\"nonce\":\"x\",\"boot_id\":\"y\","
			     "\"console_base\":100}";

static int count_row(const struct database_row *row, void *data, struct error *err)
{
	struct fixture *f = data;

	(void)err;
	f->rows = (unsigned)database_integer(row, 0);
	return 0;
}

static int count_jobs(struct database *database, void *data, struct error *err)
{
	return database_query(database, count_row, data, err, "SELECT count(*) FROM jobs", "");
}

static unsigned jobs_in_database(struct fixture *f)
{
	const struct records_work work = { .read = count_jobs, .done = on_done, .data = f };

	f->done = 0;
	assert_int_equal(records_run(f->records, &work, NULL), 0);
	await(f, 1);
	assert_int_equal(f->r, 0);
	return f->rows;
}

static void write_state(const struct fixture *f, int dir_fd, const char *name, const char *text)
{
	(void)f;
	assert_int_equal(file_replace(dir_fd, name, text, strlen(text), 0600, NULL), 0);
}

static void make_damaged(struct fixture *f)
{
	f->records = records_free(f->records);
	write_state(f, f->jobs_fd, "7.json", record);
	write_state(f, f->jobs_fd, "8.json", "no record");
	write_state(f, f->state_fd, "dutd.db",
		    "this was a database once, before something happened");
	log_set_sink(keep_line, f->line);
	open_it(f);
	log_set_sink(NULL, NULL);
}

static void a_damaged_one_is_moved_aside_and_made_anew(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 1; i < 3; i++) {
		char name[32];

		make_damaged(f);
		(void)snprintf(name, sizeof(name), "dutd.db.broken-%u", i);
		assert_int_equal(faccessat(f->state_fd, name, F_OK, 0), 0);
		assert_non_null(strstr(f->line, name));
		assert_non_null(strstr(f->line, "has the records of 1 jobs"));
		assert_int_equal(jobs_in_database(f), 1);
	}
}

static void a_lost_one_is_made_anew_and_an_empty_one_is_no_loss(void **state)
{
	struct fixture *f = *state;

	f->records = records_free(f->records);
	write_state(f, f->jobs_fd, "7.json", record);
	assert_int_equal(unlinkat(f->state_fd, "dutd.db", 0), 0);
	log_set_sink(keep_line, f->line);
	open_it(f);
	assert_non_null(strstr(f->line, "dutd.db was not there"));
	assert_int_equal(jobs_in_database(f), 1);
	f->line[0] = '\0';
	open_again(f);
	log_set_sink(NULL, NULL);
	assert_string_equal(f->line, "");
	assert_int_equal(jobs_in_database(f), 1);
}

static int damage(struct database *database, void *data, struct error *err)
{
	const struct fixture *f = data;
	close_ int fd = openat(f->state_fd, "dutd.db", O_RDWR | O_CLOEXEC);
	struct stat status;
	char page[4096];

	memset(page, 'x', sizeof(page));
	assert_int_equal(fstat(fd, &status), 0);
	for (off_t at = 4096; at < status.st_size; at += 4096)
		assert_int_equal(pwrite(fd, page, sizeof(page), at), sizeof(page));
	return database_execute(database, "PRAGMA shrink_memory", err);
}

static void one_that_is_damaged_while_dutd_runs_is_made_anew(void **state)
{
	struct fixture *f = *state;
	const struct records_work work = { .read = damage, .done = on_done, .data = f };

	write_state(f, f->jobs_fd, "7.json", record);
	open_again(f);
	assert_int_equal(records_run(f->records, &work, NULL), 0);
	await(f, 1);
	log_set_sink(keep_line, f->line);
	assert_int_equal(jobs_in_database(f), 1);
	log_set_sink(NULL, NULL);
	assert_non_null(strstr(f->line, "dutd.db.broken-1"));
	add_audit(f, "alice", "b1", "reserve");
	await(f, 2);
	assert_int_equal(f->r, 0);
}

static int become_newer(struct database *database, void *data, struct error *err)
{
	(void)data;
	return database_run(database, err,
			    "INSERT INTO schema (version, time_us, dutd) VALUES (99, 0, '9.0')",
			    "");
}

static void that_of_a_newer_dutd_is_refused_and_left_alone(void **state)
{
	struct fixture *f = *state;
	const struct records_work work = { .write = become_newer, .done = on_done, .data = f };
	const struct records_config config = {
		.event = f->event,
		.state_dir = f->folder,
		.state_fd = f->state_fd,
		.jobs_fd = f->jobs_fd,
	};

	assert_int_equal(records_run(f->records, &work, NULL), 0);
	await(f, 1);
	f->records = records_free(f->records);
	assert_int_equal(records_open(&f->records, &config, &f->err), -ENOTSUP);
	assert_non_null(strstr(f->err.text, "dutd.db has version 99"));
	assert_non_null(strstr(f->err.text, "newer dutd"));
	assert_int_not_equal(faccessat(f->state_fd, "dutd.db.broken-1", F_OK, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(audit_is_listed_youngest_first_and_by_dut, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(audit_keeps_so_many_and_no_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_question_that_is_open_at_the_end_is_answered,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_was_asked_for_is_written_when_dutd_leaves,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(work_is_done_in_order_and_fails_alone, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_damaged_one_is_moved_aside_and_made_anew, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_lost_one_is_made_anew_and_an_empty_one_is_no_loss,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_that_is_damaged_while_dutd_runs_is_made_anew,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(that_of_a_newer_dutd_is_refused_and_left_alone,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

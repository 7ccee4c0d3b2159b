/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "dut/history.h"

struct fixture {
	char path[64];
	int console_fd, jobs_fd;
	struct history history;
};

static void put(int dir_fd, const char *name, const char *text)
{
	close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	(void)snprintf(f->path, sizeof(f->path), "/tmp/test-history.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->jobs_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(file_make_dir(&f->console_fd, f->jobs_fd, "console", 0700, NULL), 0);
	f->history = (struct history){ .console_dir_fd = f->console_fd, .jobs_dir_fd = f->jobs_fd };
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	history_done(&f->history);
	(void)close_fd(f->console_fd);
	(void)close_fd(f->jobs_fd);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

/* "one" idle at 0, "job-17" in a job's log at 3, an empty idle segment at 9, "two" after it in
 * job 18. */
static void fill(struct fixture *f)
{
	put(f->console_fd, "0.log", "one");
	put(f->console_fd, "9.log", "");
	put(f->console_fd, "9.idx", "dut-idx");
	put(f->console_fd, "x.log", "not ours");
	assert_int_equal(mkdirat(f->jobs_fd, "17", 0700), 0);
	assert_int_equal(mkdirat(f->jobs_fd, "18", 0700), 0);
	put(f->jobs_fd, "17/console.log", "job-17");
	put(f->jobs_fd, "18/console.log", "two");
	assert_int_equal(history_scan(&f->history, NULL), 0);
	assert_int_equal(history_add(&f->history, 3, 17, NULL), 0);
	assert_int_equal(history_add(&f->history, 9, 18, NULL), 0);
	assert_int_equal(history_add(&f->history, 9, 18, NULL), 0); /* noted once */
}

static void read_all(struct fixture *f, uint64_t offset, const char *expected)
{
	struct history_cursor cursor;
	char text[64] = "";
	size_t used = 0;
	ssize_t n;

	history_cursor_init(&cursor, offset);
	while ((n = history_read(&f->history, &cursor, text + used, 4, NULL)) > 0)
		used += (size_t)n;
	assert_int_equal(n, 0);
	history_cursor_done(&cursor);
	assert_string_equal(text, expected);
}

static void a_reader_goes_over_all_segments(void **state)
{
	struct fixture *f = *state;

	fill(f);
	assert_int_equal(f->history.count, 4);
	assert_int_equal(history_end(&f->history), 12);
	read_all(f, 0, "onejob-17two");
	read_all(f, 5, "b-17two");
	read_all(f, 10, "wo");
	read_all(f, 12, "");
}

static void a_reader_goes_on_when_more_comes(void **state)
{
	struct fixture *f = *state;
	struct history_cursor cursor;
	char byte;

	fill(f);
	history_cursor_init(&cursor, 12);
	assert_int_equal(history_read(&f->history, &cursor, &byte, 1, NULL), 0);
	put(f->jobs_fd, "18/console.log", "two!");
	assert_int_equal(history_read(&f->history, &cursor, &byte, 1, NULL), 1);
	assert_int_equal(byte, '!');
	assert_int_equal(history_read(&f->history, &cursor, &byte, 1, NULL), 0);
	put(f->console_fd, "13.log", "?");
	assert_int_equal(history_add(&f->history, 13, 0, NULL), 0);
	assert_int_equal(history_read(&f->history, &cursor, &byte, 1, NULL), 1);
	assert_int_equal(byte, '?');
	history_cursor_done(&cursor);
}

static void what_is_not_kept_any_more_is_jumped_over(void **state)
{
	struct fixture *f = *state;

	put(f->console_fd, "100.log", "late");
	assert_int_equal(history_scan(&f->history, NULL), 0);
	assert_int_equal(history_clamp(&f->history, 0), 100);
	read_all(f, 7, "late");
	/* A job's folder that is gone leaves a hole. */
	assert_int_equal(history_add(&f->history, 50, 99, NULL), 0);
	read_all(f, 50, "late");
}

static void a_job_does_not_reach_beyond_its_loan(void **state)
{
	struct fixture *f = *state;

	fill(f);
	put(f->jobs_fd, "17/console.log", "job-17 and more that it wrote itself");
	read_all(f, 0, "onejob-17two");
	assert_int_equal(history_end(&f->history), 12);
}

static void put_job(struct fixture *f, uint64_t base, uint64_t job, const char *text)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "%u", (unsigned)job);
	(void)mkdirat(f->jobs_fd, path, 0700);
	(void)snprintf(path, sizeof(path), "%u/console.log", (unsigned)job);
	put(f->jobs_fd, path, text);
	assert_int_equal(history_add(&f->history, base, job, NULL), 0);
}

static void a_job_that_received_nothing_hides_nothing(void **state)
{
	struct fixture *f = *state;

	/* The idle segment goes on at the base where it was interrupted. */
	put(f->console_fd, "0.log", "");
	assert_int_equal(history_scan(&f->history, NULL), 0);
	put_job(f, 0, 17, "");
	put(f->console_fd, "0.log", "idle again");
	assert_int_equal(history_add(&f->history, 0, 0, NULL), 0);
	assert_int_equal(history_end(&f->history), 10);
	read_all(f, 0, "idle again");
	read_all(f, 5, "again");
	/* What comes after it is behind it. */
	put_job(f, 10, 18, "");
	put_job(f, 10, 19, " job-19");
	read_all(f, 0, "idle again job-19");
	assert_int_equal(history_end(&f->history), 17);
}

static void a_job_that_was_begun_again_has_two_segments(void **state)
{
	struct fixture *f = *state;

	put_job(f, 0, 17, "first");
	read_all(f, 0, "first");
	/* Its files are renamed, the idle console and the second attempt follow. */
	assert_int_equal(history_set_aside(&f->history, 0, 17, 1, NULL), 0);
	assert_int_equal(f->history.count, 1);
	put(f->jobs_fd, "17/console.1.log", "first");
	put(f->console_fd, "5.log", "-idle-");
	assert_int_equal(history_add(&f->history, 5, 0, NULL), 0);
	put_job(f, 11, 17, "second");
	read_all(f, 0, "first-idle-second");
	assert_int_equal(history_end(&f->history), 17);
	/* As an attempt is found by a dutd that has just been started. */
	assert_int_equal(history_set_aside(&f->history, 0, 17, 1, NULL), 0);
	assert_int_equal(f->history.count, 3);
}

static void an_attempt_that_received_nothing_hides_nothing(void **state)
{
	struct fixture *f = *state;

	put_job(f, 0, 17, "third");
	put(f->jobs_fd, "17/console.1.log", "");
	put(f->jobs_fd, "17/console.2.log", "");
	assert_int_equal(history_set_aside(&f->history, 0, 17, 2, NULL), 0);
	assert_int_equal(history_set_aside(&f->history, 0, 17, 1, NULL), 0);
	put_job(f, 0, 17, "third");
	read_all(f, 0, "third");
	assert_int_equal(history_end(&f->history), 5);
}

static void the_order_in_which_jobs_are_found_does_not_matter(void **state)
{
	struct fixture *f = *state;

	put(f->console_fd, "0.log", "");
	put_job(f, 0, 19, "late");
	put_job(f, 0, 18, "what it wrote itself");
	put_job(f, 0, 17, "");
	assert_int_equal(history_scan(&f->history, NULL), 0);
	read_all(f, 0, "late");
	assert_int_equal(history_end(&f->history), 4);
}

static void a_reader_at_the_end_follows_into_the_next_segment(void **state)
{
	struct fixture *f = *state;
	struct history_cursor cursor;
	char text[8];

	/* It waits in an idle segment without a byte when a job gets the console, and gives it
	 * back. */
	put(f->console_fd, "0.log", "");
	assert_int_equal(history_scan(&f->history, NULL), 0);
	history_cursor_init(&cursor, 0);
	assert_int_equal(history_read(&f->history, &cursor, text, sizeof(text), NULL), 0);
	put_job(f, 0, 17, "");
	assert_int_equal(history_read(&f->history, &cursor, text, sizeof(text), NULL), 0);
	put(f->jobs_fd, "17/console.log", "job");
	assert_int_equal(history_read(&f->history, &cursor, text, sizeof(text), NULL), 3);
	put_job(f, 3, 18, "");
	assert_int_equal(history_read(&f->history, &cursor, text, sizeof(text), NULL), 0);
	put(f->console_fd, "3.log", "idle");
	assert_int_equal(history_add(&f->history, 3, 0, NULL), 0);
	assert_int_equal(history_read(&f->history, &cursor, text, sizeof(text), NULL), 4);
	assert_memory_equal(text, "idle", 4);
	history_cursor_done(&cursor);
}

static void nothing_at_all_is_an_empty_history(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(history_scan(&f->history, NULL), 0);
	assert_int_equal(history_end(&f->history), 0);
	assert_int_equal(history_clamp(&f->history, 7), 7);
	read_all(f, 0, "");
}

static void a_link_in_a_jobs_folder_is_not_followed(void **state)
{
	struct fixture *f = *state;
	struct history_cursor cursor;
	char byte;

	fill(f);
	assert_int_equal(unlinkat(f->jobs_fd, "17/console.log", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", f->jobs_fd, "17/console.log"), 0);
	history_cursor_init(&cursor, 3);
	assert_true(history_read(&f->history, &cursor, &byte, 1, NULL) < 0);
	history_cursor_done(&cursor);
}

static void what_was_removed_is_not_read(void **state)
{
	struct fixture *f = *state;
	struct history_cursor cursor;
	char bytes[4];

	put(f->console_fd, "0.log", "one");
	put(f->console_fd, "3.log", "two");
	put(f->console_fd, "9.log", "end");
	assert_int_equal(history_scan(&f->history, NULL), 0);
	assert_int_equal(f->history.count, 3);
	history_remove_idle(&f->history, 3);
	history_remove_idle(&f->history, 4);
	assert_int_equal(f->history.count, 2);
	/* A reader is told where it will begin. */
	assert_int_equal(history_locate(&f->history, 2), 2);
	assert_int_equal(history_locate(&f->history, 3), 9);
	assert_int_equal(history_locate(&f->history, 8), 9);
	assert_int_equal(history_locate(&f->history, 12), 12);
	history_cursor_init(&cursor, 3);
	assert_int_equal(history_read(&f->history, &cursor, bytes, 4, NULL), 3);
	assert_memory_equal(bytes, "end", 3);
	history_cursor_done(&cursor);
	history_remove_idle(&f->history, 0);
	assert_int_equal(history_locate(&f->history, 0), 9);
	assert_int_equal(history_add(&f->history, 3, 17, NULL), 0);
	assert_int_equal(history_set_aside(&f->history, 1, 17, 1, NULL), 0);
	assert_int_equal(history_add(&f->history, 20, 18, NULL), 0);
	history_remove_job(&f->history, 17);
	assert_int_equal(f->history.count, 2);
	assert_int_equal(f->history.segments[1].job, 18);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_reader_goes_over_all_segments),
		TEST(a_reader_goes_on_when_more_comes),
		TEST(what_is_not_kept_any_more_is_jumped_over),
		TEST(a_job_does_not_reach_beyond_its_loan),
		TEST(a_job_that_received_nothing_hides_nothing),
		TEST(a_job_that_was_begun_again_has_two_segments),
		TEST(an_attempt_that_received_nothing_hides_nothing),
		TEST(the_order_in_which_jobs_are_found_does_not_matter),
		TEST(a_reader_at_the_end_follows_into_the_next_segment),
		TEST(nothing_at_all_is_an_empty_history),
		TEST(a_link_in_a_jobs_folder_is_not_followed),
		TEST(what_was_removed_is_not_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "dut/filebatch.h"

struct fixture {
	char folder[64];
	int dir_fd;
	struct filebatch *files;
	struct error err;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->folder, sizeof(f->folder), "/tmp/test-filebatch-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	f->dir_fd = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(filebatch_new(&f->files, f->dir_fd, NULL), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	filebatch_free(f->files);
	assert_int_equal(folder_clear(f->dir_fd, NULL), 0);
	(void)close_fd(f->dir_fd);
	assert_int_equal(rmdir(f->folder), 0);
	free(f);
	return 0;
}

static int write_text(struct fixture *f, enum filebatch_kind kind, const char *name,
		      const char *text)
{
	return filebatch_write(f->files, kind, f->dir_fd, name, text, strlen(text), 0640, &f->err);
}

static void assert_text(struct fixture *f, const char *name, const char *expected)
{
	free_ char *text = NULL;

	assert_int_equal(file_read_beneath(&text, NULL, f->dir_fd, name, 100, &f->err), 0);
	assert_string_equal(text, expected);
}

static bool is_there(const struct fixture *f, const char *name)
{
	return faccessat(f->dir_fd, name, F_OK, 0) == 0;
}

static void a_replacement_appears_when_it_is_synced(void **state)
{
	struct fixture *f = *state;
	struct stat status;

	assert_int_equal(file_replace(f->dir_fd, "a", "old", 3, 0600, NULL), 0);
	filebatch_set_owner(f->files, "x");
	assert_int_equal(write_text(f, FILEBATCH_REPLACE, "a", "new"), 0);
	assert_int_equal(write_text(f, FILEBATCH_NEW, "b", "text"), 0);
	assert_text(f, "a", "old");
	filebatch_sync(f->files);
	assert_int_equal(filebatch_result(f->files, "x", &f->err), 0);
	assert_text(f, "a", "new");
	assert_text(f, "b", "text");
	assert_false(is_there(f, ".a.tmp"));
	assert_int_equal(fstatat(f->dir_fd, "a", &status, 0), 0);
	assert_int_equal(status.st_mode & 0777, 0640);
}

static void the_last_of_several_replacements_counts_for_all(void **state)
{
	struct fixture *f = *state;
	static const char first[] = "1", second[] = "2";

	filebatch_set_owner(f->files, first);
	assert_int_equal(write_text(f, FILEBATCH_REPLACE, "a", "one"), 0);
	filebatch_set_owner(f->files, second);
	assert_int_equal(write_text(f, FILEBATCH_RESERVED, "a", "two"), 0);
	filebatch_sync(f->files);
	assert_int_equal(filebatch_result(f->files, first, &f->err), 0);
	assert_int_equal(filebatch_result(f->files, second, &f->err), 0);
	assert_text(f, "a", "two");
}

static void one_that_fails_fails_its_owner_alone(void **state)
{
	struct fixture *f = *state;
	static const char good[] = "good", bad[] = "bad";
	close_ int pipe_end = -1;
	int pipes[2];

	filebatch_set_owner(f->files, bad);
	assert_int_equal(write_text(f, FILEBATCH_REPLACE, "a", "text"), 0);
	/* What cannot be synced. */
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pipe_end = pipes[0];
	assert_int_equal(filebatch_add(f->files, pipes[1], &f->err), 0);
	filebatch_set_owner(f->files, good);
	assert_int_equal(write_text(f, FILEBATCH_REPLACE, "b", "text"), 0);
	filebatch_sync(f->files);
	assert_int_equal(filebatch_result(f->files, bad, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.text, "cannot sync"));
	assert_int_equal(filebatch_result(f->files, good, &f->err), 0);
	assert_text(f, "b", "text");
}

static void a_new_one_must_not_be_there(void **state)
{
	struct fixture *f = *state;

	filebatch_set_owner(f->files, "x");
	assert_int_equal(file_replace(f->dir_fd, "a", "old", 3, 0600, NULL), 0);
	assert_int_equal(write_text(f, FILEBATCH_NEW, "a", "new"), -EEXIST);
	assert_string_equal(f->err.text, "cannot create a: File exists");
	assert_int_equal(write_text(f, FILEBATCH_REPLACE,
				    "a-name-that-is-longer-than-those-that-are-needed-here", "x"),
			 -ENAMETOOLONG);
	filebatch_sync(f->files);
	assert_text(f, "a", "old");
}

static void what_is_not_synced_leaves_what_was_there(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(file_replace(f->dir_fd, "a", "old", 3, 0600, NULL), 0);
	filebatch_set_owner(f->files, "x");
	assert_int_equal(write_text(f, FILEBATCH_REPLACE, "a", "new"), 0);
	f->files = filebatch_free(f->files);
	assert_text(f, "a", "old");
	/* And what is left of it is in nobody's way. */
	assert_int_equal(filebatch_new(&f->files, f->dir_fd, NULL), 0);
	assert_int_equal(write_text(f, FILEBATCH_REPLACE, "a", "newer"), 0);
	filebatch_sync(f->files);
	assert_text(f, "a", "newer");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_replacement_appears_when_it_is_synced, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(the_last_of_several_replacements_counts_for_all,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_that_fails_fails_its_owner_alone, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_new_one_must_not_be_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_not_synced_leaves_what_was_there, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

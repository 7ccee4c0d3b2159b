/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/folder.h"

/* What a job may have made of its folder, for whoever has to remove it. */

enum { OTHER_UID = 65533, DEPTH = 20 * FOLDER_DEPTH_MAX };

static char path[] = "/tmp/test-folder-XXXXXX";
static int top_fd = -1;

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(path))
		return -1;
	top_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return top_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	top_fd = close_fd(top_fd);
	return rmdir(path);
}

static void touch(int dir_fd, const char *name)
{
	close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
}

/* Goes one down, into a folder that is made. */
static void make_inner(int *fd, const char *name)
{
	int inner;

	assert_int_equal(mkdirat(*fd, name, 0700), 0);
	inner = openat(*fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(inner >= 0);
	(void)close_fd(*fd);
	*fd = inner;
}

static void nothing_lies_too_deep(void **state)
{
	int fd = openat(top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error err = { "" };

	(void)state;
	/* Names that are in the way. */
	touch(top_fd, ".deep-0");
	assert_int_equal(mkdirat(top_fd, ".deep-1", 0700), 0);
	touch(top_fd, ".deep-1/file");
	for (unsigned i = 0; i < DEPTH; i++) {
		make_inner(&fd, "inner");
		touch(fd, "file");
	}
	fd = close_fd(fd);
	if (folder_clear(top_fd, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(folder_is_empty(top_fd, NULL), 1);
}

/* In a child, because root does not notice. */
static int clear_shut(void)
{
	int fd;

	if (geteuid() == 0 && (fchown(top_fd, OTHER_UID, OTHER_UID) < 0 ||
			       setresuid(OTHER_UID, OTHER_UID, OTHER_UID) < 0))
		return 1;
	fd = openat(top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_inner(&fd, "shut");
	touch(fd, "file");
	make_inner(&fd, "inner");
	touch(fd, "file");
	if (fchmod(fd, 0500) < 0 || fchmodat(top_fd, "shut", 0, 0) < 0)
		return 2;
	(void)close_fd(fd);
	return folder_clear(top_fd, NULL) < 0 ? 3 : 0;
}

static void what_is_shut_goes_too(void **state)
{
	pid_t pid = fork();
	int status = -1;

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(clear_shut());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(folder_is_empty(top_fd, NULL), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_lies_too_deep),
		cmocka_unit_test(what_is_shut_goes_too),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

struct fixture {
	char path[64];
	int dir_fd;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	(void)snprintf(f->path, sizeof(f->path), "/tmp/test-file-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dir_fd >= 0);
	*state = f;
	return 0;
}

static void remove_below(int dir_fd)
{
	closedir_ DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (entry->d_type == DT_DIR) {
			close_ int below =
				openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			remove_below(below);
			(void)unlinkat(dir_fd, entry->d_name, AT_REMOVEDIR);
		} else {
			(void)unlinkat(dir_fd, entry->d_name, 0);
		}
	}
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	remove_below(f->dir_fd);
	(void)close(f->dir_fd);
	(void)rmdir(f->path);
	free(f);
	return 0;
}

static void put(const struct fixture *f, const char *name, const void *data, size_t length)
{
	close_ int fd = openat(f->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	struct error err;

	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, data, length, &err), 0);
}

static mode_t mode_of(const struct fixture *f, const char *name)
{
	struct stat status;

	assert_int_equal(fstatat(f->dir_fd, name, &status, AT_SYMLINK_NOFOLLOW), 0);
	return status.st_mode & 07777;
}

static unsigned entries(const struct fixture *f)
{
	closedir_ DIR *dir = fdopendir(openat(f->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	unsigned count = 0;

	while (readdir(dir))
		count++;
	return count - 2;
}

static void a_file_beneath_is_opened_and_read(void **state)
{
	struct fixture *f = *state;
	free_ char *text = NULL;
	close_ int fd = -1;
	struct error err;
	size_t length;

	assert_int_equal(mkdirat(f->dir_fd, "below", 0755), 0);
	put(f, "below/file", "a\0b", 3);
	assert_int_equal(file_read_beneath(&text, &length, f->dir_fd, "below/file", 3, &err), 0);
	assert_int_equal(length, 3);
	assert_memory_equal(text, "a\0b", 4);
	assert_int_equal(file_open_beneath(&fd, f->dir_fd, "below/file", O_RDWR, &err), 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	(void)close_fd(take_fd(&fd));
	assert_int_equal(file_open_beneath(&fd, f->dir_fd, "below", O_RDONLY | O_DIRECTORY, &err),
			 0);
}

static void links_and_ways_out_are_refused(void **state)
{
	struct fixture *f = *state;
	struct error err;
	int fd = -1;

	put(f, "file", "x", 1);
	assert_int_equal(symlinkat("file", f->dir_fd, "link"), 0);
	assert_int_equal(symlinkat(".", f->dir_fd, "here"), 0);
	assert_int_equal(file_open_beneath(&fd, f->dir_fd, "link", O_RDONLY, &err), -ELOOP);
	assert_string_equal(err.text, "cannot open link: Too many levels of symbolic links");
	assert_int_equal(file_open_beneath(&fd, f->dir_fd, "here/file", O_RDONLY, &err), -ELOOP);
	assert_int_equal(file_open_beneath(&fd, f->dir_fd, "../file", O_RDONLY, &err), -EXDEV);
	assert_int_equal(file_open_beneath(&fd, f->dir_fd, "/etc/passwd", O_RDONLY, &err), -EXDEV);
	assert_int_equal(file_open_beneath(&fd, f->dir_fd, "none", O_RDONLY, &err), -ENOENT);
	assert_int_equal(fd, -1);
}

static void what_is_no_regular_file_is_refused_without_waiting(void **state)
{
	struct fixture *f = *state;
	struct error err;
	int fd = -1;

	assert_int_equal(mkfifoat(f->dir_fd, "fifo", 0644), 0);
	assert_int_equal(file_open_beneath(&fd, f->dir_fd, "fifo", O_RDONLY, &err), -EINVAL);
	assert_string_equal(err.text, "fifo is not a regular file");
	assert_int_equal(mkdirat(f->dir_fd, "folder", 0755), 0);
	assert_int_equal(file_open_beneath(&fd, f->dir_fd, "folder", O_RDONLY, &err), -EINVAL);
	assert_int_equal(fd, -1);
}

static void a_file_longer_than_the_limit_is_refused(void **state)
{
	struct fixture *f = *state;
	char *text = NULL;
	struct error err;

	put(f, "file", "12345", 5);
	assert_int_equal(file_read_beneath(&text, NULL, f->dir_fd, "file", 4, &err), -EFBIG);
	assert_string_equal(err.text, "file: longer than 4 bytes");
	assert_null(text);
	assert_int_equal(file_read_beneath(&text, NULL, f->dir_fd, "file", 5, &err), 0);
	assert_string_equal(text, "12345");
	free(text);
}

static void a_file_whose_size_is_unknown_is_read_whole(void **state)
{
	close_ int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	close_ int proc = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *text = NULL;
	size_t length = 0;
	struct error err;

	(void)state;
	assert_int_equal(file_read_fd(&text, &length, fd, 65536, &err), 0);
	assert_int_equal(length, strlen(text));
	assert_non_null(strstr(text, "nonvoluntary_ctxt_switches:"));
	free(text);
	assert_int_equal(file_read_beneath(&text, &length, proc, "status", 65536, &err), 0);
	assert_int_equal(length, strlen(text));
	assert_non_null(strstr(text, "nonvoluntary_ctxt_switches:"));
	free(text);
}

static void a_long_pipe_is_read_to_its_end(void **state)
{
	enum { LENGTH = 60000 };
	free_ char *sent = malloc(LENGTH), *got = NULL;
	struct error err;
	size_t length;
	int pipes[2];

	(void)state;
	for (unsigned i = 0; i < LENGTH; i++)
		sent[i] = (char)(i % 251);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(file_write_all(pipes[1], sent, LENGTH, &err), 0);
	(void)close(pipes[1]);
	assert_int_equal(file_read_fd(&got, &length, pipes[0], 1 << 20, &err), 0);
	assert_int_equal(length, LENGTH);
	assert_memory_equal(sent, got, LENGTH);
	(void)close(pipes[0]);
}

static void a_replaced_file_is_whole_and_has_its_mode(void **state)
{
	struct fixture *f = *state;
	free_ char *text = NULL;
	mode_t mask = umask(077);
	struct error err;

	put(f, "file", "the old text", 12);
	put(f, ".file.tmp", "left by a crash", 15);
	assert_int_equal(file_replace(f->dir_fd, "file", "new", 3, 0644, &err), 0);
	(void)umask(mask);
	assert_int_equal(file_read_beneath(&text, NULL, f->dir_fd, "file", 100, &err), 0);
	assert_string_equal(text, "new");
	assert_int_equal(mode_of(f, "file"), 0644);
	assert_int_equal(entries(f), 1);
}

static void a_file_that_cannot_be_replaced_stays(void **state)
{
	struct fixture *f = *state;
	struct error err;

	assert_int_equal(mkdirat(f->dir_fd, "file", 0755), 0);
	assert_int_equal(file_replace(f->dir_fd, "file", "new", 3, 0644, &err), -EISDIR);
	assert_string_equal(err.text, "cannot rename .file.tmp to file: Is a directory");
	assert_int_equal(entries(f), 1);
}

static void a_folder_is_made_with_its_parents(void **state)
{
	struct fixture *f = *state;
	mode_t mask = umask(077);
	char path[128];
	struct error err;
	int fd = -1;

	assert_int_equal(file_make_dir(&fd, f->dir_fd, "a//b/c", 0750, &err), 0);
	(void)umask(mask);
	assert_int_equal(fcntl(fd, F_GETFL) & O_PATH, 0);
	(void)close(fd);
	assert_int_equal(mode_of(f, "a"), 0750);
	assert_int_equal(mode_of(f, "a/b/c"), 0750);

	(void)snprintf(path, sizeof(path), "%s/a/b/c", f->path);
	assert_int_equal(file_make_dir(&fd, AT_FDCWD, path, 0700, &err), 0);
	(void)close(fd);
	assert_int_equal(mode_of(f, "a/b/c"), 0750);

	put(f, "file", "", 0);
	assert_int_equal(file_make_dir(&fd, f->dir_fd, "file/below", 0700, &err), -ENOTDIR);
	assert_string_equal(err.text, "file/below: cannot enter the folder file: Not a directory");
}

static void a_socket_is_bound_and_found_below_a_long_path(void **state)
{
	struct fixture *f = *state;
	char long_name[121] = { 0 };
	int dir_fd = -1, listen_fd = -1, fd = -1;
	struct error err;

	memset(long_name, 'x', sizeof(long_name) - 1);
	assert_int_equal(file_make_dir(&dir_fd, f->dir_fd, long_name, 0700, &err), 0);
	put(f, "stale", "", 0);
	assert_int_equal(file_connect_socket(&fd, dir_fd, "socket", SOCK_STREAM, &err), -ENOENT);
	assert_int_equal(file_bind_socket(&listen_fd, dir_fd, "socket", SOCK_STREAM, 0666, &err),
			 0);
	assert_int_equal(file_connect_socket(&fd, dir_fd, "socket", SOCK_STREAM, &err),
			 -ECONNREFUSED);
	assert_string_equal(err.text, "cannot connect to socket: Connection refused");
	(void)close(listen_fd);

	/* The name is taken over from one that nobody uses any more. */
	assert_int_equal(file_bind_socket(&listen_fd, dir_fd, "socket", SOCK_STREAM, 0620, &err),
			 0);
	assert_int_equal(listen(listen_fd, 1), 0);
	assert_int_equal(file_connect_socket(&fd, dir_fd, "socket", SOCK_STREAM, &err), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	(void)close(fd);
	(void)close(listen_fd);
	{
		struct stat status;

		assert_int_equal(fstatat(dir_fd, "socket", &status, 0), 0);
		assert_true(S_ISSOCK(status.st_mode));
		assert_int_equal(status.st_mode & 07777, 0620);
	}
	assert_int_equal(file_bind_socket(&listen_fd, dir_fd, long_name, SOCK_STREAM, 0600, &err),
			 -ENAMETOOLONG);
	(void)close(dir_fd);
}

static void a_lock_has_one_holder_and_ends_with_its_last_copy(void **state)
{
	struct fixture *f = *state;
	int first = -1, second = -1, copy;
	struct error err;

	assert_int_equal(file_lock(&first, f->dir_fd, "lock", &err), 0);
	assert_int_equal(mode_of(f, "lock"), 0600);
	assert_int_equal(file_lock(&second, f->dir_fd, "lock", &err), -EWOULDBLOCK);
	assert_string_equal(err.text, "lock is locked by another process");
	copy = dup(first);
	(void)close(first);
	assert_int_equal(file_lock(&second, f->dir_fd, "lock", &err), -EWOULDBLOCK);
	(void)close(copy);
	assert_int_equal(file_lock(&second, f->dir_fd, "lock", &err), 0);
	(void)close(second);
}

static void a_record_is_appended_whole_or_not_at_all(void **state)
{
	const struct fixture *f = *state;
	struct rlimit old, tight;
	char got[32];
	struct error err;
	int fd = openat(f->dir_fd, "records", O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	/* A limit on file size cuts a write at the same place as a full disk does. */
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight = (struct rlimit){ .rlim_cur = 10, .rlim_max = old.rlim_max };
	assert_int_equal(file_append(fd, "first\n", 6, &err), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	assert_int_equal(file_append(fd, "second\n", 7, &err), -ENOSPC);
	assert_string_equal(err.text, "cannot append: No space left on device");
	assert_int_equal(file_append(fd, "3rd\n", 4, &err), 0);
	assert_int_equal(file_append(fd, "4\n", 2, &err), -EFBIG);
	assert_string_equal(err.text, "cannot append: File too large");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(file_append(fd, "5\n", 2, &err), 0);
	assert_int_equal(pread(fd, got, sizeof(got), 0), 12);
	assert_memory_equal(got, "first\n3rd\n5\n", 12);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_file_beneath_is_opened_and_read, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(links_and_ways_out_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_regular_file_is_refused_without_waiting,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_file_longer_than_the_limit_is_refused, set_up,
						tear_down),
		cmocka_unit_test(a_file_whose_size_is_unknown_is_read_whole),
		cmocka_unit_test(a_long_pipe_is_read_to_its_end),
		cmocka_unit_test_setup_teardown(a_replaced_file_is_whole_and_has_its_mode, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_record_is_appended_whole_or_not_at_all, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_file_that_cannot_be_replaced_stays, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_folder_is_made_with_its_parents, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_socket_is_bound_and_found_below_a_long_path,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_lock_has_one_holder_and_ends_with_its_last_copy,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

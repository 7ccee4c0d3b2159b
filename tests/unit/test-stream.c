/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/stream.h"

struct fixture {
	char path[64];
	int dir_fd;
	int board; /* the board's end of the console */
	int console, pipes[2];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2];

	(void)strcpy(f->path, "/tmp/test-stream.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	f->board = pair[0];
	f->console = pair[1];
	assert_int_equal(fcntl(f->console, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(pipe2(f->pipes, O_CLOEXEC | O_NONBLOCK), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	(void)close_fd(f->board);
	(void)close_fd(f->dir_fd);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static struct stream *open_attached(struct fixture *f, uint64_t base)
{
	struct stream *stream = NULL;
	struct error err;

	assert_int_equal(stream_open(&stream, f->dir_fd, "console", base, &err), 0);
	assert_int_equal(stream_attach(stream, f->console, f->pipes[0], f->pipes[1], &err), 0);
	return stream;
}

static char *read_index(struct fixture *f)
{
	static char text[4096];
	close_ int fd = openat(f->dir_fd, "console.idx", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	assert_true(n > 0);
	text[n] = '\0';
	return text;
}

static void every_byte_value_goes_into_the_log_as_it_is(void **state)
{
	struct fixture *f = *state;
	struct stream *stream = open_attached(f, 1000);
	char sent[256], got[300];
	struct error err;

	for (unsigned i = 0; i < sizeof(sent); i++)
		sent[i] = (char)i;
	assert_int_equal(write(f->board, sent, sizeof(sent)), sizeof(sent));
	assert_int_equal(stream_pump(stream, &err), sizeof(sent));
	assert_int_equal(stream_pump(stream, &err), 0);
	assert_int_equal(stream_offset(stream), 1256);
	assert_int_equal(stream_read(stream, 1000, got, sizeof(got), &err), sizeof(sent));
	assert_memory_equal(sent, got, sizeof(sent));
	assert_int_equal(stream_read(stream, 1256, got, sizeof(got), &err), 0);
	assert_int_equal(stream_read(stream, 999, got, sizeof(got), &err), -ERANGE);
	stream_close(stream);
}

static void the_index_says_when_and_what(void **state)
{
	struct fixture *f = *state;
	struct stream *stream = open_attached(f, 7);
	unsigned long long offset, time_us;
	struct error err;
	char *text;

	assert_int_equal(write(f->board, "hello", 5), 5);
	assert_int_equal(stream_pump(stream, &err), 5);
	assert_int_equal(stream_mark(stream, "power", json_pack("{s:s}", "state", "OFF"), &err), 0);
	text = read_index(f);
	assert_true(strncmp(text, "dut-idx 1 7 ", 12) == 0);
	text = strchr(text, '\n') + 1;
	assert_int_equal(sscanf(text, "t %llu %llu\n", &offset, &time_us), 2);
	assert_int_equal(offset, 7);
	text = strchr(text, '\n') + 1;
	assert_int_equal(sscanf(text, "m %llu %llu ", &offset, &time_us), 2);
	assert_int_equal(offset, 12);
	assert_non_null(strstr(text, "{\"kind\":\"power\",\"state\":\"OFF\"}\n"));
	stream_close(stream);
}

static void appends_wake_by_the_eventfd(void **state)
{
	struct fixture *f = *state;
	struct stream *stream = open_attached(f, 0);
	close_ int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct error err;
	uint64_t count;

	stream_set_wake_fd(stream, wake);
	assert_int_equal(stream_pump(stream, &err), 0);
	assert_int_equal(read(wake, &count, sizeof(count)), -1);
	assert_int_equal(write(f->board, "x", 1), 1);
	assert_int_equal(stream_pump(stream, &err), 1);
	assert_int_equal(read(wake, &count, sizeof(count)), sizeof(count));
	stream_close(stream);
}

static void the_end_of_the_console_comes_after_its_last_byte(void **state)
{
	struct fixture *f = *state;
	struct stream *stream = open_attached(f, 0);
	struct error err;

	assert_int_equal(write(f->board, "bye", 3), 3);
	f->board = close_fd(f->board);
	assert_int_equal(stream_pump(stream, &err), 3);
	assert_int_equal(stream_pump(stream, &err), -ENODATA);
	stream_close(stream);
}

static void a_hung_up_terminal_is_an_end(void **state)
{
	struct fixture *f = *state;
	struct stream *stream = NULL;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct error err;
	int slave;

	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	assert_true(slave >= 0);
	assert_int_equal(stream_open(&stream, f->dir_fd, "console", 0, &err), 0);
	assert_int_equal(stream_attach(stream, slave, f->pipes[0], f->pipes[1], &err), 0);
	assert_int_equal(write(master, "hi\n", 3), 3);
	assert_int_equal(stream_pump(stream, &err), 3);
	assert_int_equal(stream_pump(stream, &err), 0);
	(void)close(master);
	assert_int_equal(stream_pump(stream, &err), -ENODATA);
	(void)close(f->console);
	stream_close(stream);
}

static void a_log_goes_on_at_its_size_and_mends_a_torn_index(void **state)
{
	struct fixture *f = *state;
	struct stream *stream = open_attached(f, 50);
	struct error err;
	int fd;

	assert_int_equal(write(f->board, "first", 5), 5);
	assert_int_equal(stream_pump(stream, &err), 5);
	stream_close(stream);
	fd = openat(f->dir_fd, "console.idx", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "t 5", 3), 3);
	(void)close(fd);

	assert_int_equal(stream_open(&stream, f->dir_fd, "console", 50, &err), 0);
	assert_int_equal(stream_offset(stream), 55);
	assert_int_equal(stream_mark(stream, "job", NULL, &err), 0);
	assert_non_null(strstr(read_index(f), "t 5\nm 55 "));
	stream_close(stream);
}

static void a_full_disk_keeps_the_bytes_in_the_pipe(void **state)
{
	struct fixture *f = *state;
	struct stream *stream = open_attached(f, 0);
	struct rlimit old, tight = { 0 };
	char sent[5000], got[6000];
	struct error err;

	/* A limit on file size fails a write at the same place as a full disk does. */
	memset(sent, 'a', sizeof(sent));
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight = (struct rlimit){ .rlim_cur = 1000, .rlim_max = old.rlim_max };
	assert_int_equal(write(f->board, sent, sizeof(sent)), sizeof(sent));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	assert_true(stream_pump(stream, &err) < 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	while (stream_pump(stream, &err) > 0)
		;
	assert_int_equal(stream_offset(stream), sizeof(sent));
	assert_int_equal(stream_read(stream, 0, got, sizeof(got), &err), sizeof(sent));
	assert_memory_equal(sent, got, sizeof(sent));
	stream_close(stream);
}

/* A reader like the executor, until it is killed. */
static void read_until_killed(struct fixture *f)
{
	struct stream *stream = open_attached(f, 0);
	struct pollfd wait = { .fd = f->console, .events = POLLIN };
	struct error err;

	for (;;) {
		(void)poll(&wait, 1, -1);
		if (stream_pump(stream, &err) < 0)
			_exit(1);
	}
}

static void a_killed_reader_loses_and_doubles_nothing(void **state)
{
	struct fixture *f = *state;
	unsigned char buffer[4096];
	uint64_t sent = 0, size = 0;
	struct error err;
	int log;

	(void)fcntl(f->board, F_SETFL, O_NONBLOCK);
	for (unsigned round = 0; round < 30; round++) {
		uint64_t until = sent + 100000 + round * 7919;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0)
			read_until_killed(f);
		while (sent < until) {
			struct pollfd wait = { .fd = f->board, .events = POLLOUT };
			ssize_t n;

			for (unsigned i = 0; i < sizeof(buffer); i++)
				buffer[i] = (unsigned char)((sent + i) % 251);
			n = write(f->board, buffer, 1 + sent % sizeof(buffer));
			if (n > 0)
				sent += (uint64_t)n;
			else
				(void)poll(&wait, 1, -1);
		}
		(void)kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(
			stream_drain(f->pipes[0], f->dir_fd, "console", 0, UINT64_MAX, &size, &err),
			0);
	}
	/* What the board wrote and nobody has read yet is still in the socket. */
	{
		struct stream *stream = open_attached(f, 0);

		while (stream_pump(stream, &err) > 0)
			;
		assert_int_equal(stream_offset(stream), sent);
		stream_close(stream);
	}
	log = openat(f->dir_fd, "console.log", O_RDONLY | O_CLOEXEC);
	for (uint64_t at = 0; at < sent;) {
		ssize_t n = pread(log, buffer, sizeof(buffer), (off_t)at);

		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++, at++)
			if (buffer[i] != at % 251)
				fail_msg("byte %llu is not what was sent", (unsigned long long)at);
	}
	(void)close(log);
	assert_non_null(strstr(read_index(f), "\"event\":\"reader_died\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_byte_value_goes_into_the_log_as_it_is, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(the_index_says_when_and_what, set_up, tear_down),
		cmocka_unit_test_setup_teardown(appends_wake_by_the_eventfd, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_end_of_the_console_comes_after_its_last_byte,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_hung_up_terminal_is_an_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_log_goes_on_at_its_size_and_mends_a_torn_index,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_full_disk_keeps_the_bytes_in_the_pipe, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_killed_reader_loses_and_doubles_nothing, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

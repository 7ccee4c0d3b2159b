/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/spawn.h"

/* Runs a shell script with the write end of a pipe at `to`, and further fds; returns what it
 * wrote. */
static char *run(const char *script, int to, const struct spawn_fd *more, size_t n_more,
		 struct spawn_config config)
{
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, strdup(script), NULL };
	struct spawn_fd fds[16];
	struct error err;
	siginfo_t info;
	char *text = NULL;
	int pipes[2], pidfd = -1;
	pid_t pid = -1;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	fds[0] = (struct spawn_fd){ .from = pipes[1], .to = to };
	for (size_t i = 0; i < n_more; i++)
		fds[i + 1] = more[i];
	config.path = "/bin/sh";
	config.argv = argv;
	config.fds = fds;
	config.n_fds = n_more + 1;
	if (spawn(&pid, &pidfd, &config, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(pid > 0);
	assert_int_equal(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	(void)close(pipes[1]);
	if (file_read_fd(&text, NULL, pipes[0], 65536, &err) < 0)
		fail_msg("%s", err.text);
	(void)close(pipes[0]);
	assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
	assert_int_equal(info.si_pid, pid);
	(void)close(pidfd);
	free(argv[2]);
	return text;
}

static void a_child_has_exactly_the_fds_that_it_was_given(void **state)
{
	struct spawn_fd extra = { .to = 7 };
	close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int stray = fcntl(null, F_DUPFD, 4), far = fcntl(null, F_DUPFD, 200);
	free_ char *text = NULL;

	(void)state;
	/* The stray ones are not close-on-exec: one below and one above the highest that is given.
	 */
	assert_true(stray >= 4 && far >= 200);
	extra.from = null;
	text = run("n=0; while [ $n -lt 256 ]; do [ -e /proc/self/fd/$n ] && echo $n >&5; "
		   "n=$((n + 1)); done",
		   5, &extra, 1, (struct spawn_config){ 0 });
	assert_string_equal(text, "0\n1\n2\n5\n7\n");
	(void)close(stray);
	(void)close(far);
}

static void standard_input_is_empty_unless_it_is_given(void **state)
{
	free_ char *text =
		run("cat; readlink /proc/self/fd/0", 1, NULL, 0, (struct spawn_config){ 0 });
	free_ char *given = NULL;
	struct spawn_fd input = { .to = 0 };
	int pipes[2];

	(void)state;
	assert_string_equal(text, "/dev/null\n");
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(write(pipes[1], "hello", 5), 5);
	(void)close(pipes[1]);
	input.from = pipes[0];
	given = run("cat", 1, &input, 1, (struct spawn_config){ 0 });
	assert_string_equal(given, "hello");
	(void)close(pipes[0]);
}

static void sources_and_targets_may_cross(void **state)
{
	char names[4][32];
	struct spawn_fd fds[4];
	free_ char *text = NULL;

	(void)state;
	/* Four files at numbers 10..13, which the child gets in the opposite order. */
	for (int i = 0; i < 4; i++) {
		int fd = memfd_create("source", MFD_CLOEXEC);

		(void)snprintf(names[i], sizeof(names[i]), "%d", i);
		assert_int_equal(write(fd, names[i], 1), 1);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		assert_int_equal(dup3(fd, 10 + i, O_CLOEXEC), 10 + i);
		(void)close(fd);
		fds[i] = (struct spawn_fd){ .from = 10 + i, .to = 13 - i };
	}
	text = run("cat /proc/self/fd/10 /proc/self/fd/11 /proc/self/fd/12 /proc/self/fd/13", 1,
		   fds, ARRAY_SIZE(fds), (struct spawn_config){ 0 });
	assert_string_equal(text, "3210");
	for (int i = 0; i < 4; i++) {
		assert_int_equal(fcntl(10 + i, F_GETFD), FD_CLOEXEC);
		(void)close(10 + i);
	}
}

static unsigned long read_mask(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	assert_non_null(at);
	return strtoul(at + strlen(name), NULL, 16);
}

static void signals_are_unblocked_and_at_their_defaults(void **state)
{
	free_ char *text = NULL;
	sigset_t blocked, old;

	(void)state;
	(void)sigemptyset(&blocked);
	(void)sigaddset(&blocked, SIGTERM);
	(void)sigaddset(&blocked, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &blocked, &old);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGUSR1, SIG_IGN);
	/* Of grep, because a shell changes its own. */
	text = run("exec grep -E 'SigBlk|SigIgn' /proc/self/status", 1, NULL, 0,
		   (struct spawn_config){ 0 });
	assert_int_equal(read_mask(text, "SigBlk:"), 0);
	/* glibc's posix_spawn() leaves its own two signals, 32 and 33, ignored. */
	assert_int_equal(read_mask(text, "SigIgn:") & ~(3UL << 31), 0);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)signal(SIGUSR1, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
}

static void a_child_may_ignore_what_a_terminal_sends_and_we_do_not(void **state)
{
	const char *script =
		"kill -INT $$; kill -QUIT $$; kill -HUP $$; echo lives; kill -PIPE $$; "
		"echo on";
	free_ char *deaf = NULL, *other = NULL;
	struct sigaction now;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	deaf = run(script, 1, NULL, 0, (struct spawn_config){ .ignore_interrupt = true });
	other = run(script, 1, NULL, 0, (struct spawn_config){ 0 });
	assert_string_equal(deaf, "lives\n");
	assert_string_equal(other, "");
	assert_int_equal(sigaction(SIGINT, NULL, &now), 0);
	assert_ptr_equal(now.sa_handler, SIG_DFL);
	(void)signal(SIGPIPE, SIG_DFL);
}

static void a_child_may_lead_its_own_session(void **state)
{
	const char *script = "read -r pid name st ppid group session rest </proc/self/stat; "
			     "[ $$ = \"$session\" ] && echo leader || echo member";
	free_ char *own = run(script, 1, NULL, 0, (struct spawn_config){ .new_session = true });
	free_ char *ours = run(script, 1, NULL, 0, (struct spawn_config){ 0 });

	(void)state;
	assert_string_equal(own, "leader\n");
	assert_string_equal(ours, "member\n");
}

static void the_environment_is_ours_or_the_one_given(void **state)
{
	char variable[] = "COLOUR=green";
	char *const envp[] = { variable, NULL };
	free_ char *given = run("echo $COLOUR", 1, NULL, 0, (struct spawn_config){ .envp = envp });
	free_ char *ours = NULL;

	(void)state;
	assert_string_equal(given, "green\n");
	(void)setenv("COLOUR", "red", 1);
	ours = run("echo $COLOUR", 1, NULL, 0, (struct spawn_config){ 0 });
	assert_string_equal(ours, "red\n");
}

static void what_cannot_be_started_is_said_by_the_call(void **state)
{
	char *argv[] = { (char[]){ "none" }, NULL };
	struct spawn_config config = { .path = "/nonexistent/program", .argv = argv };
	struct spawn_fd fd = { .from = 999, .to = 3 };
	struct error err;
	int pidfd = -1;
	pid_t pid = -1;

	(void)state;
	assert_int_equal(spawn(&pid, &pidfd, &config, &err), -ENOENT);
	assert_string_equal(err.text,
			    "cannot start /nonexistent/program: No such file or directory");
	config.path = "/etc/passwd";
	assert_int_equal(spawn(&pid, &pidfd, &config, &err), -EACCES);
	config.fds = &fd;
	config.n_fds = 1;
	assert_int_equal(spawn(&pid, &pidfd, &config, &err), -EBADF);
	assert_string_equal(err.text, "cannot copy fd 999 for /etc/passwd: Bad file descriptor");
	assert_int_equal(pid, -1);
	assert_int_equal(pidfd, -1);
	/* Nothing is left to wait for. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void a_persons_command_leads_a_group_and_keeps_what_is_ignored(void **state)
{
	const struct spawn_config config = { .new_group = true, .keep_ignored = true };
	free_ char *text = NULL, *other = NULL;

	(void)state;
	assert_true(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
	text = run("set -- $(cat /proc/$$/stat); [ $5 = $$ ] && kill -USR1 $$ && echo lives", 1,
		   NULL, 0, config);
	other = run("kill -USR1 $$; echo lives", 1, NULL, 0, (struct spawn_config){ 0 });
	assert_true(signal(SIGUSR1, SIG_DFL) != SIG_ERR);
	assert_string_equal(text, "lives\n");
	assert_string_equal(other, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_has_exactly_the_fds_that_it_was_given),
		cmocka_unit_test(standard_input_is_empty_unless_it_is_given),
		cmocka_unit_test(sources_and_targets_may_cross),
		cmocka_unit_test(signals_are_unblocked_and_at_their_defaults),
		cmocka_unit_test(a_child_may_ignore_what_a_terminal_sends_and_we_do_not),
		cmocka_unit_test(a_child_may_lead_its_own_session),
		cmocka_unit_test(a_persons_command_leads_a_group_and_keeps_what_is_ignored),
		cmocka_unit_test(the_environment_is_ours_or_the_one_given),
		cmocka_unit_test(what_cannot_be_started_is_said_by_the_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

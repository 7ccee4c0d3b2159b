/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/spawn.h"
#include "base/text.h"

static const uint64_t TERM_US = UINT64_C(10) * 1000000;

enum { MAX_FDS = 4096 }; /* that we were started with */

struct command {
	sd_event *loop;
	char *const *argv;
	struct spawn_fd *fds;
	size_t n_fds;
	int terminal; /* ours, when we were started in its foreground; else -1 */
	pid_t pid;    /* and of its group; 0: not running */
	sd_event_source *child, *kill_timer;
	void (*on_end)(int status, void *data);
	void *data;
};

struct command *command_free(struct command *command)
{
	if (!command)
		return NULL;
	(void)sd_event_source_disable_unref(command->child);
	(void)sd_event_source_disable_unref(command->kill_timer);
	(void)close_fd(command->terminal);
	(void)sd_event_unref(command->loop);
	free(command->fds);
	free(command);
	return NULL;
}

/* ---- what it gets of us ---- */

static int add_fd(struct command *command, int fd, struct error *err)
{
	struct spawn_fd *fds;

	if (command->n_fds == MAX_FDS)
		return error_set(err, -EMFILE, "more than %d files are open", MAX_FDS);
	fds = reallocarray(command->fds, command->n_fds + 1, sizeof(*fds));
	if (!fds)
		return error_oom(err);
	fds[command->n_fds++] = (struct spawn_fd){ fd, fd };
	command->fds = fds;
	return 0;
}

static int note_fds(struct command *command, struct error *err)
{
	closedir_ DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	uint64_t number;
	int r = 0;

	if (!dir)
		return error_errno(err, "/proc/self/fd");
	while (r >= 0 && (entry = readdir(dir)))
		if (text_number_before(&number, entry->d_name, "") && (int)number != dirfd(dir) &&
		    (fcntl((int)number, F_GETFD) & FD_CLOEXEC) == 0)
			r = add_fd(command, (int)number, err);
	return r;
}

/* Only who has the terminal may give it away. */
static void note_terminal(struct command *command)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (fd >= 0 && tcgetpgrp(fd) == getpgrp())
		command->terminal = fd;
	else
		(void)close_fd(fd);
}

int command_new(struct command **ret, char *const *argv, struct error *err)
{
	cleanup_(command_freep) struct command *command = calloc(1, sizeof(*command));
	sigset_t set;
	int r;

	if (!command)
		return error_oom(err);
	command->argv = argv;
	command->terminal = -1;
	r = note_fds(command, err);
	if (r < 0)
		return r;
	note_terminal(command);
	/* TTOU: to take the terminal back is not to write to it. */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGTTOU);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_errno(err, "sigprocmask");
	*ret = take_ptr(command);
	return 0;
}

/* ---- its life ---- */

static void give_terminal(const struct command *command, pid_t group)
{
	if (command->terminal >= 0)
		(void)tcsetpgrp(command->terminal, group);
}

/* The shell that has started us sees us stop, and takes the terminal. */
static void stop_with_it(const struct command *command)
{
	if (command->terminal < 0)
		return;
	give_terminal(command, getpgrp());
	(void)raise(SIGSTOP);
	if (tcgetpgrp(command->terminal) == getpgrp())
		give_terminal(command, command->pid);
	command_signal(command, SIGCONT);
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *data)
{
	struct command *command = data;
	int status = info->si_code == CLD_EXITED ? info->si_status : 128 + info->si_status;

	if (info->si_code == CLD_STOPPED) {
		stop_with_it(command);
		(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
		return 0;
	}
	give_terminal(command, getpgrp());
	command->kill_timer = sd_event_source_disable_unref(command->kill_timer);
	command->pid = 0;
	command->on_end(status, command->data);
	return 0;
}

/* Our environment, with one variable as it is said here. The texts are borrowed. */
static char **make_environment(char *assignment, const char *name)
{
	size_t count = 0, length = strlen(name);
	char **copy;

	while (environ[count])
		count++;
	copy = calloc(count + 2, sizeof(*copy));
	if (!copy)
		return NULL;
	count = 0;
	for (char **at = environ; *at; at++)
		if (strncmp(*at, name, length) != 0 || (*at)[length] != '=')
			copy[count++] = *at;
	copy[count] = assignment;
	return copy;
}

static int start(struct command *command, char *const *envp, struct error *err)
{
	const struct spawn_config config = {
		.path = command->argv[0],
		.search = true,
		.argv = command->argv,
		.envp = envp,
		.fds = command->fds,
		.n_fds = command->n_fds,
		.new_group = true,
		.terminal = command->terminal >= 0 ? &command->terminal : NULL,
		.keep_ignored = true,
	};
	close_ int pidfd = -1;
	int r;

	r = spawn(&command->pid, &pidfd, &config, err);
	if (r < 0) {
		give_terminal(command, getpgrp());
		return r;
	}
	r = sd_event_add_child(command->loop, &command->child, command->pid, WEXITED | WSTOPPED,
			       on_child, command);
	return r < 0 ? error_code(err, r, "cannot watch %s", command->argv[0]) : 0;
}

int command_start(struct command *command, sd_event *loop, const char *name, const char *value,
		  void (*on_end)(int status, void *data), void *data, struct error *err)
{
	free_ char *assignment = NULL;
	free_ char **envp = NULL;

	command->loop = sd_event_ref(loop);
	command->on_end = on_end;
	command->data = data;
	if (asprintf(&assignment, "%s=%s", name, value) < 0) {
		assignment = NULL;
		return error_oom(err);
	}
	envp = make_environment(assignment, name);
	return envp ? start(command, envp, err) : error_oom(err);
}

void command_signal(const struct command *command, int number)
{
	if (command->pid > 0)
		(void)kill(-command->pid, number);
}

static int on_kill_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	command_signal(data, SIGKILL);
	return 0;
}

void command_end(struct command *command)
{
	command_signal(command, SIGTERM);
	command_signal(command, SIGCONT);
	if (!command->kill_timer && command->pid > 0 &&
	    sd_event_add_time_relative(command->loop, &command->kill_timer, CLOCK_BOOTTIME, TERM_US,
				       0, on_kill_timer, command) < 0)
		command_signal(command, SIGKILL);
}

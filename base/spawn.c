/* SPDX-License-Identifier: MIT */
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"

/*
 * posix_spawn() and no code of ours between fork and exec. Each source fd is first copied to a
 * number above all targets, so that no dup2() overwrites a source that is still needed.
 */

enum { FIRST_COPY = 64 };

struct plan {
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int *copies; /* of the sources; -1 where there is none */
	size_t n_copies;
	int highest; /* target, at least 2 */
};

static int plan_init(struct plan *plan, const struct spawn_config *config, struct error *err)
{
	*plan = (struct plan){ .n_copies = config->n_fds, .highest = STDERR_FILENO };
	plan->copies = malloc((config->n_fds + 1) * sizeof(*plan->copies));
	if (!plan->copies)
		return error_oom(err);
	for (size_t i = 0; i < config->n_fds; i++) {
		plan->copies[i] = -1;
		if (config->fds[i].to > plan->highest)
			plan->highest = config->fds[i].to;
	}
	/* In glibc neither of these allocates, so they cannot fail by halves. */
	(void)posix_spawn_file_actions_init(&plan->actions);
	(void)posix_spawnattr_init(&plan->attributes);
	return 0;
}

static void plan_done(struct plan *plan)
{
	if (!plan->copies)
		return;
	for (size_t i = 0; i < plan->n_copies; i++)
		(void)close_fd(plan->copies[i]);
	(void)posix_spawn_file_actions_destroy(&plan->actions);
	(void)posix_spawnattr_destroy(&plan->attributes);
	free(plan->copies);
}

static bool is_target(const struct spawn_config *config, int number)
{
	for (size_t i = 0; i < config->n_fds; i++)
		if (config->fds[i].to == number)
			return true;
	return false;
}

static int plan_fds(struct plan *plan, const struct spawn_config *config, struct error *err)
{
	int first = plan->highest < FIRST_COPY ? FIRST_COPY : plan->highest + 1;
	int r = 0;

	/* Before its number goes to another. */
	if (config->terminal)
		r = posix_spawn_file_actions_addtcsetpgrp_np(&plan->actions, *config->terminal);
	for (size_t i = 0; i < config->n_fds && r == 0; i++) {
		plan->copies[i] = fcntl(config->fds[i].from, F_DUPFD_CLOEXEC, first);
		if (plan->copies[i] < 0)
			return error_errno(err, "cannot copy fd %d for %s", config->fds[i].from,
					   config->path);
		r = posix_spawn_file_actions_adddup2(&plan->actions, plan->copies[i],
						     config->fds[i].to);
	}
	if (r == 0 && !is_target(config, STDIN_FILENO))
		r = posix_spawn_file_actions_addopen(&plan->actions, STDIN_FILENO, "/dev/null",
						     O_RDONLY, 0);
	for (int number = STDERR_FILENO + 1; number < plan->highest && r == 0; number++)
		if (!is_target(config, number))
			r = posix_spawn_file_actions_addclose(&plan->actions, number);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&plan->actions, plan->highest + 1);
	return r ? error_code(err, -r, "cannot start %s", config->path) : 0;
}

/* What posix_spawn() cannot set, and a child keeps from us. */
static const int interrupts[] = { SIGINT, SIGQUIT, SIGHUP };

static void ignore_interrupts(struct sigaction before[static ARRAY_SIZE(interrupts)])
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };

	for (size_t i = 0; i < ARRAY_SIZE(interrupts); i++)
		(void)sigaction(interrupts[i], &ignore, &before[i]);
}

static void restore_interrupts(const struct sigaction before[static ARRAY_SIZE(interrupts)])
{
	for (size_t i = 0; i < ARRAY_SIZE(interrupts); i++)
		(void)sigaction(interrupts[i], &before[i], NULL);
}

static int plan_attributes(struct plan *plan, const struct spawn_config *config, struct error *err)
{
	short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
	sigset_t none, all;
	int r;

	if (config->new_session)
		flags |= POSIX_SPAWN_SETSID;
	if (config->new_group)
		flags |= POSIX_SPAWN_SETPGROUP;
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	for (size_t i = 0; i < ARRAY_SIZE(interrupts) && config->ignore_interrupt; i++)
		(void)sigdelset(&all, interrupts[i]);
	if (config->keep_ignored) {
		(void)sigemptyset(&all);
		(void)sigaddset(&all, SIGPIPE);
	}
	r = posix_spawnattr_setflags(&plan->attributes, flags);
	if (r == 0)
		r = posix_spawnattr_setsigmask(&plan->attributes, &none);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(&plan->attributes, &all);
	return r ? error_code(err, -r, "cannot start %s", config->path) : 0;
}

static int start(pid_t *ret_pid, int *ret_pidfd, struct plan *plan,
		 const struct spawn_config *config, struct error *err)
{
	struct sigaction before[ARRAY_SIZE(interrupts)];
	pid_t pid;
	int r, fd;

	r = plan_attributes(plan, config, err);
	if (r < 0)
		return r;
	r = plan_fds(plan, config, err);
	if (r < 0)
		return r;
	if (config->ignore_interrupt)
		ignore_interrupts(before);
	r = (config->search ? posix_spawnp : posix_spawn)(&pid, config->path, &plan->actions,
							  &plan->attributes, config->argv,
							  config->envp ? config->envp : environ);
	if (config->ignore_interrupt)
		restore_interrupts(before);
	if (r != 0)
		return error_code(err, -r, "cannot start %s", config->path);

	/* The pid cannot be another's yet: we have not waited for it. */
	fd = pidfd_open(pid, 0);
	if (fd < 0) {
		r = error_errno(err, "cannot open a pidfd for %s", config->path);
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return r;
	}
	*ret_pid = pid;
	*ret_pidfd = fd;
	return 0;
}

int spawn(pid_t *ret_pid, int *ret_pidfd, const struct spawn_config *config, struct error *err)
{
	cleanup_(plan_done) struct plan plan;
	int r;

	r = plan_init(&plan, config, err);
	return r < 0 ? r : start(ret_pid, ret_pidfd, &plan, config, err);
}

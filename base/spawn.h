/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* The one place that starts processes. */

struct spawn_fd {
	int from; /* ours; stays open here */
	int to;	  /* its number in the child, 0 and up; each number once */
};

struct spawn_config {
	const char *path; /* no search in PATH, unless: */
	bool search;
	char *const *argv;
	char *const *envp; /* NULL: ours */
	const struct spawn_fd *fds;
	size_t n_fds;
	bool new_session;      /* setsid() in the child */
	bool ignore_interrupt; /* INT, QUIT and HUP, which a terminal sends to all that run on it */
	/* A person's command, which is controlled like a shell's: */
	bool new_group;	     /* setpgid(0, 0) in the child */
	const int *terminal; /* whose foreground that group becomes; NULL: none */
	bool keep_ignored;   /* signals that we ignore (but SIGPIPE) are not at their defaults */
};

/*
 * Starts a program with exactly the fds given: 0, 1 and 2 that are not listed are /dev/null, ours
 * and ours (stdout and stderr); everything else is closed. Signals are unblocked and at their
 * defaults.
 *
 * Errors: those of execve(2) (-ENOENT for a missing program) are returned here, not by the child.
 * Owns:   *ret_pidfd, close-on-exec; the child is reaped by sd_event_add_child_pidfd() or
 * waitid(P_PIDFD). Blocks: until the child has called execve().
 */
int spawn(pid_t *ret_pid, int *ret_pidfd, const struct spawn_config *config, struct error *err);

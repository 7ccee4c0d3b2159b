/* SPDX-License-Identifier: MIT */
#pragma once

#include "tests/support/test.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A sandbox is for ever: a test has a child in it, which answers with its exit status. */

enum { FINE = 42 };

/* Waits for a child that runs act; returns its wait status. */
static inline int run_child(void (*act)(void))
{
	pid_t pid = fork();
	int status = -1;

	assert_true(pid >= 0);
	if (pid == 0) {
		/* What it says is no report of ours. */
		act();
		_exit(FINE);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static inline void assert_fine(void (*act)(void))
{
	int status = run_child(act);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), FINE);
}

static inline void expect(bool condition, int line)
{
	int code = errno;

	if (condition)
		return;
	(void)dprintf(STDERR_FILENO, "line %d: %s\n", line, strerror(code));
	_exit(1);
}

#define EXPECT(condition)	 expect(condition, __LINE__)
#define EXPECT_FAILS(call, code) expect((errno = 0, (call) < 0) && errno == (code), __LINE__)

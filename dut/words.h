/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/*
 * What the processes of a job say on standard output and error, as lines of our log: each names the
 * job and its DUT, and who has said it, whatever it says. They may be hostile: lines are cut, too
 * many are counted and not shown, and nothing that they do with the pipe keeps anybody waiting.
 */

struct words;

struct words_config {
	sd_event *event;
	const char *board; /* or NULL; copied */
	uint64_t job;	   /* or 0 */
	const char *who;   /* a constant */
};

/* A pipe for one: the write end is non-blocking, so that who writes loses words, but never waits.
 */
int words_pipe(int *ret_read_fd, int *ret_write_fd, struct error *err);

/* read_fd is taken over, also on failure. */
int words_new(struct words **ret, const struct words_config *config, int read_fd,
	      struct error *err);

/* Shows what is there yet. */
struct words *words_free(struct words *words);

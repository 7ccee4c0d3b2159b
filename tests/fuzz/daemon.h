/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>

#include "base/spawn.h"
#include "dut/board.h"
#include "dut/daemon.h"

/*
 * A real dutd in fuzz_folder(), but for what makes it slow or different each time: hardware is
 * played here (each operation ends at the next turn of the loop), no program is ever started, the
 * worker works in the loop, and the check of a job file answers what it is told to.
 *
 * d1 has power and a console, d2 nothing. Job 1 has ended and left its files; job 2 runs on a DUT
 * that is not configured any more.
 */
struct fuzz_daemon {
	sd_event *event;
	struct daemon *daemon;
};

void fuzz_daemon_start(struct fuzz_daemon *lab);

/* Ends it, and starts the next one on what it has left. */
void fuzz_daemon_restart(struct fuzz_daemon *lab);

/* Ends it, and empties the folder. */
void fuzz_daemon_end(struct fuzz_daemon *lab);

/* What the next checks of a job file answer; NULL: they fail. Takes the reference. */
void fuzz_daemon_set_validation(json_t *answer);

/* Plays the programs that are started from now on; NULL: there are none. */
typedef int (*fuzz_spawn_fn)(pid_t *ret_pid, int *ret_pidfd, const struct spawn_config *config,
			     struct error *err);
void fuzz_daemon_on_spawn(fuzz_spawn_fn fn);

/* Makes d1's lease connect to its executor now, if it waits for a while to do so. */
void fuzz_daemon_reconnect(const struct fuzz_daemon *lab);

/* Writes a file into a folder beneath fuzz_folder(), which is made. */
void fuzz_daemon_write(const char *folder, const char *name, const void *data, size_t size);

struct board *fuzz_daemon_board(const struct fuzz_daemon *lab);

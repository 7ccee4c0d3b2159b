/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/error.h"

/*
 * A person's own command, run as a shell would: in a process group of its own, which gets the
 * terminal when we have it, with the fds that we were started with. When it is stopped we stop,
 * too, and both go on together.
 */

struct command;

/*
 * Notes the fds that the command will have; to be called before anything else is opened. Signals
 * that have to do with it are blocked from here on.
 */
int command_new(struct command **ret, char *const *argv, struct error *err);

/* One that runs is left to itself. */
struct command *command_free(struct command *command);
CLEANUP_DEFINE(struct command *, command_free)

/*
 * Starts it, with a further variable in its environment. on_end runs once, from the loop, with its
 * exit status, which is 128 and the signal for one that a signal has ended.
 *
 * Errors: -ENOENT, -EACCES: there is no such program.
 */
int command_start(struct command *command, sd_event *loop, const char *name, const char *value,
		  void (*on_end)(int status, void *data), void *data, struct error *err);

/* Sends a signal to all of its group. */
void command_signal(const struct command *command, int number);

/* Ends it: TERM, and KILL when it is still there after 10 s. */
void command_end(struct command *command);

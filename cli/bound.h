/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>

#include "cli/command.h"
#include "cli/session.h"

/*
 * Runs a command while a reservation is held, and releases it after that (one that was there
 * before, and is not bound, is left). Signals go to the command. When the reservation ends first,
 * the command is ended, and the exit code is EXIT_BUSY; else it is the command's.
 */
int bound_run(struct session *session, const json_t *reservation, struct command *command);

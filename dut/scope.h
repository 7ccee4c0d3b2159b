/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/*
 * Transient scopes of systemd: a process that is to outlive dutd is moved out of dutd's control
 * group into one of its own, with its limits. There it survives restart, stop and crash of the
 * service, and systemd has nothing to warn about. Only root may ask for them.
 */

struct scopes;
struct scope_move;

struct scope_config {
	const char *kind; /* the unit is SERVICE-KIND-NAME.scope in dut-KINDs.slice */
	const char *name;
	const char *description;
	pid_t pid;			/* moved with its children */
	uint64_t memory_max, tasks_max; /* bytes and processes; 0: no limit */
	bool without_devices;		/* may open none */
};

/* *ret is NULL when we are no system service of root's: there is nothing to move out of then. */
int scopes_new(struct scopes **ret, sd_event *event, struct error *err);

/* Forgets all moves. */
struct scopes *scopes_free(struct scopes *scopes);

/*
 * Begins a move. done (or NULL) runs once, from the loop, when the processes are there or will not
 * be: they stay where they are then. A failure is logged here, once until the next success.
 *
 * Owns: the move, until done has run. ret may be NULL.
 * Blocks: never.
 */
int scope_move(struct scope_move **ret, struct scopes *scopes, const struct scope_config *config,
	       void (*done)(int r, void *data), void *data, struct error *err);

/* Nobody waits for it any more: done does not run. */
void scope_move_forget(struct scope_move *move);

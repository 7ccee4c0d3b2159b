/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

#include "base/protocol.h"

/*
 * The order of a job: setup, then boots of off (verified) and on, then the end. A table, without
 * fd, clock or log: what happened goes in, what is to be done comes out.
 */

struct boot {
	enum job_phase phase;
	unsigned number;    /* of the present boot, from 1; 0 before the first `on` */
	bool line_seen;	    /* a complete line came in this boot */
	bool restart_asked; /* while `on` was still open */
};

enum boot_event {
	BOOT_READY,    /* the setup is done */
	BOOT_ANSWERED, /* dutd did what was asked */
	BOOT_LINE,     /* a complete line came */
	BOOT_RESTART,  /* a retry was granted */
	BOOT_END,      /* the job is over, for whatever reason */
	BOOT_EVENTS,
};

enum boot_action {
	BOOT_NOTHING,
	BOOT_ASK_OFF,
	BOOT_ASK_ON,   /* number counts the new boot already */
	BOOT_STARTED,  /* the board is on: the boot's timers start */
	BOOT_RUNS,     /* the first complete line of the boot */
	BOOT_TEARDOWN, /* told once */
};

/* Starts at { .phase = PHASE_SETUP }. An event that means nothing in this phase is BOOT_NOTHING. */
enum boot_action boot_next(struct boot *boot, enum boot_event event);

/* SPDX-License-Identifier: MIT */
#include "executor/boot.h"

struct step {
	bool legal;
	enum job_phase phase;
	enum boot_action action;
};

#define TO(next_phase, next_action)                          \
	{                                                    \
		true, PHASE_##next_phase, BOOT_##next_action \
	}

/* clang-format off */
static const struct step steps[JOB_PHASES][BOOT_EVENTS] = {
	[PHASE_SETUP] = {
		[BOOT_READY]    = TO(POWER_OFF, ASK_OFF),
		[BOOT_END]      = TO(TEARDOWN,  TEARDOWN),
	},
	[PHASE_POWER_OFF] = {
		[BOOT_ANSWERED] = TO(POWER_ON,  ASK_ON),
		[BOOT_END]      = TO(TEARDOWN,  TEARDOWN),
	},
	[PHASE_POWER_ON] = {
		[BOOT_ANSWERED] = TO(BOOT,      STARTED),
		[BOOT_LINE]     = TO(POWER_ON,  NOTHING),
		[BOOT_RESTART]  = TO(POWER_ON,  NOTHING),
		[BOOT_END]      = TO(TEARDOWN,  TEARDOWN),
	},
	[PHASE_BOOT] = {
		[BOOT_LINE]     = TO(RUNNING,   RUNS),
		[BOOT_RESTART]  = TO(POWER_OFF, ASK_OFF),
		[BOOT_END]      = TO(TEARDOWN,  TEARDOWN),
	},
	[PHASE_RUNNING] = {
		[BOOT_RESTART]  = TO(POWER_OFF, ASK_OFF),
		[BOOT_END]      = TO(TEARDOWN,  TEARDOWN),
	},
}; /* everything else means nothing */
/* clang-format on */

enum boot_action boot_next(struct boot *boot, enum boot_event event)
{
	const struct step *step = &steps[boot->phase][event];

	if (!step->legal)
		return BOOT_NOTHING;
	if (boot->phase == PHASE_POWER_ON) {
		boot->line_seen |= event == BOOT_LINE;
		boot->restart_asked |= event == BOOT_RESTART;
	}
	boot->phase = step->phase;
	if (step->action == BOOT_ASK_ON) {
		boot->number++;
		boot->line_seen = false;
		boot->restart_asked = false;
	} else if (step->action == BOOT_STARTED && boot->restart_asked) {
		/* The board asked for its next boot before dutd told that this one is on. */
		return boot_next(boot, BOOT_RESTART);
	} else if (step->action == BOOT_STARTED && boot->line_seen) {
		boot->phase = PHASE_RUNNING;
	} else if (step->action == BOOT_RUNS) {
		boot->line_seen = true;
	}
	return step->action;
}

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * The script of a sim board. A line each; # begins a comment.
 *
 *   at T ACTION          T after power-on (or a reboot of its own): 200ms, 3s ...
 *   every T ACTION       again and again
 *   on "text" ACTION     when that was received on the console
 *   boot N               the lines that follow hold for the N-th boot since the process began only;
 *   boot any             ... for all boots again
 *   ignore off [N]       `off` does nothing (the first N times), and the power reads back ON
 *   lie on|off           whatever is done, the power reads back so
 *   delay on|off|read T  the power answers that late
 *   fail on|off|read "text"   the power answers with that error, and does nothing
 *
 * ACTION is one of
 *   send "text"          with \r \n \t \e \0 \\ \" \xNN
 *   print FILE           the bytes of a file beside the script
 *   flood RATE [for T]   lines with a counter, RATE bytes a second, or max
 *   silent               says nothing any more, but receives
 *   crash                dead, with power: says nothing, receives nothing
 *   reboot               begins anew without a power edge
 *   poweroff             has switched itself off; the outlet stays ON
 */

enum { SIM_TRIGGER_MAX = 128 }; /* bytes */

enum sim_when { SIM_AT, SIM_EVERY, SIM_ON };

enum sim_action { SIM_SEND, SIM_FLOOD, SIM_SILENT, SIM_CRASH, SIM_REBOOT, SIM_POWEROFF };

enum sim_verb { SIM_VERB_ON, SIM_VERB_OFF, SIM_VERB_READ, SIM_VERBS };

struct sim_line {
	enum sim_when when;
	unsigned boot; /* 0: any */
	uint64_t time_us;
	char *trigger; /* SIM_ON */
	size_t trigger_length;
	enum sim_action action;
	char *text; /* SIM_SEND, also what `print` has read */
	size_t length;
	uint64_t rate, for_us; /* SIM_FLOOD; UINT64_MAX: as fast as it goes, for ever */
};

struct sim_script {
	struct sim_line *lines;
	size_t count;
	unsigned ignore_off; /* that many times; UINT_MAX: always */
	int lie;	     /* -1: no, else what is read back */
	uint64_t delay_us[SIM_VERBS];
	char *fail[SIM_VERBS]; /* or NULL */
};

/* Reads a script. Errors say "FILE:LINE: what". */
int sim_script_load(struct sim_script *script, const char *path, struct error *err);
void sim_script_done(struct sim_script *script);

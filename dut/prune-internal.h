/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "dut/prune.h"

/* What prune.c and prune-size.c share. */

struct prune {
	struct daemon *daemon;
	uint64_t kept, kept_bytes, pruned; /* jobs with files, what they take, and rows without */
	bool is_busy;
	bool look_at_age;
	sd_event_source *age_timer;
	bool is_measuring;
	uint64_t measured; /* the jobs up to this one have a size */
};

/* Finds out what the folders of jobs take that nobody has measured, one after the other, if
 * limits.kept_size asks for it. */
void prune_measure(struct daemon *daemon);

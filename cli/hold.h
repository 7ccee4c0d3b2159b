/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "cli/session.h"

/*
 * Holds a reservation: a stream that is opened again whenever it breaks, also over a restart of
 * dutd. What it tells comes line by line.
 */

struct hold;

struct hold_config {
	struct session *session;
	const char *dut, *id; /* copied */
	/* From the loop. The first line of each stream is "held"; after "ended" none comes. */
	void (*on_line)(const json_t *line, void *data);
	/* Runs at most once, from the loop: the reservation is over, and why nobody can tell; or it
	 * may not be held. The answer is the callee's. */
	void (*on_lost)(struct answer *answer, void *data);
	void *data;
};

int hold_new(struct hold **ret, const struct hold_config *config, struct error *err);

/* Not from on_line(). */
struct hold *hold_free(struct hold *hold);
CLEANUP_DEFINE(struct hold *, hold_free)

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Which events of a job are new, when they were read from the first one again: they have numbers
 * from 0. Those of a job that was begun again, too; then the first one is another.
 */

struct replay {
	char *first; /* event 0, as it came */
	size_t length;
	uint64_t next;
};

void replay_done(struct replay *replay);

/* The event was read from this line. What has no number is new. */
bool replay_is_new(struct replay *replay, const json_t *event, const char *line, size_t length);

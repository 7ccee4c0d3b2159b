/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdint.h>

/*
 * A moment that outlives dutd and the gateway: while the gateway runs, time since then is counted
 * by CLOCK_BOOTTIME, which no step of the wall clock touches; over a restart of the gateway the
 * wall clock has to do.
 */

struct moment {
	char boot_id[40];
	uint64_t boottime_us, realtime_us;
};

struct moment moment_now(void);

/* The moment on the present CLOCK_BOOTTIME, which is negative for one before the gateway started.
 * One that seems to lie ahead, by a clock that was set back over a restart, becomes now. */
int64_t moment_on_boottime(const struct moment *moment, const struct moment *now);

/* {"boot_id", "boottime_us", "realtime_us"}, for records. What is none becomes a moment of the wall
 * clock, fallback_realtime_us. */
json_t *moment_to_json(const struct moment *moment);
void moment_from_json(struct moment *ret, const json_t *object, uint64_t fallback_realtime_us);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "dut/moment.h"

/*
 * A moment in the future that stays the same one whatever happens to clocks (dut/moment.h). Pure:
 * what time it is, is an argument.
 */

struct expiry {
	struct moment from;
	uint64_t span_us; /* from then on: more than this is never left */
};

/* Microseconds that are left of it; 0: it has come. */
uint64_t expiry_left_us(const struct expiry *expiry, const struct moment *now);

/* Whether it was set before the machine was started, so that the wall clock decides: when. */
bool expiry_is_by_wall(const struct expiry *expiry, const struct moment *now,
		       uint64_t *ret_realtime_us);

/* As it is kept, and back. -EBADMSG for what is none. */
json_t *expiry_to_json(const struct expiry *expiry);
int expiry_from_json(struct expiry *ret, const json_t *object, struct error *err);

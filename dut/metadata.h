/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* What a client says of its job beside the job file. */

/* Whether this is a text that may be shown anywhere: in one line, without control characters. */
bool metadata_is_text(const json_t *value, size_t max);

/* How long somebody waits: seconds, a duration as text, or "forever" (UINT64_MAX); nothing is 0. */
int metadata_read_wait(uint64_t *ret_us, const json_t *value, struct error *err);

/* Errors: -EINVAL with what is wrong. */
int metadata_check(const json_t *metadata, struct error *err);

/* Of metadata that has been checked: how long the job may wait for a DUT (0: not at all,
 * UINT64_MAX: for ever), and its priority. */
uint64_t metadata_wait(const json_t *metadata);
int metadata_priority(const json_t *metadata);

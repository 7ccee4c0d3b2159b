/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>

#include "base/error.h"

/*
 * Checks a job file in a short-lived process of its own, `dut-executor --validate`: dutd itself
 * never parses one. It may take 5 s and, outside of sanitizer builds, 64 MiB.
 */

struct daemon;
struct validator;

/* result is borrowed, and NULL on failure; runs once, from the loop; the validator is invalid
 * afterwards. */
typedef void (*validator_done_fn)(int r, const struct error *err, const json_t *result, void *data);

/* Takes the reference to input; see executor/description.h for its members. */
int validator_start(struct validator **ret, struct daemon *daemon, json_t *input,
		    validator_done_fn done, void *data, struct error *err);

/* Ends it without done. */
struct validator *validator_free(struct validator *validator);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/*
 * Asks `dut-executor --validate` what it thinks of a job file, without a daemon. dut itself does
 * not read the job.
 */

enum { VALIDATOR_JOB_MAX = 16 * 1024 * 1024 }; /* bytes of a job file; dutd has its own limit */

struct validator_question {
	const char *libexec_dir; /* or NULL: DUT_LIBEXEC_DIR, else the compiled-in folder */
	const char *job;	 /* terminated, UTF-8 or not */
	size_t length;
	const char *dut;	 /* or NULL */
	const char *const *tags; /* n_tags of them */
	size_t n_tags;
	const json_t *environ; /* or NULL */
	bool ignore_deadline;
};

/*
 * Answers with the validator's object: see executor/description.h.
 *
 * Errors: -ENOENT when there is no such program; -EBADMSG what is no answer; -ETIMEDOUT; others of
 * spawn().
 * Blocks: until the program has ended, at most half a minute.
 */
int validator_ask(json_t **ret, const struct validator_question *question, struct error *err);

/* Prints each of its errors as "FILE:LINE:COLUMN: TEXT" on stderr, and returns their number. */
size_t validator_print_errors(const json_t *errors, const char *file);

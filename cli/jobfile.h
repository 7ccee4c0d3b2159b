/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "cli/options.h"
#include "cli/validator.h"

/* A job file and what the command line says about it: the common part of run and validate. */

struct jobfile {
	const char *path;
	char *text;
	size_t length;
	json_t *environ; /* an object */

	/* Options. */
	const char *dut, *libexec_dir;
	struct option_list tags, vars;
	bool ignore_deadline;
};

/* Its options in a table of options. */
#define JOBFILE_OPTIONS(jobfile)                                                                \
	{ "dut", "DUT", OPTION_TEXT, &(jobfile)->dut, "the DUT to run on" },                    \
		{ "tag", "T", OPTION_LIST, &(jobfile)->tags, "any DUT that has this tag" },     \
		{ "var", "K=V", OPTION_LIST, &(jobfile)->vars, "a value for {{ environ.K }}" }, \
		{ "ignore-deadline", NULL, OPTION_FLAG, &(jobfile)->ignore_deadline,            \
		  "also when the job's deadline has passed" },                                  \
	{                                                                                       \
		"libexec-dir", "DIR", OPTION_TEXT, &(jobfile)->libexec_dir,                     \
			"where dut-executor is (DUT_LIBEXEC_DIR)"                               \
	}

/* Reads the file and checks the options. 0, or the exit code (said). */
int jobfile_load(struct jobfile *jobfile, const char *verb, const char *path);
void jobfile_done(struct jobfile *jobfile);

/* validator_ask() with all of this. */
int jobfile_validate(json_t **ret, const struct jobfile *jobfile, struct error *err);

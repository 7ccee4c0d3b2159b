/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "cli/bucket.h"
#include "cli/jobfile.h"
#include "cli/session.h"
#include "cli/view.h"

/* Hands a job to the daemon. */

struct submission_request {
	const struct jobfile *jobfile;
	const struct bucket *bucket;
	const char *name; /* or NULL */
	const char *dut;  /* or NULL */
	const char *wait; /* a duration or "forever", or NULL */
	json_int_t priority;
	bool detach; /* the job goes on when we leave */
};

enum { SUBMISSION_TOKEN_SIZE = 33 };

struct submission {
	char token[SUBMISSION_TOKEN_SIZE]; /* its submission_id, which binds the job to us */
	char id[VIEW_ID_SIZE];
	char *dut;	  /* or NULL, when that is not known yet */
	bool waits;	  /* for a DUT */
	bool interrupted; /* by a signal, when it was too late to stop the submission */
};

/* 0 with a submission, or the exit code (said). A signal during the upload stops it. */
int submit(struct session *session, const struct submission_request *request,
	   struct submission *ret);
void submission_done(struct submission *submission);

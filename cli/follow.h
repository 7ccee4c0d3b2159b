/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "cli/session.h"

/*
 * Follows a job to its end, as `dut run` does: the console to stdout, the lab's own messages to
 * stderr (or the events to stdout, as JSON), and signals that cancel the job. A daemon that goes
 * away and comes back is followed on where it broke off. Output that nobody reads holds up neither
 * the signals nor the end of a job that was cancelled.
 */

struct follow_request {
	const char *id;
	const char *dut;   /* where it runs, or NULL when that is not known yet */
	const char *token; /* that binds it to us, or NULL */
	bool json;
	bool waits;	 /* it has no DUT yet: what it waits for is told */
	bool cancel_now; /* a signal came while it was submitted */
};

/*
 * 0 with the ended job in *ret (the caller's); else the exit code (said). EXIT_UNREACHABLE when the
 * daemon went away: the job may go on.
 */
int follow_job(struct session *session, const struct follow_request *request, json_t **ret);

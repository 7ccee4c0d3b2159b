/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

#include "cli/session.h"

/* A console's bytes, raw from the daemon to stdout, at the pace of its reader, and on where they
 * broke off when the daemon went away and came back. */

struct pump_request {
	char *path;	      /* from client_path(), without an offset; freed. NULL: no memory */
	const char *from;     /* the first offset, or NULL */
	uint64_t end;	      /* stop at this console offset; UINT64_MAX: at the stream's end */
	int ended_exit;	      /* when the stream ends by itself: 0, or EXIT_UNREACHABLE (said) */
	int interrupted_exit; /* on INT, TERM and HUP */
	const char *what;     /* for texts: "console of bbb-1" */
};

/* The exit code. A reader of stdout that has gone is 0. */
int pump_run(struct session *session, const struct pump_request *request);

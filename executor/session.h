/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "base/error.h"
#include "executor/assignment.h"
#include "executor/description.h"
#include "executor/fetcher.h"

/* One job from `go` to result.json: what ties console, power, timeouts, patterns and dutd together.
 */

struct session;

struct session_config {
	sd_event *event;
	const struct assignment *assignment;
	const struct description *description;
	struct fetcher *fetcher;
	int job_socket_fd;     /* bound, not yet listening; taken over */
	int control_socket_fd; /* likewise; borrowed */
	int dir_fd;	       /* of the job; borrowed */
	int tarball_fd;	       /* borrowed; -1 for none */
};

/*
 * Reserves the space for result.json, opens the sockets and waits for dutd. The job ends with
 * sd_event_exit(): 0, or -EIO when result.json could not be written.
 */
int session_new(struct session **ret, const struct session_config *config, struct error *err);
struct session *session_free(struct session *session);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/attr.h"
#include "cli/feed.h"
#include "cli/follow.h"
#include "cli/lines.h"
#include "cli/mingle.h"
#include "cli/order.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/question.h"
#include "cli/replay.h"
#include "cli/waiter.h"

/* What follow.c (a job's way to its end, and signals) and follow-streams.c (its log and its events)
 * share. */

struct follow {
	struct session *session;
	const struct follow_request *request;
	struct output *out, *messages; /* stdout and stderr */
	struct mingle *mingle;
	struct feed *log, *events;
	struct order *cancel, *unbind;
	struct lines *lines; /* of the events */
	struct replay replay;
	struct waiter *waiter;
	struct place *place; /* while it waits for a DUT */
	struct question *question;
	sd_event_source *grace;
	json_t *job; /* when it has ended */
	bool cancelled, lost;
	bool warned;   /* that a further signal leaves */
	bool reported; /* the last line of --json */
};

/* "dut: ..." on stderr, in line with the messages that wait there. */
void follow_tell(struct follow *follow, const char *format, ...) printf_(2, 3);

void follow_stop(struct follow *follow, int code);
void follow_stop_oom(struct follow *follow);

/* The daemon cannot be asked any more, or does not know the job. */
void follow_lost(struct follow *follow, struct answer *answer);

/* Something has changed: what is next? */
void follow_check(struct follow *follow);

int follow_start_streams(struct follow *follow, struct error *err);

/* There is room for more in stdout, and in stderr. */
void follow_on_log_space(void *data);
void follow_on_message_space(void *data);

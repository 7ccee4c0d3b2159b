/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"

/* What daemon.c and daemon-records.c share. */

struct daemon;

/* Reads the records of the jobs that have not ended, and of those with something left to do. */
int daemon_load_jobs(struct daemon *daemon, struct error *err);

/* While it stops: ends the loop when no board is being switched off any more. */
void daemon_stop_when_settled(struct daemon *daemon);

/* For daemon_save_later() and daemon_sweep(). A negative errno of sd-event. */
int daemon_add_record_sources(struct daemon *daemon);

/* Gives each board the job that an earlier dutd left on it, and its default console the logs of its
 * jobs, for those who read back. */
int daemon_attach_all(struct daemon *daemon, struct error *err);

/* Opens the boards, each as the job that it may have left it. */
int daemon_open_boards(struct daemon *daemon, struct error *err);

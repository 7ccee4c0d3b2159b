/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"

/* What daemon.c and daemon-records.c share. */

struct daemon;

/* Reads all records; one that is none of ours is told and left alone. */
int daemon_load_jobs(struct daemon *daemon, struct error *err);

/* While it stops: ends the loop when no board is being switched off any more. */
void daemon_stop_when_settled(struct daemon *daemon);

/* For daemon_save_later(). A negative errno of sd-event. */
int daemon_add_save_timer(struct daemon *daemon);

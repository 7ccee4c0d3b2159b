/* SPDX-License-Identifier: MIT */
#pragma once

#include "dut/reservation.h"

/* What reservation.c (the steps), reservation-record.c (the disk) and reservation-hold.c (those who
 * watch) share. */

/* Puts the present step on disk: the record, or that there is none. Then, from the loop,
 * reservation_saved() and done (or NULL) run. */
int reservation_save(struct reservation *reservation, reservation_saved_fn done, void *data,
		     struct error *err);

/* The step that was taken at this stage is on disk, or not. */
void reservation_saved(struct reservation *reservation, enum reservation_stage stage, int r,
		       const struct error *err);

/* Reads the board's record. -ENOENT when there is none; -EBADMSG. */
int reservation_read(struct reservation *reservation, struct error *err);

/* A line to all who watch: {"type": TYPE, "reservation": {...}}. */
void holds_tell(struct reservation *reservation, const char *type);

/* The last line: {"type": "ended", "how", "by", "why"}. */
void holds_end(struct reservation *reservation, const char *how, const char *by, const char *why);

/* They see the end of their streams. */
void holds_drop(struct reservation *reservation);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "dut/queue.h"

/*
 * The queue and the boards: whenever a board may have become free, it is offered to the first claim
 * that waits for it (claim.give), and claims whose time is over hear of it (claim.over). Jobs and
 * reservations wait in daemon.queue by queue_add(), and leave it by queue_remove(); both are
 * followed by dispatch_later().
 *
 * A DUT that is removed from the configuration leaves its claims in the queue: they wait for a DUT
 * of that name to come back, say so, and end by cancel, their limit or their deadline alone.
 */

struct board;
struct daemon;
struct dispatch;

int dispatch_new(struct dispatch **ret, struct daemon *daemon, struct error *err);
struct dispatch *dispatch_free(struct dispatch *dispatch);

/* From the loop, soon: the queue, a board, or what a claim needs has changed. */
void dispatch_later(struct daemon *daemon);

/* A board that the claim could have now, if nobody is before it there; else NULL. */
struct board *dispatch_find_board(const struct daemon *daemon, const struct claim *claim);

/* Of the boards that the claim waits for, the one that is expected to be free first; NULL when none
 * of them is configured any more. */
struct board *dispatch_awaited(const struct daemon *daemon, const struct claim *claim);

enum { DISPATCH_CAUSE_SIZE = 768, DISPATCH_REFUSAL_SIZE = DISPATCH_CAUSE_SIZE + 40 };

/*
 * What a claim waits for, in words that begin with the DUT ("bbb-1 is held by alice (job 17,
 * \"usb\") until 14:32"; of several DUTs the one that is expected to be free first), and when that
 * is to be over: microseconds of the wall clock, 0 when nobody knows.
 */
void dispatch_cause(const struct daemon *daemon, const struct claim *claim,
		    char text[static DISPATCH_CAUSE_SIZE], uint64_t *ret_until_us);

/* Why a claim that may not wait any longer is refused: its cause and the place that it has, as text
 * for people, and as members "dut" and "place" of extra. */
void dispatch_refuse(const struct daemon *daemon, const struct claim *claim,
		     char text[static DISPATCH_REFUSAL_SIZE], json_t *extra);

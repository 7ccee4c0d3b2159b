/* SPDX-License-Identifier: MIT */
#include "dut/dispatch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "dut/api.h"
#include "dut/board.h"
#include "dut/daemon-internal.h"
#include "dut/daemon.h"
#include "dut/jobuser.h"
#include "dut/lab-events.h"
#include "dut/prune.h"
#include "dut/reload.h"
#include "dut/submit.h"

struct dispatch {
	struct daemon *daemon;
	sd_event_source *now;	/* dispatch_later() */
	sd_event_source *limit; /* the next one whose wait is over, */
	sd_event_source *date;	/* and whose deadline is past */
};

/* ---- whose turn it is ---- */

/* A board that somebody has reserved is free for his own jobs alone. */
static bool may_have(const struct claim *claim, void *data)
{
	if (claim->kind == CLAIM_RESERVATION)
		return board_is_free(data);
	return board_is_free_for(data, claim->owner, claim->owner_uid);
}

static void offer(const struct daemon *daemon, struct board *board)
{
	struct claim *claim;

	while (board_is_free_for_somebody(board) &&
	       (claim = queue_first(daemon->queue, board->config->id, may_have, board)))
		if (claim->give(claim, board) >= 0)
			return;
}

struct board *dispatch_find_board(const struct daemon *daemon, const struct claim *claim)
{
	struct board *found = NULL;

	LIST_FOREACH(link, &daemon->boards) {
		struct board *board = CONTAINER_OF(link, struct board, link);
		const char *id = board->config->id;

		/* One's own reservation before all others. */
		if ((!found || board->reservation) && queue_wants(claim, id) &&
		    may_have(claim, board) &&
		    queue_first(daemon->queue, id, may_have, board) == claim)
			found = board;
	}
	return found;
}

static void end_those_in_vain(const struct daemon *daemon)
{
	uint64_t now_us = clock_now_us(), realtime_us = clock_realtime_us();
	struct claim *claim;
	enum claim_end end;

	while ((claim = queue_expired(daemon->queue, now_us, realtime_us, &end)))
		claim->over(claim, end);
}

/* ---- when ---- */

static void arm(sd_event_source *timer, uint64_t at_us)
{
	(void)sd_event_source_set_time(timer, at_us);
	(void)sd_event_source_set_enabled(timer,
					  at_us < UINT64_MAX ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int on_now(sd_event_source *source, void *data)
{
	const struct dispatch *dispatch = data;
	struct daemon *daemon = dispatch->daemon;
	uint64_t limit_us, date_us;

	(void)source;
	if (daemon->stop_timer) {
		daemon_stop_when_settled(daemon);
		return 0;
	}
	reload_settle(daemon);
	end_those_in_vain(daemon);
	LIST_FOREACH(link, &daemon->boards)
		offer(daemon, CONTAINER_OF(link, struct board, link));
	submissions_retry(daemon);
	api_reservations_retry(daemon);
	queue_next_expiry(daemon->queue, &limit_us, &date_us);
	arm(dispatch->limit, limit_us);
	arm(dispatch->date, date_us);
	api_places_changed(daemon);
	prune_jobs(daemon);
	return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *data)
{
	const struct dispatch *dispatch = data;

	(void)source;
	(void)usec;
	dispatch_later(dispatch->daemon);
	return 0;
}

void dispatch_later(struct daemon *daemon)
{
	lab_look(daemon);
	(void)sd_event_source_set_enabled(daemon->dispatch->now, SD_EVENT_ONESHOT);
}

/* ---- what somebody waits for ---- */

/* Known ends before unknown ones, earlier ones first. */
static bool ends_before(uint64_t a_us, uint64_t b_us)
{
	return a_us && (!b_us || a_us < b_us);
}

static void describe(const struct daemon *daemon, const struct board *board, size_t n_duts,
		     char text[static DISPATCH_CAUSE_SIZE])
{
	char holder[512];

	if (board_is_free_for_somebody(board) && !jobuser_is_left(daemon)) {
		(void)snprintf(text, DISPATCH_CAUSE_SIZE,
			       "%s is free, but all %zu users of job_users have a job",
			       board->config->id, daemon->config->n_job_users);
		return;
	}
	board_describe_holder(board, holder, sizeof(holder));
	if (n_duts > 1)
		(void)snprintf(text, DISPATCH_CAUSE_SIZE, "all %zu DUTs that fit are busy; %s %s",
			       n_duts, board->config->id, holder);
	else
		(void)snprintf(text, DISPATCH_CAUSE_SIZE, "%s %s", board->config->id, holder);
}

struct board *dispatch_awaited(const struct daemon *daemon, const struct claim *claim)
{
	struct board *first = NULL;
	size_t count;
	const char *const *names = queue_duts(claim, &count);

	for (size_t i = 0; i < count; i++) {
		struct board *board = daemon_find_board(daemon, names[i]);

		if (board &&
		    (!first || ends_before(board_expected_end(board), board_expected_end(first))))
			first = board;
	}
	return first;
}

void dispatch_cause(const struct daemon *daemon, const struct claim *claim,
		    char text[static DISPATCH_CAUSE_SIZE], uint64_t *ret_until_us)
{
	const struct board *board = dispatch_awaited(daemon, claim);
	size_t count;
	const char *const *names = queue_duts(claim, &count);

	if (ret_until_us)
		*ret_until_us = board ? board_expected_end(board) : 0;
	if (board)
		describe(daemon, board, count, text);
	else if (count == 1)
		(void)snprintf(text, DISPATCH_CAUSE_SIZE, "%s is not configured any more",
			       names[0]);
	else
		(void)snprintf(text, DISPATCH_CAUSE_SIZE,
			       "none of the %zu DUTs that fit is configured any more", count);
}

void dispatch_refuse(const struct daemon *daemon, const struct claim *claim,
		     char text[static DISPATCH_REFUSAL_SIZE], json_t *extra)
{
	const struct board *board = dispatch_awaited(daemon, claim);
	unsigned place = queue_place(daemon->queue, claim);
	char cause[DISPATCH_CAUSE_SIZE], ordinal[24];

	dispatch_cause(daemon, claim, cause, NULL);
	(void)snprintf(text, DISPATCH_REFUSAL_SIZE, "%s; you are %s", cause,
		       text_format_ordinal(ordinal, sizeof(ordinal), place));
	(void)json_object_set_new(extra, "dut",
				  board ? json_string(board->config->id) : json_null());
	(void)json_object_set_new(extra, "place", json_integer(place));
}

/* ---- all of it ---- */

struct dispatch *dispatch_free(struct dispatch *dispatch)
{
	if (!dispatch)
		return NULL;
	sd_event_source_disable_unref(dispatch->now);
	sd_event_source_disable_unref(dispatch->limit);
	sd_event_source_disable_unref(dispatch->date);
	free(dispatch);
	return NULL;
}

CLEANUP_DEFINE(struct dispatch *, dispatch_free)

int dispatch_new(struct dispatch **ret, struct daemon *daemon, struct error *err)
{
	cleanup_(dispatch_freep) struct dispatch *dispatch = calloc(1, sizeof(*dispatch));
	int r;

	if (!dispatch)
		return error_oom(err);
	dispatch->daemon = daemon;
	r = sd_event_add_defer(daemon->event, &dispatch->now, on_now, dispatch);
	if (r >= 0)
		r = sd_event_source_set_enabled(dispatch->now, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(daemon->event, &dispatch->limit, CLOCK_BOOTTIME, UINT64_MAX,
				      1, on_time, dispatch);
	if (r >= 0)
		r = sd_event_add_time(daemon->event, &dispatch->date, CLOCK_REALTIME, UINT64_MAX, 1,
				      on_time, dispatch);
	if (r < 0)
		return error_code(err, r, "cannot add an event source");
	(void)sd_event_source_set_description(dispatch->now, "dispatch");
	(void)sd_event_source_set_description(dispatch->limit, "queue-limit");
	(void)sd_event_source_set_description(dispatch->date, "queue-deadline");
	*ret = take_ptr(dispatch);
	return 0;
}

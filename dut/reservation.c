/* SPDX-License-Identifier: MIT */
#include "dut/reservation.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/jsontext.h"
#include "base/log.h"
#include "base/text.h"
#include "dut/access.h"
#include "dut/audit.h"
#include "dut/board-internal.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/lab-events.h"
#include "dut/reservation-internal.h"

static const uint64_t SAVE_RETRY_US = 1000000;

struct reservation *reservation_free(struct reservation *reservation)
{
	if (!reservation)
		return NULL;
	holds_drop(reservation);
	sd_event_source_disable_unref(reservation->timer);
	sd_event_source_disable_unref(reservation->wall_timer);
	binding_end(&reservation->binding);
	sd_event_source_disable_unref(reservation->save_timer);
	free(reservation->id);
	free(reservation->owner);
	free(reservation->why);
	free(reservation->kick_by);
	free(reservation->kick_why);
	free(reservation);
	return NULL;
}

/* ---- what is known ---- */

bool reservation_is_of(const struct reservation *reservation, const char *owner, uid_t uid)
{
	if (reservation->owner_uid != (uid_t)-1)
		return reservation->owner_uid == uid;
	return strcmp(reservation->owner, owner) == 0;
}

uint64_t reservation_left_us(const struct reservation *reservation)
{
	const struct moment now = moment_now();

	return expiry_left_us(&reservation->until, &now);
}

const char *reservation_format_until(const struct reservation *reservation,
				     char text[static RESERVATION_TIME_SIZE])
{
	uint64_t now_us = clock_realtime_us();
	time_t now = (time_t)(now_us / 1000000);
	time_t then = (time_t)((now_us + reservation_left_us(reservation)) / 1000000);
	struct tm now_tm, then_tm;
	bool today;

	if (!localtime_r(&now, &now_tm) || !localtime_r(&then, &then_tm))
		return clock_format_iso(text, now_us + reservation_left_us(reservation));
	today = now_tm.tm_year == then_tm.tm_year && now_tm.tm_yday == then_tm.tm_yday;
	(void)strftime(text, RESERVATION_TIME_SIZE, today ? "%H:%M %Z" : "%Y-%m-%d %H:%M %Z",
		       &then_tm);
	return text;
}

static const char *const state_names[] = {
	[RESERVATION_TAKING] = "taking",   [RESERVATION_HELD] = "held",
	[RESERVATION_ENDING] = "ending",   [RESERVATION_OFF] = "ending",
	[RESERVATION_REMOVING] = "ending",
};

json_t *reservation_to_json(const struct reservation *reservation)
{
	uint64_t left = reservation_left_us(reservation);
	uint64_t left_ms = left / 1000;
	char since[CLOCK_ISO_SIZE], until[CLOCK_ISO_SIZE];
	json_t *kick = json_null();

	if (reservation->kicked) {
		kick = json_pack("{s:o, s:o}", "by", jsontext_new(reservation->kick_by), "why",
				 jsontext_new(reservation->kick_why));
		if (!kick)
			kick = json_null();
	}
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:s, s:f, s:b, s:o}", "id",
			 reservation->id, "dut", reservation->board->config->id, "state",
			 state_names[reservation->stage], "owner", jsontext_new(reservation->owner),
			 "why", jsontext_new(reservation->why), "since",
			 clock_format_iso(since, reservation->since_realtime_us), "until",
			 clock_format_iso(until, clock_realtime_us() + left), "seconds_left",
			 (double)left_ms / 1000, "bound", reservation->bound, "kick", kick);
}

/* ---- its steps on the disk ---- */

static int on_save_timer(sd_event_source *source, uint64_t usec, void *data);

static void save_later(struct reservation *reservation, const char *text)
{
	if (!reservation->unsaved)
		log_board(reservation->board->config->id, LOG_ERR,
			  "its reservation is not on disk, trying again: %s", text);
	reservation->unsaved = true;
	reservation->save_timer = sd_event_source_disable_unref(reservation->save_timer);
	(void)sd_event_add_time_relative(reservation->board->daemon->event,
					 &reservation->save_timer, CLOCK_BOOTTIME, SAVE_RETRY_US, 0,
					 on_save_timer, reservation);
}

/* A step that is taken, whether or not it can be written at once. */
static int save(struct reservation *reservation, reservation_saved_fn done, void *data,
		struct error *err)
{
	int r = reservation_save(reservation, done, data, err);

	if (r < 0)
		save_later(reservation, err->text);
	return r;
}

static void note(struct reservation *reservation)
{
	struct error err;

	(void)save(reservation, NULL, NULL, &err);
}

static int on_save_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	note(data);
	return 0;
}

/* ---- its end ---- */

/* Whoever reads a console later sees who had the board. */
static void tell_lab(const struct reservation *reservation, const char *state)
{
	const struct board *board = reservation->board;

	lab_event(board->daemon, "reservation", board->config->id, 0,
		  json_pack("{s:s, s:o}", "state", state, "reservation",
			    reservation_to_json(reservation)));
	lab_look(board->daemon);
	for (size_t i = 0; i < board->n_lines; i++)
		line_mark(board->lines[i], "reservation",
			  json_pack("{s:s, s:o}", "state", state, "owner",
				    jsontext_new(reservation->owner)));
}

static void drop(struct reservation *reservation)
{
	struct board *board = reservation->board;

	board->reservation = reservation_free(reservation);
	lab_look(board->daemon);
	dispatch_later(board->daemon);
}

void reservation_go_on(struct reservation *reservation)
{
	struct board *board = reservation->board;

	if (reservation->stage != RESERVATION_OFF || board->off.pending)
		return; /* in the other case board_off_is_over() calls again */
	if (!reservation->off && board->outlet) {
		reservation->off = true;
		board_switch_off(board);
		return;
	}
	reservation->stage = RESERVATION_REMOVING;
	note(reservation);
}

int reservation_end(struct reservation *reservation, const char *how, const char *by,
		    const char *why, reservation_saved_fn done, void *data, struct error *err)
{
	struct board *board = reservation->board;

	log_board(board->config->id, LOG_INFO, "the reservation of %s %s%s%s%s%s",
		  reservation->owner, how, by ? " by " : "", by ? by : "", why ? ": " : "",
		  why ? why : "");
	reservation->timer = sd_event_source_disable_unref(reservation->timer);
	reservation->wall_timer = sd_event_source_disable_unref(reservation->wall_timer);
	binding_end(&reservation->binding);
	tell_lab(reservation, "ended");
	holds_end(reservation, how, by, why);
	/* The off after a job is that job's. */
	reservation->stage =
		board->job || !board->outlet || board->config->after_job != AFTER_JOB_OFF
			? RESERVATION_REMOVING
			: RESERVATION_ENDING;
	return save(reservation, done, data, err);
}

static void end_by_itself(struct reservation *reservation, const char *how)
{
	const struct board *board = reservation->board;
	struct access_identity who;
	struct error err;

	access_identify_dutd(&who, "timer");
	audit_note(board->daemon, &who, board->config->id, 0, "release", "the reservation of %s %s",
		   reservation->owner, how);
	(void)reservation_end(reservation, how, NULL, NULL, NULL, NULL, &err);
}

static void expire(struct reservation *reservation)
{
	struct error err;

	if (reservation->kicked)
		(void)reservation_end(reservation, "is ended", reservation->kick_by,
				      reservation->kick_why, NULL, NULL, &err);
	else
		end_by_itself(reservation, "is over: its time has run out");
}

static int arm(struct reservation *reservation);

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct reservation *reservation = data;

	(void)source;
	(void)usec;
	if (reservation_left_us(reservation) == 0 || arm(reservation) < 0)
		expire(reservation);
	return 0;
}

/* Wakes at its end; by the wall clock, too, where that decides, so that a step of it is seen. */
static int arm(struct reservation *reservation)
{
	sd_event *event = reservation->board->daemon->event;
	const struct moment now = moment_now();
	uint64_t realtime_us;
	int r;

	reservation->timer = sd_event_source_disable_unref(reservation->timer);
	reservation->wall_timer = sd_event_source_disable_unref(reservation->wall_timer);
	r = sd_event_add_time(event, &reservation->timer, CLOCK_BOOTTIME,
			      now.boottime_us + expiry_left_us(&reservation->until, &now), 1,
			      on_timer, reservation);
	if (r >= 0 && expiry_is_by_wall(&reservation->until, &now, &realtime_us) &&
	    now.realtime_us < realtime_us)
		r = sd_event_add_time(event, &reservation->wall_timer, CLOCK_REALTIME, realtime_us,
				      1, on_timer, reservation);
	return r;
}

static void on_lost(void *data)
{
	end_by_itself(data, "is over: its client is gone");
}

/* One that is bound, and whose client does not come, ends after a while. */
static void watch_client(struct reservation *reservation)
{
	const struct binding_config config = {
		.event = reservation->board->daemon->event,
		.token = reservation->id,
		.limit_us = reservation->board->daemon->config->client_us,
		.lost = on_lost,
		.data = reservation,
	};
	struct error err;

	if (reservation->bound && binding_begin(&reservation->binding, &config, &err) < 0)
		log_board(reservation->board->config->id, LOG_ERR, "reservation: %s", err.text);
}

/* ---- what is on the disk ---- */

static void held(struct reservation *reservation)
{
	struct board *board = reservation->board;
	char until[RESERVATION_TIME_SIZE];

	reservation->stage = RESERVATION_HELD;
	log_board(board->config->id, LOG_INFO, "is reserved by %s until %s%s%s", reservation->owner,
		  reservation_format_until(reservation, until), reservation->why ? ": " : "",
		  reservation->why ? reservation->why : "");
	tell_lab(reservation, "begun");
	watch_client(reservation);
	if (arm(reservation) < 0)
		expire(reservation);
	/* Jobs of the holder may have waited for it. */
	dispatch_later(board->daemon);
}

/* Nobody was told of it. What may lie on the disk goes, too. */
static void never_was(struct reservation *reservation)
{
	reservation->stage = RESERVATION_REMOVING;
	note(reservation);
}

void reservation_saved(struct reservation *reservation, enum reservation_stage stage, int r,
		       const struct error *err)
{
	if (r < 0 && stage == RESERVATION_TAKING) {
		never_was(reservation);
		return;
	}
	if (r < 0) {
		save_later(reservation, err->text);
		return;
	}
	reservation->unsaved = false;
	if (stage != reservation->stage)
		return;
	if (stage == RESERVATION_TAKING) {
		held(reservation);
	} else if (stage == RESERVATION_ENDING) {
		reservation->stage = RESERVATION_OFF;
		reservation_go_on(reservation);
	} else if (stage == RESERVATION_REMOVING) {
		drop(reservation);
	}
}

/* ---- its steps ---- */

char *reservation_make_id(void)
{
	uint64_t number = 0;
	char *id;

	/* Not a secret: it tells one reservation from the next. */
	if (getrandom(&number, sizeof(number), GRND_NONBLOCK) < 0)
		number = clock_now_us();
	return asprintf(&id, "%016" PRIx64, number) < 0 ? NULL : id;
}

static struct reservation *new_reservation(struct board *board)
{
	struct reservation *reservation = calloc(1, sizeof(*reservation));

	if (reservation) {
		reservation->board = board;
		list_init(&reservation->holds);
	}
	return reservation;
}

CLEANUP_DEFINE(struct reservation *, reservation_free)

int reservation_take(struct board *board, const struct reservation_request *request,
		     reservation_saved_fn done, void *data, struct error *err)
{
	cleanup_(reservation_freep) struct reservation *reservation = new_reservation(board);
	int r;

	if (!reservation)
		return error_oom(err);
	reservation->stage = RESERVATION_TAKING;
	reservation->owner_uid = request->owner_uid;
	reservation->bound = request->bound;
	reservation->until = (struct expiry){ moment_now(), request->span_us };
	reservation->since_realtime_us = reservation->until.from.realtime_us;
	reservation->id = strdup(request->id);
	reservation->owner = strdup(request->owner);
	reservation->why = request->why ? strdup(request->why) : NULL;
	if (!reservation->id || !reservation->owner || (request->why && !reservation->why))
		return error_oom(err);
	r = reservation_save(reservation, done, data, err);
	if (r < 0)
		return r;
	board->reservation = take_ptr(reservation);
	return 0;
}

static void tell_change(struct reservation *reservation, const char *what)
{
	holds_tell(reservation, what);
	lab_event(reservation->board->daemon, "reservation", reservation->board->config->id, 0,
		  json_pack("{s:s, s:o}", "state", what, "reservation",
			    reservation_to_json(reservation)));
}

int reservation_extend(struct reservation *reservation, uint64_t span_us, reservation_saved_fn done,
		       void *data, struct error *err)
{
	reservation->until = (struct expiry){ moment_now(), span_us };
	if (arm(reservation) < 0) {
		end_by_itself(reservation, "is over: there is no memory for its timer");
		return error_oom(err);
	}
	tell_change(reservation, "extended");
	return save(reservation, done, data, err);
}

int reservation_kick(struct reservation *reservation, uint64_t notice_us, const char *by,
		     const char *why, reservation_saved_fn done, void *data, struct error *err)
{
	char left[64];

	reservation->kicked = true;
	free(reservation->kick_by);
	free(reservation->kick_why);
	reservation->kick_by = strdup(by);
	reservation->kick_why = why ? strdup(why) : NULL;
	if (reservation_left_us(reservation) > notice_us)
		reservation->until = (struct expiry){ moment_now(), notice_us };
	if (notice_us == 0 || arm(reservation) < 0)
		return reservation_end(reservation, "is ended", by, why, done, data, err);
	log_board(reservation->board->config->id, LOG_INFO,
		  "the reservation of %s is to end in %s, by %s%s%s", reservation->owner,
		  text_format_duration(left, sizeof(left), notice_us), by, why ? ": " : "",
		  why ? why : "");
	tell_change(reservation, "kick");
	return save(reservation, done, data, err);
}

/* ---- the start ---- */

void reservation_load(struct board *board)
{
	struct reservation *reservation = new_reservation(board);
	struct error err;
	int r = reservation ? reservation_read(reservation, &err) : error_oom(&err);

	if (r < 0) {
		if (r != -ENOENT)
			log_board(board->config->id, LOG_ERR,
				  "its reservation.json is left alone: %s", err.text);
		reservation_free(reservation);
		return;
	}
	board->reservation = reservation;
	if (reservation->stage != RESERVATION_HELD)
		return; /* board_begin() ends it */
	/* Its client has as much time to come back as ever. */
	watch_client(reservation);
	if (arm(reservation) < 0)
		log_board(board->config->id, LOG_CRIT, "its reservation will not end by itself");
}

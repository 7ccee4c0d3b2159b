/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/list.h"
#include "dut/binding.h"
#include "dut/expiry.h"

/*
 * A person holds a board, for a time: dutd keeps the board's lock, and nobody but the holder
 * switches it or runs a job on it. The fact lies in <state>/duts/<dut>/reservation.json, which is
 * replaced as a whole at every step, so that it survives whatever else is lost. In memory a step is
 * taken at once; it is told when it is on disk.
 *
 * When a reservation ends while a job of its holder runs, the job goes on, and the board is free
 * after it. Else the board goes off first, as after a job, if its after_job is `off`.
 */

struct board;
struct daemon;

enum {
	RESERVATION_ID_MAX = 200,  /* bytes */
	RESERVATION_MAX_WHY = 200, /* bytes */
	RESERVATION_TIME_SIZE = 48,
};

enum reservation_stage {
	RESERVATION_TAKING, /* its record goes to disk: the board is nobody else's */
	RESERVATION_HELD,
	RESERVATION_ENDING,   /* its end goes to disk */
	RESERVATION_OFF,      /* the board is being switched off */
	RESERVATION_REMOVING, /* its record goes away, and then the board is free */
};

struct reservation {
	struct board *board;
	enum reservation_stage stage;
	char *id, *owner, *why; /* why may be NULL */
	uid_t owner_uid;	/* (uid_t)-1: known by the name */
	bool bound;		/* to a client: it ends when that is gone */
	uint64_t since_realtime_us;
	struct expiry until;
	bool kicked;
	char *kick_by, *kick_why; /* why may be NULL */

	bool off;     /* has been asked for */
	bool unsaved; /* its last step could not be written */
	sd_event_source *timer, *wall_timer, *save_timer;
	struct list holds;	/* hold.link (reservation-hold.c) */
	struct binding binding; /* when it is bound, and held */
};

struct reservation_request {
	const char *id, *owner, *why; /* why may be NULL */
	uid_t owner_uid;
	uint64_t span_us;
	bool bound;
};

typedef void (*reservation_saved_fn)(int r, const struct error *err, void *data);

/*
 * Gives a free board to somebody. done runs once, from the loop: when the record is on disk, or
 * with the reason why there is no reservation. It is not called when the board goes away before.
 */
int reservation_take(struct board *board, const struct reservation_request *request,
		     reservation_saved_fn done, void *data, struct error *err);

/* Tells one reservation from the next. The caller frees it; NULL when memory ran out. */
char *reservation_make_id(void);

struct reservation *reservation_free(struct reservation *reservation);

/* Finds what an earlier dutd has written for this board. */
void reservation_load(struct board *board);

/* Whether this is the holder, as access_identify() names him. */
bool reservation_is_of(const struct reservation *reservation, const char *owner, uid_t uid);

/* It ends that much from now. done as above: when that is on disk. On failure it is done all the
 * same, written later, and done does not run; so for the next two. */
int reservation_extend(struct reservation *reservation, uint64_t span_us, reservation_saved_fn done,
		       void *data, struct error *err);

/* It ends in notice_us at the latest, and cannot be extended any more. why may be NULL. */
int reservation_kick(struct reservation *reservation, uint64_t notice_us, const char *by,
		     const char *why, reservation_saved_fn done, void *data, struct error *err);

/* It ends now. how goes on after "the reservation of alice": "is released". by, why and done may be
 * NULL. */
int reservation_end(struct reservation *reservation, const char *how, const char *by,
		    const char *why, reservation_saved_fn done, void *data, struct error *err);

/* For the board, which has its lock, or is off: an end goes on from where it is. */
void reservation_go_on(struct reservation *reservation);

uint64_t reservation_left_us(const struct reservation *reservation);

/* "14:32 CET", with the day when that is another one than today. */
const char *reservation_format_until(const struct reservation *reservation,
				     char text[static RESERVATION_TIME_SIZE]);

/* The API's view. */
json_t *reservation_to_json(const struct reservation *reservation);

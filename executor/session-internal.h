/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/protocol.h"
#include "executor/boot.h"
#include "executor/control.h"
#include "executor/events.h"
#include "executor/jobsock.h"
#include "executor/loan.h"
#include "executor/matcher.h"
#include "executor/result.h"
#include "executor/session.h"
#include "executor/setup.h"
#include "executor/timeouts.h"

/* What session.c (beginning and end) and session-boot.c (between them) share. */

enum { MESSAGE_MAX = 512 };

/* Whether the console gets its second after the end. */
enum session_drain { DRAIN_WHAT_IS_THERE, DRAIN_A_SECOND };

struct session {
	struct session_config config;
	struct events *events;
	struct control *control;
	struct jobsock *jobsock;
	struct loan *loan;
	struct setup *setup;
	struct timeouts timeouts;
	struct matcher matcher;
	struct result result;
	struct boot boot;
	int reserved_fd; /* for result.json */

	sd_event_source *timer; /* the next of timeouts */
	uint64_t armed_us;	/* for when; UINT64_MAX: not armed */
	sd_event_source *helper, *sigterm, *sigint;
	sd_event_source *drain, *conclude; /* after the end */

	uint64_t begun_realtime_us; /* go; 0 before it */
	bool silent;		    /* no byte since the last `on` */
	bool power_verified;	    /* that `on` was read back */
	bool fault_warns;	    /* a kernel fault that makes PASS a WARN */

	bool ended; /* in teardown */
	bool over;  /* the board's session came to its end: patterns decide */
	bool cancelled;
	bool concluded; /* result.json is being written, or is there */
	bool failed;	/* it could not be written */
	char reason[RESULT_REASON_MAX];
	char message[MESSAGE_MAX];
};

/* ---- session.c: the beginning ---- */

/* dutd's word to start; a second one means nothing. */
void session_go(struct session *session);

/* Tells everybody that a phase begins. */
void session_tell_phase(struct session *session);

/* ---- session-end.c ---- */

int session_end_init(struct session *session, struct error *err);
void session_end_done(struct session *session);

/*
 * Ends the job. The first reason stays, but what the last second of a session shows (over, reason
 * NULL) may be worse than its end. text is the message of result.json.
 */
void session_end(struct session *session, enum session_drain drain, const char *reason,
		 const char *format, ...) printf_(4, 5);

/*
 * Ends it as cancelled, whatever it had come to, until result.json is there, and tells dutd so. by
 * and why may be NULL; so may reason, which is "cancelled" then.
 */
void session_cancel(struct session *session, const char *reason, const char *by, const char *why);

/* Writes the result and leaves, as soon as the loop has its turn. */
void session_conclude(struct session *session);

/* All is said: ends the process. */
void session_leave(struct session *session);

/* Gives the console of this generation back to dutd. */
void session_give_back(struct session *session, uint64_t generation);

/* A time for people, null for 0. */
json_t *session_iso_time(uint64_t realtime_us);

/* ---- session-boot.c: the clock and power ---- */

int session_boot_init(struct session *session, struct error *err);
void session_boot_done(struct session *session);

/* Arms the timer for the next timeout. To be called after each change of timeouts. */
void session_arm(struct session *session);
void session_start_timeout(struct session *session, size_t index);

/* Spends a retry of one, for cause, and tells. */
enum timeout_verdict session_spend(struct session *session, size_t index, const char *cause);

/* Ends the present boot, for cause, and begins the next one. */
void session_restart(struct session *session, const char *cause);

/* Does what the table of boots says. */
void session_act(struct session *session, enum boot_action action);

/* dutd has answered the open request. */
void session_answered(struct session *session, const struct control_answer *answer);

/* ---- session-console.c ---- */

int session_console_init(struct session *session, struct error *err);
void session_console_done(struct session *session);

/* ---- session-control.c ---- */

extern const struct control_handlers session_control_handlers;

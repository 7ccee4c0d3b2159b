/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/jsontext.h"
#include "executor/description.h"

/*
 * All the timeouts of a job in one table: without a clock (the time is an argument) and without a
 * timer, so that every rule can be tested. Boot timers stand still while the executor waits for an
 * answer of dutd; retries count over the whole job and are never given back.
 */

enum {
	TIMEOUT_DAEMON = TIMEOUT_NAMES, /* the longest wait for dutd; a setting of the daemon */
	TIMEOUT_WATCHDOGS,		/* index of the first watchdog */
};

struct timeout {
	const char *name; /* "boot_cycle", "watchdogs.suite"; belongs to the table */
	uint64_t limit_us;
	unsigned retries, retried;
	bool pauses;	      /* stands still while a power request is open */
	bool running;	      /* or paused */
	uint64_t deadline_us; /* while running and not paused */
	uint64_t left_us;     /* while paused */
};

struct timeouts {
	struct timeout *items;
	char *names; /* of the watchdogs, one after the other */
	size_t count;
	bool paused;
};

enum timeout_verdict { TIMEOUT_ABORT, TIMEOUT_RETRY };

/* Errors: -ENOMEM. */
int timeouts_init(struct timeouts *timeouts, const struct description *description,
		  uint64_t daemon_us);
void timeouts_done(struct timeouts *timeouts);

/* (Re)starts one; an infinite one never runs. */
void timeouts_start(struct timeouts *timeouts, size_t index, uint64_t now_us);
void timeouts_stop(struct timeouts *timeouts, size_t index);

/* Stops everything that belongs to one boot: boot_cycle, both console activities, watchdogs. */
void timeouts_stop_boot(struct timeouts *timeouts);

/* From a power request until its answer the boot timers stand still. Both may be called twice. */
void timeouts_pause(struct timeouts *timeouts, uint64_t now_us);
void timeouts_resume(struct timeouts *timeouts, uint64_t now_us);

/* When the next one expires, or UINT64_MAX. */
uint64_t timeouts_next_us(const struct timeouts *timeouts);

/*
 * Whether one has expired: its deadline lies strictly before now. It is stopped, and its index
 * stored. To be called until it says no.
 */
bool timeouts_expired(struct timeouts *timeouts, uint64_t now_us, size_t *ret_index);

/* Spends a retry of this one, if there is one left. session_reboot spends those of boot_cycle. */
enum timeout_verdict timeouts_spend(struct timeouts *timeouts, size_t index);

/* What is left, or UINT64_MAX when it does not run. */
uint64_t timeouts_left_us(const struct timeouts *timeouts, size_t index, uint64_t now_us);

/* {NAME: {limit, retries, retried}} in seconds, null for no limit, as result.json has it. */
json_t *timeouts_result(const struct timeouts *timeouts);

/* Writes the same with "remaining", of those that run, as the member "timeouts". */
void timeouts_write_state(const struct timeouts *timeouts, uint64_t now_us, struct jsontext *json);

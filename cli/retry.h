/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cli/session.h"

/*
 * Asks again when the connection to the daemon broke: it was killed, restarted or upgraded, and
 * comes back. Pauses grow up to a second, so that the work of a second is lost at most; the session
 * says once that the daemon is away, and that it is back. A daemon that was never reached is not
 * waited for: it is not there, or we look in the wrong place.
 */

#define RETRY_DEFAULT "10m" /* of --reconnect */

struct retry {
	struct session *session;
	void (*again)(void *data);
	void *data;
	sd_event_source *timer;
	uint64_t lost_us, good_us; /* CLOCK_BOOTTIME; 0: it is not, it was never */
	uint64_t pause_us;
};

/* again runs from the loop, when it is time. Embedded; a zeroed one may be done. */
void retry_init(struct retry *retry, struct session *session, void (*again)(void *data),
		void *data);
void retry_done(struct retry *retry);

/* The daemon has answered. */
void retry_good(struct retry *retry);

/* Whether this answer is worth another try, within the session's limit; then again will run. */
bool retry_later(struct retry *retry, const struct answer *answer);

/* --reconnect D (or NULL: the default) for a session; false (said) when it is no duration. */
bool retry_read_limit(uint64_t *ret_us, const char *verb, const char *text);

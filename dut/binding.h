/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/*
 * What binds a thing (a job, a reservation) to the client that asked for it: while a stream of that
 * client is open the thing is held; when the last one has been gone for the limit, it is lost, and
 * its owner ends it. Only who knows the token may open such a stream. Time in which dutd was down
 * does not count: a new dutd begins the binding anew.
 *
 * Embedded in its thing, which a zeroed one may be: it binds nothing until it is begun.
 */

enum { BINDING_TOKEN_MAX = 200 }; /* bytes */

struct binding {
	char *token;
	unsigned streams;	/* that are open */
	sd_event_source *timer; /* on while there is none; NULL: not begun, ended, or lost */
	uint64_t limit_us;
	void (*lost)(void *data);
	void *data;
};

struct binding_config {
	sd_event *event;
	const char *token;	  /* copied */
	uint64_t limit_us;	  /* without a stream; from now on, too */
	void (*lost)(void *data); /* runs once at most, from the loop; the binding has ended */
	void *data;
};

int binding_begin(struct binding *binding, const struct binding_config *config, struct error *err);

/* Unbinds: whoever streams goes on, and nothing is lost by him any more. Streams stay counted. */
void binding_end(struct binding *binding);

bool binding_is_on(const struct binding *binding);

/* Whether what somebody says (or NULL) is the token, in a time that does not tell how much of it is
 * right. */
bool binding_is_token(const char *token, const char *said);

/* Whether this is its token; false when it binds nothing. */
bool binding_knows(const struct binding *binding, const char *token);

/* A stream with its token has been opened; and is gone. Each attach has its detach. */
void binding_attach(struct binding *binding);
void binding_detach(struct binding *binding);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "cli/session.h"

/* A job that waits for a DUT: what it waits for, as often as that changes, until it waits no more.
 */

struct place;

/*
 * Runs from the loop with a text for people, "waits: bbb-1 is held by alice (...); you are 2nd", or
 * "begins on bbb-1", which is the last one. A daemon that cannot be reached is asked again.
 */
typedef void (*place_fn)(const char *text, void *data);

int place_new(struct place **ret, struct session *session, const char *id, place_fn on_text,
	      void *data, struct error *err);
struct place *place_free(struct place *place);
CLEANUP_DEFINE(struct place *, place_free)

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/yaml.h"

/*
 * Reads the configuration again while everything goes on: at SIGHUP and at POST /reload. The files
 * are parsed in a thread, beside what holds; one with a problem is refused as a whole, and changes
 * nothing.
 *
 * One round at a time. Who asks during a round gets the next one, which begins after he has asked,
 * together with all others who have: a storm of signals is two rounds.
 */

struct config;
struct daemon;
struct http_request;
struct reload;

enum { RELOAD_MAX_CALLERS = 100 }; /* who wait at once; more get 429 */

/* path: of dutd.yaml, relative to the present folder or absolute. */
int reload_new(struct reload **ret, struct daemon *daemon, const char *path, struct error *err);

/* What is being read is thrown away. Blocks until the thread has read it. */
struct reload *reload_free(struct reload *reload);

/* What comes of it is logged. */
void reload_on_signal(struct reload *reload);

/* POST /reload; data is the daemon. */
void api_reload(struct http_request *request, void *data);

/* ---- reload-apply.c ---- */

/*
 * Makes a configuration (taken over) the daemon's, without the DUTs that are new. Returns an array
 * with an object for each change: {dut or setting, keys, outcome, job, text}. at_start: the
 * settings that dutd was started with. NULL when memory ran out; nothing has changed then.
 */
json_t *reload_apply(struct daemon *daemon, struct config *config,
		     const struct yaml_node *at_start);

/* Opens some of the new DUTs, from *next on, for some milliseconds. True when all are. */
bool reload_open_some(struct daemon *daemon, json_t *changes, size_t *next);

/* After both. */
void reload_finish(struct daemon *daemon, const json_t *changes);

/* What waited until nobody has its board, and can be done now. For dispatch_later() alone. */
void reload_settle(struct daemon *daemon);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/*
 * The names of users. Where they come from a directory service a look-up may take seconds, or not
 * end at all; it runs in a thread of its own, and the loop goes on. What was found is kept.
 */

struct users;

enum {
	USERS_NAME_SIZE = 64,
	USERS_MAX_KEPT = 1000,	/* the one that was asked for longest ago makes room */
	USERS_MAX_LOOKUPS = 16, /* under way at once; who comes then is uid:N */
};

int users_new(struct users **ret, sd_event *event, struct error *err);

/* Forgets who waits, without calling done. A look-up that hangs is left to itself. */
struct users *users_free(struct users *users);

/*
 * The name of a user, "uid:N" for one that has none or is not known yet. True when nothing better
 * can be had by waiting: it is known, or its look-up has taken too long already.
 *
 * Blocks: never.
 */
bool users_name(struct users *users, uid_t uid, char name[static USERS_NAME_SIZE]);

/*
 * Looks the name up; done runs once, from the loop, when users_name() is as good as it gets, after
 * 2 s at the latest.
 *
 * Errors: -EAGAIN when USERS_MAX_LOOKUPS are under way.
 */
int users_ask(struct users *users, uid_t uid, void (*done)(void *data), void *data,
	      struct error *err);

/* The one who asked is gone: its done does not run any more. */
void users_forget(struct users *users, const void *data);

/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"

/*
 * What the service manager holds for us: the socket that it listens on in our place, and the fds
 * that it keeps while no dutd runs (systemd's fd store), so that a console stays open, and what
 * lies in it and in its pipe stays there, over a restart or a crash. Without a service manager, or
 * when it has no store for us, nothing is kept and nothing is handed in.
 *
 * Kept fds have names, KIND/DUT/NAME/SERIAL: what replaces an fd is stored before that is removed.
 */

struct fdstore;

/* The place of one fd that may be kept. */
struct fdstore_slot {
	char name[192];	 /* without the serial number */
	unsigned serial; /* of what is stored; 0: nothing */
};

/* Takes over all fds that were handed in. */
int fdstore_new(struct fdstore **ret, struct error *err);

/* Closes our copies of what nobody has taken. */
struct fdstore *fdstore_free(struct fdstore *store);

/*
 * The listening socket of the API, now the caller's: 1, or 0 when there is none.
 *
 * Errors: -EINVAL for a socket of another type, or more than one.
 */
int fdstore_take_socket(struct fdstore *store, int *ret_fd, struct error *err);

void fdstore_slot_init(struct fdstore_slot *slot, const char *kind, const char *dut,
		       const char *name);

/* What an earlier dutd stored there, now the caller's (it stays stored, too); -1 for nothing. */
int fdstore_take(struct fdstore *store, struct fdstore_slot *slot);

/* Has this fd kept, instead of what was stored there before; -1: nothing any more. */
void fdstore_put(struct fdstore *store, struct fdstore_slot *slot, int fd);

/* What nobody has taken belongs to boards that are no more: it is kept no longer. */
void fdstore_drop_rest(struct fdstore *store);

/* From here on nothing changes: what is closed because dutd leaves is for the next one. */
void fdstore_seal(struct fdstore *store);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * Some space of the disk that is kept for dutd's own records: <state>/reserve. It is given up when
 * a record finds no room, so that a full disk does not keep jobs from ending or dutd from starting,
 * and taken again when there is room.
 */

/*
 * file_replace(), with the reserve behind it.
 *
 * Blocks: on the disk.
 */
int reserve_replace(int state_fd, int dir_fd, const char *name, const char *text, mode_t mode,
		    struct error *err);

/* The two halves of it, for what is no file of its own: gives up some, or says that nothing is
 * left; and takes again what there is room for. */
bool reserve_give_up(int state_fd);
void reserve_take_again(int state_fd);

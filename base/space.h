/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * The floor of free space, limits.free_space of dutd.yaml(5): what may be large (uploads,
 * downloads, archives, consoles) stops there, so that records, results and the ends of jobs find
 * room.
 */

enum { SPACE_STEP = 1 << 20 }; /* bytes to write between two looks at the floor */

/*
 * Whether less than min_free bytes are left for ordinary users on the disk of this fd. What cannot
 * be asked is not low.
 *
 * Blocks: never.
 */
bool space_is_low(int fd, uint64_t min_free);

/* The same as an error. Errors: -ENOSPC. */
int space_check(int fd, uint64_t min_free, struct error *err);

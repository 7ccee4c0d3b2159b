/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/needle.h"

/*
 * Which of many owners (patterns) a text may concern: those of whose needles one is there, and
 * those that have none. One pass over the text finds them all, and the time of a pass hardly grows
 * with their number.
 */
struct sieve;

struct sieve_owner {
	const struct needles *needles; /* NULL: nothing concerns it; none in them: everything */
};

/*
 * Makes a sieve of the needles of so many owners.
 *
 * Errors: -ENOMEM.
 * Owns:   nothing of the caller's.
 */
int sieve_new(struct sieve **ret, const struct sieve_owner *owners, size_t count);
struct sieve *sieve_free(struct sieve *sieve);

/*
 * Looks through a text, as if an LF stood before it; what was found before is forgotten. A NUL is a
 * byte as any other.
 */
void sieve_scan(struct sieve *sieve, const char *text, size_t length);

/*
 * The length of a part at the beginning of a text, of one line or many, in which there is no needle
 * of anybody. 0 when there is an owner that everything concerns.
 */
size_t sieve_find(const struct sieve *sieve, const char *text, size_t length);

/* The first owner from this index on that the last text may concern; SIZE_MAX when there is none.
 */
size_t sieve_next(const struct sieve *sieve, size_t from);

/* Whether it may concern this one. */
bool sieve_passed(const struct sieve *sieve, size_t owner);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/*
 * Everything that is wrong with one input, each with its place, so that a person sees all of it at
 * once. Memory that runs out while a problem is noted only raises `lost`. At most PROBLEMS_MAX are
 * kept; more raise `lost` as well.
 */
enum { PROBLEMS_MAX = 100 };

struct problem {
	char *file;	       /* or NULL when there is only one input */
	unsigned line, column; /* from 1; 0 when the place is not known */
	char *text;	       /* one sentence without full stop */
	char *key;	       /* dotted path of the key, or NULL */
};

struct problems {
	struct problem *items;
	size_t count, lost;
};

struct yaml_node;

void problems_done(struct problems *problems);

void problems_add(struct problems *problems, const char *file, unsigned line, unsigned column,
		  const char *key, const char *format, ...) printf_(6, 7);

/* The same at a node's own file, line and column. */
void problems_add_at(struct problems *problems, const struct yaml_node *node, const char *key,
		     const char *format, ...) printf_(4, 5);

/* Sorts by file, line and column, keeps the order of those at one place, and drops repeated ones.
 */
void problems_sort(struct problems *problems);

static inline bool problems_any(const struct problems *problems)
{
	return problems->count > 0 || problems->lost > 0;
}

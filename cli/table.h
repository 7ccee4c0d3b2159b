/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/*
 * A table for people on a terminal (a header, columns that align), and for programs in a pipe (no
 * header, cells between tabs). Cells of any origin: they are written safely.
 */

enum { TABLE_COLUMNS_MAX = 8 };

struct table {
	const char *const *header; /* ends with NULL */
	size_t columns;
	char **cells;
	size_t count;
	bool failed; /* memory ran out */
};

void table_init(struct table *table, const char *const *header);
void table_done(struct table *table);

/* The next cell of the present row; NULL is an empty one. */
void table_add(struct table *table, const char *text);

/* -ENOMEM when a cell is missing. */
int table_print(const struct table *table, FILE *out, bool for_people);

/* The same for one that comes in parts, each with columns of its own: the first has the header. */
int table_print_part(const struct table *table, FILE *out, bool for_people, bool is_first);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "dut/database.h"

/*
 * Brings a database to the tables of this dutd, step by step, each in a transaction of its own. The
 * table `schema` has a row for each step that was taken. Returns 1 for one that was empty, else 0.
 *
 * Errors: -ENOTSUP for the database of a newer dutd, which is left as it is.
 */
int schema_migrate(struct database *database, struct error *err);

/* The same with other steps: the first leads to version 1. */
int schema_apply(struct database *database, const char *const *list, size_t count,
		 struct error *err);

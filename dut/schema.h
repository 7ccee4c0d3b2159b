/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"
#include "dut/database.h"

/*
 * Brings a database to the tables of this dutd, step by step, each in a transaction of its own. The
 * table `schema` has a row for each step that was taken. Returns 1 for one that was empty, else 0.
 *
 * Errors: -ENOTSUP for the database of a newer dutd, which is left as it is.
 */
int schema_migrate(struct database *database, struct error *err);

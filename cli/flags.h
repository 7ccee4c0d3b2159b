/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>

#include "cli/cli.h"

/*
 * PATCH /dut/{id}: what people say of a DUT. Takes the reference to patch; NULL is memory that ran
 * out. Returns the exit code; a change that comes later, because the DUT has a job, is said.
 */
int flags_patch(const struct cli *cli, const char *board, json_t *patch);

/* SPDX-License-Identifier: MIT */
#pragma once

#include "cli/session.h"

/*
 * Fetches the results of a job and puts them into a folder, which is made. Files of the same names
 * are replaced. 0, or the exit code (said).
 */
int results_fetch(struct session *session, const char *id, const char *folder);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/sandbox.h"

/* How dut-executor confines itself, step by step; see the section SANDBOX of dut-executor(8). */

struct assignment;

/* "UID:GID": never root's, which is what it is there to give up. */
bool confine_parse_user(const char *text, struct sandbox_user *ret);

/* Before anything is read: limits, rights and the user (NULL keeps it). Whatever is started after
 * it inherits that. */
int confine_start(const struct sandbox_user *user, struct error *err);

/* No file grows beyond what this lab allows a job at all: writing more is an error then. */
int confine_files(const struct assignment *assignment, struct error *err);

/* Before anything that a submitter wrote is read: from here on there is the job's folder, and what
 * it is lent. */
int confine_enter(int job_dir_fd, struct error *err);

/* The check of a job file reads its question and writes its answer: there is nothing else that it
 * may. */
int confine_check(struct error *err);

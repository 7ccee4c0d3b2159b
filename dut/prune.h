/* SPDX-License-Identifier: MIT */
#pragma once

struct daemon;

/*
 * Removes the oldest ended jobs, with all their files, until limits.kept_jobs are left. One that is
 * being read, or whose board is not off yet, waits.
 */
void prune_jobs(struct daemon *daemon);

/* Removes what an earlier dutd had begun to remove. */
void prune_leftovers(struct daemon *daemon);

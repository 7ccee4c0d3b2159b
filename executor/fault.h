/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * The kind of kernel fault that a console line tells of ("panic", "oops", "bug", "warning",
 * "kasan", "soft_lockup" ...), or NULL.
 *
 * Source: the texts of kernel/panic.c, lib/bug.c, mm/kasan/report.c, kernel/watchdog.c,
 * kernel/hung_task.c, kernel/rcu/tree_stall.h, kernel/locking/lockdep.c of Linux 5.10 to 6.12.
 */
const char *fault_find(const char *line, size_t length);

/* Whether a kernel begins to talk: "Linux version ". */
bool fault_is_kernel_banner(const char *line, size_t length);

/* What a line must hold so that one of the above can be said of it: texts by index, then NULL. */
const char *fault_text(size_t index);

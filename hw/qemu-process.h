/* SPDX-License-Identifier: MIT */
#pragma once

#include "hw/power.h"

/*
 * The process of a QEMU board. It inherits qemu.lock, which is therefore held exactly while it
 * lives: that is what is read back, also by a dutd that did not start it.
 */

struct qemu_process;

typedef void (*qemu_gone_fn)(void *data);

/* 1: it lives, 0: it does not. */
int qemu_process_is_alive(const struct power_config *config, struct error *err);

/*
 * Starts it, its CPUs stopped, with qmp.sock and console.sock listening. gone runs once, from the
 * loop, when it has ended, wanted or not.
 *
 * Errors: -EWOULDBLOCK when the board has a process already; -ENOENT without a QEMU.
 */
int qemu_process_start(struct qemu_process **ret, const struct power_config *config,
		       const struct power_deploy *deploy, qemu_gone_fn gone, void *data,
		       struct error *err);

/*
 * Finds the one that an earlier dutd has started.
 *
 * Errors: -ESRCH when the holder of the lock cannot be found.
 */
int qemu_process_adopt(struct qemu_process **ret, const struct power_config *config,
		       qemu_gone_fn gone, void *data, struct error *err);

/* Lets go of it; it lives on. */
struct qemu_process *qemu_process_free(struct qemu_process *process);

void qemu_process_kill(struct qemu_process *process);

/* Its last complaint on stderr, printable, or "". */
const char *qemu_process_last_words(struct qemu_process *process);

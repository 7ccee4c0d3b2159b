/* SPDX-License-Identifier: MIT */
#pragma once

#include "hw/power.h"

/* The command line of a QEMU board, made from its keys in dutd.yaml and what a job deploys. */

/* The fds that QEMU inherits. */
enum qemu_fd {
	QEMU_FD_LOCK = 10,
	QEMU_FD_QMP = 11,
	QEMU_FD_CONSOLE = 12,
	QEMU_FD_KERNEL = 13,
	QEMU_FD_INITRAMFS = 14,
	QEMU_FD_DTB = 15,
};

struct qemu_command {
	char *path;
	char **argv; /* ends with NULL */
	size_t count;
};

void qemu_command_check(const struct yaml_node *keys, struct problems *problems);

/* deploy may be NULL; what it has replaces the configured kernel, initramfs and command line. */
int qemu_command_make(struct qemu_command *command, const struct power_config *config,
		      const struct power_deploy *deploy, struct error *err);
void qemu_command_done(struct qemu_command *command);

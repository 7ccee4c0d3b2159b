/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/problem.h"
#include "base/yaml.h"

/*
 * The contract of one console of a board: it yields a non-blocking fd that carries the board's
 * bytes, and that may be lent to another process. It never reads it.
 */

struct console;

struct console_config {
	const char *board;
	const char *name; /* "main" ... */
	const char *driver;
	const struct yaml_node *keys; /* may be NULL when power stands for the console too */
	sd_event *event;
	int runtime_dir_fd; /* <runtime>/duts/<dut> */
};

int console_check(const char *driver, const struct yaml_node *keys, struct problems *problems);

int console_open(struct console **ret, const struct console_config *config, struct error *err);
struct console *console_close(struct console *console);

/*
 * Connects to the board's console. The fd is the caller's: non-blocking, close-on-exec.
 *
 * Errors: -ENOENT, -ECONNREFUSED, -ENODEV: there is none at present (a board that is off may have
 * none), try again after power_prepare(). Blocks: never.
 */
int console_connect(struct console *console, int *ret_fd, struct error *err);

/* ---- for drivers ---- */

struct console_driver {
	const char *name;
	void (*check)(const struct yaml_node *keys, struct problems *problems);
	int (*open)(struct console **ret, const struct console_config *config, struct error *err);
	int (*connect)(struct console *console, int *ret_fd, struct error *err);
	void (*close)(struct console *console);
};

struct console {
	const struct console_driver *driver;
	const struct console_config *config; /* the core's copy */
};

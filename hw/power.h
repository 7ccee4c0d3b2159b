/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/problem.h"
#include "base/yaml.h"

/*
 * The contract of a board's power. Switching takes as long as the device takes: every operation
 * begins here and ends in a callback, which runs exactly once, never before the call that asked for
 * it has returned, and never after power_close(). One operation at a time; the caller queues.
 */

struct power;

enum power_state { POWER_UNKNOWN, POWER_OFF, POWER_ON };

const char *power_state_name(enum power_state state); /* "UNKNOWN" "OFF" "ON" */

/* What a board and its drivers live on. The folders outlive every object of the board. */
struct power_config {
	const char *board;	      /* the DUT's name */
	const char *driver;	      /* "sim", "qemu" ... */
	const struct yaml_node *keys; /* the driver's own mapping; outlives the object */
	sd_event *event;
	int state_dir_fd;	 /* <state>/duts/<dut>; locks of board processes lie here */
	int runtime_dir_fd;	 /* <runtime>/duts/<dut>; their sockets lie here */
	const char *runtime_dir; /* the same as an absolute path, for programs that are started */
	const char *libexec_dir; /* where dut-sim is */
	const char *user;	 /* that QEMU runs as, where we are root; NULL: as we do */
	uid_t user_uid;
	/* A virtual board's process has been started, which outlives us; or NULL. */
	void (*started)(pid_t pid, void *data);
	void *started_data;
};

/* What a power-on is to boot, for drivers that deliver it themselves (qemu). fds are borrowed, -1
 * when absent. */
struct power_deploy {
	int kernel_fd, initramfs_fd, dtb_fd;
	const char *cmdline; /* or NULL */
};

struct power_result {
	int error;		/* 0, or a negative errno with a text */
	enum power_state state; /* as read back */
	bool verified;		/* the device itself said so after the operation */
	struct error text;
};

typedef void (*power_done_fn)(struct power *power, const struct power_result *result, void *data);

/*
 * Adds a problem for each fault in a driver's keys; -ENOENT (with a problem) for an unknown driver,
 * or for one that this program does not have yet ("not yet: NAME").
 */
int power_check(const char *driver, const struct yaml_node *keys, struct problems *problems);

/* Whether the driver's keys stand for power, console and deploy together (qemu). */
bool power_driver_has_deploy(const char *driver);

/* Begins nothing at the device: after a restart the outlet is as it was. */
int power_open(struct power **ret, const struct power_config *config, struct error *err);
struct power *power_close(struct power *power);

/*
 * Prepares an `on`: a driver whose console exists only then (qemu) makes it exist, still without
 * running a byte of the board's code. deploy may be NULL. Others finish at once. Done with the
 * state OFF or, for a board that is on, ON.
 */
int power_prepare(struct power *power, const struct power_deploy *deploy, power_done_fn done,
		  void *data, struct error *err);

/* Switches and reads back. Switching to what is there already is a success. */
int power_switch(struct power *power, bool on, power_done_fn done, void *data, struct error *err);

/* Reads the state from the device. */
int power_read(struct power *power, power_done_fn done, void *data, struct error *err);

/*
 * changed runs, from the loop, when the driver learns by itself that the state may be another one
 * (a virtual board's process has ended) while no operation is under way: it is time to read it.
 */
void power_watch(struct power *power, void (*changed)(void *data), void *data);

/* Whether this key names a file, relative to the one that it stands in. */
bool power_key_is_path(const char *driver, const char *key);

/* Whether the driver's boards are processes of this machine (qemu, sim). */
bool power_driver_is_virtual(const char *driver);

/*
 * A virtual board is not to be any more, or to be another one: its process ends, whatever it does.
 * Done with the state OFF. Of other drivers' boards nothing ends: the state is read.
 */
int power_end(struct power *power, power_done_fn done, void *data, struct error *err);

/* The board may be let go although dutd stops: leaves everything as it is, or ends a virtual board
 * that is off. */
void power_release(struct power *power);

/* ---- for drivers ---- */

enum power_operation { POWER_OP_PREPARE, POWER_OP_ON, POWER_OP_OFF, POWER_OP_READ, POWER_OP_END };

struct power_driver {
	const char *name; /* the "driver:" value in dutd.yaml */
	bool has_deploy;
	bool is_virtual;	  /* knows POWER_OP_END */
	const char *const *paths; /* the keys that name files, ends with NULL; or NULL */
	/* Adds a problem for each fault in the keys. */
	void (*check)(const struct yaml_node *keys, struct problems *problems);
	/* Stores the new object in *ret. Must not block. Does not change the outlet. */
	int (*open)(struct power **ret, const struct power_config *config, struct error *err);
	/* Begins one operation. On 0 the driver calls power_finish() once, now or later, with the
	 * state read back. */
	int (*start)(struct power *power, enum power_operation operation,
		     const struct power_deploy *deploy, struct error *err);
	/* Called at a clean stop of dutd while the board is nobody's. NULL: nothing to do. */
	void (*release)(struct power *power);
	/* Frees the object. Takes a half-open one. Does not change the outlet. */
	void (*close)(struct power *power);
};

/* First member of each driver's own struct. */
struct power {
	const struct power_driver *driver;
	const struct power_config *config; /* the core's copy */
	struct power_core *core;	   /* hw/power.c's own */
};

void power_finish(struct power *power, const struct power_result *result);

/* Tells the one who watches, unless an operation is under way, which will tell. Not from start().
 */
void power_changed(struct power *power);

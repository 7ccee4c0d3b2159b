/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/jsontext.h"
#include "base/problem.h"
#include "base/sandbox.h"
#include "base/yaml.h"
#include "dut/tokens.h"

/* dutd.yaml and the files of duts.d, pdus.d and types.d beside it, checked and merged. See
 * dutd.yaml(5). */

struct board;

enum after_job { AFTER_JOB_OFF, AFTER_JOB_ON, AFTER_JOB_LEAVE };

struct config_console {
	char *name;
	char *driver;
	char *dut_tty;		      /* or NULL */
	const struct yaml_node *keys; /* the mapping with the driver's keys, or NULL */
};

struct config_trees {
	struct yaml_tree **items;
	size_t count;
};

/*
 * A DUT as the files had it at one time. It stands on its own: whoever uses what lies in it (a
 * board, its outlet, its consoles) has a reference, and a newer configuration changes nothing of
 * it.
 */
struct config_dut {
	unsigned references; /* of the loop's thread alone, once it is loaded */
	struct board *board; /* that is what this says; NULL: none yet, or not any more */
	char *id;
	char *description; /* or NULL */
	char **aliases;	   /* ends with NULL */
	char **tags;	   /* ends with NULL, without repetition */
	char *mac;	   /* or NULL */
	json_t *variables; /* object: the daemon's, overridden by the DUT's */

	char *power_driver; /* NULL: no power configured (WAIT_FOR_CONFIG) */
	const struct yaml_node *power_keys;
	uint64_t min_off_us, settle_us;
	enum after_job after_job;
	bool off_at_start;

	struct config_console *consoles; /* the first is the default */
	size_t n_consoles;

	char *deploy_driver; /* NULL: none */
	const struct yaml_node *deploy_keys;

	const struct yaml_node *node; /* all of it, merged; the nodes know where they stood */
	struct config_trees trees;    /* that the nodes above lie in */
};

struct config_limits {
	uint64_t overall_us, reservation_us;
	uint64_t job_file, bucket, bucket_files, console_log, waiting_jobs, connections;
	uint64_t kept_jobs, kept_records;
	uint64_t kept_age_us, kept_size; /* 0: no limit */
	uint64_t free_space, idle_log;
	uint64_t job_memory, job_tasks; /* of all processes of a job, in its scope */
};

struct config {
	struct sandbox_user *job_users; /* none: jobs run as dutd's user */
	size_t n_job_users;
	mode_t socket_mode;
	char *socket_group;   /* or NULL */
	char **listen;	      /* "127.0.0.1:8600"; ends with NULL, or NULL */
	char **host_names;    /* ends with NULL, or NULL */
	char *tokens_file;    /* absolute, or NULL */
	struct tokens tokens; /* what is in it; see access-tokens.c for what becomes of it */
	char **admins;	      /* ends with NULL */
	char **file_roots;    /* ends with NULL; absolute */
	json_t *variables;    /* object of texts */
	uint64_t overall_us, infra_teardown_us, daemon_us, executor_us,
		client_us; /* default timeouts */
	struct config_limits limits;

	struct config_dut **duts; /* dutd.yaml's, then those of the files in order */
	size_t n_duts;

	const struct yaml_node *settings; /* dutd.yaml without its DUTs and types */
	struct config_trees trees;	  /* that they lie in */
	struct config_private *private;
};

/*
 * Reads the file and what lies beside it. With problems nothing is returned: a configuration is
 * taken as a whole.
 *
 * Errors: -EBADMSG with problems (file, line, column); else errno with err, when the file itself
 * cannot be read.
 */
int config_load(struct config **ret, const char *path, struct problems *problems,
		struct error *err);
struct config *config_free(struct config *config);

struct config_dut *config_dut_ref(struct config_dut *dut);
struct config_dut *config_dut_unref(struct config_dut *dut);

/* What a DUT is, {ID: {...}}, for a record; and back. -EBADMSG for what is none, or is not good any
 * more. */
json_t *config_dut_to_json(const struct config_dut *dut);
int config_dut_from_json(struct config_dut **ret, const json_t *json, struct error *err);

/* An array of {key, value, file, line}: "power.line", a text or a list of texts, and where it
 * stands, in a type or in the DUT itself. */
void config_dut_write(const struct config_dut *dut, const char *key, struct jsontext *json);

/* By name or alias, or NULL. */
struct config_dut *config_find_dut(const struct config *config, const char *id);

const struct config_console *config_find_console(const struct config_dut *dut, const char *name);

/* ---- what is different in a newer configuration ---- */

/* Whether the same driver would find the same outlet, or the same console: times, dut_tty and what
 * else is dutd's own is not looked at. */
bool config_same_power(const struct config_dut *a, const struct config_dut *b);
bool config_same_console(const struct config_console *a, const struct config_console *b);

/* Whether a key of a DUT says what its power and consoles are. */
bool config_is_hardware_key(const char *key);

/* The keys of a DUT whose values differ, types merged in: an array of texts. */
json_t *config_changed_keys(const struct config_dut *before, const struct config_dut *after);

/* The same for the settings of dutd.yaml: "limits.bucket". */
json_t *config_changed_settings(const struct yaml_node *before, const struct yaml_node *after);

/* Whether a setting is looked at when dutd starts, and not again. */
bool config_needs_restart(const char *setting);

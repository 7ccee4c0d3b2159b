/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pattern.h"
#include "base/problem.h"

/* A job file, rendered and checked: what the executor acts on. See dut-job(5). */

#define DURATION_INFINITE UINT64_MAX

/* The timeouts of a job that have a name of their own; watchdogs come beside them. */
enum timeout_name {
	TIMEOUT_OVERALL,
	TIMEOUT_INFRA_SETUP,
	TIMEOUT_INFRA_TEARDOWN,
	TIMEOUT_BOOT_CYCLE,
	TIMEOUT_FIRST_CONSOLE_ACTIVITY,
	TIMEOUT_CONSOLE_ACTIVITY,
	TIMEOUT_NAMES,
};

const char *timeout_name_text(enum timeout_name name); /* "overall" ... */

struct timeout_spec {
	uint64_t limit_us; /* DURATION_INFINITE: never */
	unsigned retries;
};

enum pattern_name {
	PATTERN_SESSION_END,
	PATTERN_SESSION_REBOOT,
	PATTERN_JOB_SUCCESS,
	PATTERN_JOB_WARN,
	PATTERN_JOB_FAIL,
	PATTERN_MACHINE_UNFIT,
	PATTERN_NAMES,
};

const char *pattern_name_text(enum pattern_name name); /* "session_end" ... */

struct watchdog {
	char *name;
	struct pattern *start, *reset, *stop; /* all NULL: a timeout without patterns, inert */
	struct timeout_spec timeout;	      /* infinite: patterns without a timeout, inert */
};

/* One file that a deployment needs. */
struct artifact {
	char *url;    /* http, https, file, or NULL */
	char *bucket; /* path in the bucket, or NULL; exactly one of both when the artifact is there
		       */
	char *sha256; /* 64 lower-case hex digits, or NULL */
	unsigned line, column;
};

struct deployment {
	struct artifact kernel, initramfs, dtb;
	char *cmdline; /* or NULL */
};

enum kernel_fault_policy { KERNEL_FAULT_IGNORE, KERNEL_FAULT_WARN, KERNEL_FAULT_FAIL };

struct description {
	char *name;		       /* or NULL */
	uint64_t deadline_realtime_us; /* DURATION_INFINITE: none */
	bool has_target;	       /* one without id and tags takes any DUT */
	char *target_id;	       /* or NULL */
	char **target_tags;	       /* NULL, or ends with NULL */
	struct timeout_spec timeouts[TIMEOUT_NAMES];
	struct watchdog *watchdogs;
	size_t n_watchdogs;
	struct pattern *patterns[PATTERN_NAMES]; /* NULL when absent */
	enum kernel_fault_policy kernel_fault;
	bool has_deployment;	       /* something is to be delivered */
	struct deployment start, next; /* next: `continue`, with start's fields inherited */
};

/*
 * What templates and checks may use: one object, as dutd writes it into job.json and gives it to
 * --validate. Everything may be absent.
 *
 *   dut              {"id", "aliases": [], "tags": [], "mac", "tty", "variables": {},
 *                    "deploy": DRIVER|null}; without "deploy" that is not checked
 *   job              {"id", "name"}
 *   environ          {NAME: TEXT}, the submitter's
 *   variables        {NAME: TEXT or list}, the lab's; those of the DUT go first
 *   timeouts         {"overall": US, "infra_teardown": US}, the defaults
 *   limits           {"overall": US}
 *   file_roots       [absolute paths], where file: URLs may point; without it anywhere
 *   without_daemon   true: names that only the daemon knows get a placeholder
 *   ignore_deadline  true: a deadline may be past
 */

/*
 * Parses and checks the text of a job file against one DUT's facts.
 *
 * Errors: -EBADMSG with every problem found (line, column, key); -ENOMEM.
 * Owns:   facts is borrowed for the call.
 */
int description_parse(struct description **ret, const char *text, size_t length,
		      const json_t *facts, struct problems *problems);
struct description *description_free(struct description *description);

/*
 * The program's other life, `dut-executor --validate`: reads a question from fd 0 and prints the
 * answer, each one JSON object.
 *
 *   question  {"v": 1, "job": TEXT, "target": {"id", "tags"}|null, "duts": [facts.dut ...], and the
 *             other members of facts}; target goes before the job's own
 *   answer    {"v": 1, "target": {"id", "tags"}, "name", "deadline": US of the wall clock,
 *             "overall": US or null, "duts": [ids that can take it], "notes": [TEXT],
 *             "needs": {"bucket": [paths]}, "errors": [{"line", "column", "text", "key"}]}; what is
 *             not known is null. Where no DUT fits the target the error has "no_match": "id",
 *             "tags" or "none" as well.
 *
 * Returns an exit code: 0 also when there are errors in the job, 65 for what is no question.
 */
int validate_main(void);

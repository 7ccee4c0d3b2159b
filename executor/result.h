/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/protocol.h"

/*
 * How a job ended: the rules of status, reason and verdict (pure), the lists that result.json
 * carries, and the file itself. See dut-job(5) for the rules and dut-executor(8) for the file.
 */

enum {
	RESULT_BYTES_RESERVED = 512 * 1024, /* of disk, before the job starts */
};

/* What is known when the board's session has ended by itself. */
struct result_session {
	bool success_defined, success_seen;
	bool warn_seen; /* by pattern, or by a kernel fault whose policy is to warn */
};

/* The reason, and in *ret_status the status, of a session that came to its end. */
const char *result_session_reason(const struct result_session *session,
				  enum job_status *ret_status);

/* What the verdict depends on beside status and reason. */
struct result_facts {
	unsigned boots;	     /* `on`s that were asked for */
	bool fault_seen;     /* a kernel fault in the last boot */
	bool kernel_seen;    /* "Linux version" in the last boot */
	bool deploys_kernel; /* the job brings a kernel */
	bool silent;	     /* no byte since the last power-on */
	bool power_verified; /* that power-on was read back as ON */
};

/* The guilty layer "lab" "job" "kernel" "boot" "test", or NULL. */
const char *result_verdict(enum job_status status, const char *reason,
			   const struct result_facts *facts);

/* The lists of a result while it grows. */
struct result {
	json_t *boots, *patterns, *faults;
	unsigned n_boots, n_patterns, n_faults, dropped;
};

/* Errors: -ENOMEM. */
int result_init(struct result *result);
void result_done(struct result *result);

/* A boot begins: its `on` is asked for at this console offset. */
void result_boot(struct result *result, unsigned boot, uint64_t offset);

/* Sets a time of the present boot ("power_on", "first_byte"), once. */
void result_boot_time(struct result *result, const char *key, uint64_t realtime_us);

/* Ends the present boot, once. */
void result_boot_end(struct result *result, uint64_t realtime_us, const char *reason);

/* Take the reference to line. */
void result_pattern(struct result *result, const char *name, unsigned boot, uint64_t offset,
		    json_t *line);
void result_fault(struct result *result, const char *kind, unsigned boot, uint64_t offset,
		  json_t *line);

/*
 * Takes disk space for result.json in a temporary file, so that a disk that fills later cannot cost
 * the result.
 *
 * Blocks: on the disk.
 */
int result_reserve(int *ret_fd, int dir_fd, struct error *err);

/*
 * Writes result.json as a whole: into the reserved file (or a new one when that fails), fsync,
 * rename, fsync of the folder. After 0 the job has ended for ever.
 *
 * Owns:   takes the reference to result, and the fd.
 * Blocks: on the disk.
 */
int result_write(int dir_fd, int reserved_fd, json_t *result, struct error *err);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"

/*
 * How dut-helper and dut-fetch confine themselves; see the section SANDBOX of dut-executor(8).
 * What dut-helper may not, dut-fetch may not either.
 */

/*
 * Of dut-helper, before its first request: dut-fetch at fetch_path is all that can be started, and
 * what it works with is the job's folder and, to read, what lies beneath roots (absolute paths,
 * ends with NULL).
 */
int fetchbox_helper(int job_dir_fd, const char *fetch_path, char *const *roots, struct error *err);

/* Of dut-fetch, to download from the network into an open file of at most max_bytes. */
int fetchbox_download(uint64_t max_bytes, struct error *err);

/* The same from a file that is open, or beneath roots (an array of absolute paths; NULL: from
 * anywhere). No sockets. */
int fetchbox_copy(uint64_t max_bytes, const char *url, const json_t *roots, struct error *err);

/* Of dut-fetch, to unpack into this folder. No sockets. */
int fetchbox_unpack(uint64_t max_bytes, int dir_fd, struct error *err);

/* Of dut-fetch, started by dutd, to read this folder, whoever owns what is in it. */
int fetchbox_pack(int dir_fd, struct error *err);

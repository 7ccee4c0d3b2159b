/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/*
 * The executor's side of dut-helper: downloads and archives happen in processes of their own, which
 * the executor may not start once it is in its sandbox.
 */

struct fetcher;

struct fetch_result {
	const char *reason; /* NULL: done. Else a reason of result.json: "download" "checksum"
			       "bucket" "disk" */
	struct error error; /* one line for a person, when reason is set */
	uint64_t size;	    /* bytes downloaded or unpacked */
	double seconds;
};

typedef void (*fetch_done_fn)(const struct fetch_result *result, void *data);

struct fetcher_config {
	sd_event *event;
	const char *libexec_dir; /* where dut-helper and dut-fetch are */
};

/* Starts dut-helper. To be called before the sandbox is entered. */
int fetcher_new(struct fetcher **ret, const struct fetcher_config *config, struct error *err);

/* Closes the socket to dut-helper, which then kills what it has running and leaves. No callback
 * runs any more. */
struct fetcher *fetcher_free(struct fetcher *fetcher);

/* The helper's pidfd: readable when it is gone (a death in mid-job). */
int fetcher_pidfd(const struct fetcher *fetcher);

/*
 * Downloads url (http, https, file) into the file out_fd, from its start; several may run. sha256
 * may be NULL. progress of an interrupted transfer is kept and resumed by the same process. done
 * runs from the loop, once.
 */
int fetcher_download(struct fetcher *fetcher, const char *url, const char *sha256, int out_fd,
		     uint64_t max_bytes, fetch_done_fn done, void *data, struct error *err);

/*
 * Unpacks the archive tar_fd (anything that libarchive reads) into the empty folder dir_fd. Refused
 * as a whole, with nothing unpacked, when an entry would leave the folder, is a device, or links
 * out of it.
 */
int fetcher_unpack(struct fetcher *fetcher, int tar_fd, int dir_fd, uint64_t max_bytes,
		   uint64_t max_files, fetch_done_fn done, void *data, struct error *err);

/* Kills everything that runs; each done gets the reason "cancelled" at once. */
void fetcher_cancel(struct fetcher *fetcher);

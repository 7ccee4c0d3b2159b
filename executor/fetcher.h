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
			       "bucket" "disk", "cancelled", or "executor_failed" when a helper
			       died */
	struct error error; /* one line for a person, when reason is set */
	uint64_t size;	    /* bytes downloaded or unpacked */
	double seconds;
};

typedef void (*fetch_done_fn)(const struct fetch_result *result, void *data);

/* A download has so many bytes so far; at most twice a second, with the data of its done. */
typedef void (*fetch_progress_fn)(uint64_t bytes, void *data);

struct fetcher_config {
	sd_event *event;
	const char *libexec_dir; /* where dut-helper and dut-fetch are */
	/* Absolute folders, ending with NULL: file: URLs that lead out of all of them (links
	 * resolved) are refused. NULL: any readable file. Borrowed for the life of the fetcher. */
	char *const *file_roots;
	int job_dir_fd; /* where dut-fetch may write: unpacking needs it. -1: it is not confined */
	fetch_progress_fn progress; /* or NULL */
	uint64_t min_free;	    /* bytes of the disk that are left alone */
};

/* Starts dut-helper. To be called before the sandbox is entered. */
int fetcher_new(struct fetcher **ret, const struct fetcher_config *config, struct error *err);

/* Closes the socket to dut-helper, which then kills what it has running and leaves. No callback
 * runs any more. */
struct fetcher *fetcher_free(struct fetcher *fetcher);

/* The helper's pidfd: readable when it is gone (a death in mid-job). Borrowed. */
int fetcher_pidfd(const struct fetcher *fetcher);

/*
 * Downloads url (http, https, file) into the file out_fd, from its start; several may run. sha256
 * may be NULL. progress of an interrupted transfer is kept and resumed by the same process. done
 * runs from the loop, once.
 *
 * Owns: nothing of the caller's; out_fd may be closed at once.
 */
int fetcher_download(struct fetcher *fetcher, const char *url, const char *sha256, int out_fd,
		     uint64_t max_bytes, fetch_done_fn done, void *data, struct error *err);

/* The same with a regular file that is already open, from its start (to check its sha256). */
int fetcher_copy(struct fetcher *fetcher, int from_fd, const char *sha256, int out_fd,
		 uint64_t max_bytes, fetch_done_fn done, void *data, struct error *err);

/*
 * Unpacks the archive tar_fd (a tar of any kind and compression that archive_unpack() reads) into
 * the empty folder dir_fd. Refused as a whole, with nothing unpacked, when an entry would leave the
 * folder, is a device, or links out of it.
 */
int fetcher_unpack(struct fetcher *fetcher, int tar_fd, int dir_fd, uint64_t max_bytes,
		   uint64_t max_files, fetch_done_fn done, void *data, struct error *err);

/* Kills everything that runs; each done gets the reason "cancelled" from the loop at once, also
 * when the helper does not answer. */
void fetcher_cancel(struct fetcher *fetcher);

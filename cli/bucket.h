/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/archive.h"
#include "cli/options.h"

/* What a job's bucket has at the start: the folder or tar of --bucket, and each --file NAME=PATH.
 */

struct bucket {
	/* Options. */
	const char *source; /* or NULL */
	struct option_list files;

	struct archive_member *members; /* of files, by the same index */
	size_t n_members;
	int dir_fd;	   /* of a source that is a folder, else -1 */
	int tar_fd;	   /* of what is to be uploaded, -1 when nothing is */
	uint64_t tar_size; /* bytes */
};

/* Looks at the options and opens what they name, reading no content. 0, or the exit code (said). */
int bucket_open(struct bucket *bucket);
void bucket_done(struct bucket *bucket);

/* Whether the bucket has every path of an array of texts. 0, or the exit code (said). */
int bucket_check(const struct bucket *bucket, const json_t *paths, const char *job_path);

/* Makes the tar, when one is needed, as a file without a name in TMPDIR. 0, or the exit code
 * (said). */
int bucket_pack(struct bucket *bucket);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <nettle/sha2.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Where a download goes: a file that is written, counted, bounded and hashed in one place. */

enum { SINK_HEX_SIZE = 2 * SHA256_DIGEST_SIZE + 1 };

struct sink {
	int fd;
	uint64_t max_bytes, size;
	const char *max_key;	/* the limit's name for texts, or NULL */
	uint64_t min_free;	/* bytes of the disk that are left alone */
	uint64_t look_at;	/* the size at which the disk is asked next */
	struct sha256_ctx hash; /* of the size bytes that are written */
	int r;			/* the first failure of sink_write(); later calls give it again */
	struct error error;	/* its text */
	void (*progress)(uint64_t bytes); /* at most every SINK_PROGRESS_US; or NULL */
	uint64_t progress_us;
};

enum { SINK_PROGRESS_US = 500000 };

/* Begins, or begins again, with an empty file. */
int sink_start(struct sink *sink, struct error *err);

/* Errors: -E2BIG over max_bytes; -ENOSPC and others of the disk. */
int sink_write(struct sink *sink, const void *data, size_t length);

/* Fails as if more than max_bytes had come. */
int sink_too_big(struct sink *sink);

/* Writes the digest of what came as hexadecimal; once, at the end. */
void sink_finish(struct sink *sink, char ret_hex[static SINK_HEX_SIZE]);

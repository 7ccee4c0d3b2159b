/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cli/session.h"

/*
 * A long answer of the daemon (a console, a log, events) that outlives the connection: when that
 * breaks it is asked for again (retry.h). Bytes of a console go on at their offset; what else there
 * is begins anew.
 */

struct feed;

struct feed_config {
	struct session *session;
	const char *path; /* copied; without an offset */
	const char *from; /* the first offset of a console's bytes, as the API has it; or NULL */
	bool has_offsets; /* it is a console's bytes */

	/* Before the first bytes of each connection: begun anew, or (has_offsets) behind bytes that
	 * are not there any more. Or NULL. */
	void (*on_begin)(uint64_t missing, void *data);
	void (*on_bytes)(const char *bytes, size_t length, void *data);
	/* Its end, or why it cannot be had any more; once. The answer is the callee's, and the feed
	 * may be freed. */
	void (*on_end)(struct answer *answer, void *data);
	void *data;
};

int feed_new(struct feed **ret, const struct feed_config *config, struct error *err);

/* Takes NULL. */
struct feed *feed_free(struct feed *feed);
CLEANUP_DEFINE(struct feed *, feed_free)

/* No more on_bytes until it is resumed; allowed in on_bytes. */
void feed_pause(struct feed *feed);
void feed_resume(struct feed *feed);

/* The console offset of the next byte; false when it is not known (yet). */
bool feed_offset(const struct feed *feed, uint64_t *ret);

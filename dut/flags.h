/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/jsontext.h"

/*
 * What people have said of a DUT, and what outlives dutd: duts/<dut>/flags.json. It is changed by
 * PATCH /dut/{id} alone.
 */

struct flags {
	bool retired; /* takes no job */
	bool ready;   /* for service */
	char *why;    /* it is retired, or NULL */
	char *by;     /* who retired it, or NULL */
	uint64_t since_realtime_us;
	char *comment; /* or NULL */
	json_t *tags;  /* array of texts, beside those of the configuration */
};

enum { FLAGS_MAX_TEXT = 1024, FLAGS_MAX_TAGS = 64, FLAGS_MAX_TAG = 63 };

/* In service, and nothing said. */
int flags_init(struct flags *flags, struct error *err);
void flags_done(struct flags *flags);

/*
 * Reads flags.json of a folder. A DUT that has none is in service; one whose file cannot be read
 * comes back retired, with the reason in why: it may be out of service for a good one.
 *
 * Errors: -ENOMEM alone.
 */
int flags_load(struct flags *ret, int dir_fd, struct error *err);

/* The file's text; the caller frees it. NULL when memory ran out. */
char *flags_dump(const struct flags *flags);

/*
 * What comes of the flags by the body of a PATCH: is_retired, why, ready_for_service, comment,
 * manual_tags, each as it may be absent. by: who asks.
 *
 * Errors: -EINVAL for any other body.
 */
int flags_change(struct flags *ret, const struct flags *before, const json_t *patch, const char *by,
		 struct error *err);

/* The tags of the configuration (ends with NULL, or NULL) and those of the flags, each once. */
json_t *flags_tags(const struct flags *flags, char *const *configured);

/* The members that they are in the DUT's object of the API: is_retired, retired, ready_for_service,
 * comment, manual_tags. */
void flags_write(const struct flags *flags, struct jsontext *json);

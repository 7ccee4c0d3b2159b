/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

#include "base/cleanup.h"
#include "base/error.h"

/* Cuts a stream of bytes into its lines. */

struct lines;

enum { LINES_MAX = 1024 * 1024 }; /* bytes of a line; a longer one is dropped */

int lines_new(struct lines **ret, struct error *err);
struct lines *lines_free(struct lines *lines);
CLEANUP_DEFINE(struct lines *, lines_free)

/* What comes next is the beginning of a line. */
void lines_reset(struct lines *lines);

/*
 * Runs on_line for each line that is complete now, without its line feed; empty lines are left out,
 * and so is what has no end yet. The bytes are valid during the call. -ENOMEM.
 */
int lines_add(struct lines *lines, const char *bytes, size_t length,
	      void (*on_line)(const char *line, size_t length, void *data), void *data);

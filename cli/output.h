/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/error.h"

/*
 * stdout or stderr of a verb that follows something. Its reader may be slow or stopped: bytes wait
 * here then, and the loop goes on, so that a signal still cancels a job. A terminal or a pipe is
 * shared with other programs, which O_NONBLOCK on its open file would surprise; so it is opened
 * once more, for us alone.
 */

struct output;

enum {
	OUTPUT_MANY = 256 * 1024, /* from here on who writes should wait for on_space */
};

int output_new(struct output **ret, sd_event *loop, int fd, struct error *err);
struct output *output_free(struct output *output);
CLEANUP_DEFINE(struct output *, output_free)

/* Runs from the loop when there is little left to be written, or the reader has gone. */
void output_on_space(struct output *output, void (*on_space)(void *data), void *data);

/* Writes what goes, keeps the rest. -ENOMEM. */
int output_write(struct output *output, const char *bytes, size_t length, struct error *err);

/* Nothing is written until it is released: somebody is being asked. */
void output_hold(struct output *output, bool hold);

bool output_is_full(const struct output *output);

/* Everything is written, or will never be. */
bool output_is_done(const struct output *output);

/* Nothing can be written any more. */
bool output_is_gone(const struct output *output);

/* Why it cannot be written, a negative errno; 0 when it can, or its reader has gone (-EPIPE is no
 * failure). */
int output_failure(const struct output *output);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "cli/output.h"

/*
 * The console's bytes on stdout and the lab's messages on stderr. Where both are the same terminal
 * a message waits for the end of the console's line, so that it does not cut it in two; a line that
 * does not end (a prompt) is not waited for longer than MINGLE_WAIT_US.
 */

enum { MINGLE_WAIT_US = 200000 };

struct mingle;

/* Both outputs are borrowed. */
int mingle_new(struct mingle **ret, sd_event *loop, struct output *out, struct output *messages,
	       struct error *err);
struct mingle *mingle_free(struct mingle *mingle);
CLEANUP_DEFINE(struct mingle *, mingle_free)

/* -ENOMEM. */
int mingle_console(struct mingle *mingle, const char *bytes, size_t length, struct error *err);
int mingle_message(struct mingle *mingle, const char *text, struct error *err);

/* Nothing more comes: what waits is written. */
void mingle_end(struct mingle *mingle);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/error.h"

/* A question to the person at the terminal, which is answered with a line. */

struct question;

/*
 * Asks on the controlling terminal. on_answer runs once, from the loop, with the first letter of
 * the line, in lower case; '\0' for an empty one, or when the terminal has gone. The question may
 * be freed in it.
 *
 * Errors: -ENXIO and others when there is no terminal.
 */
int question_new(struct question **ret, sd_event *loop, const char *text,
		 void (*on_answer)(int letter, void *data), void *data, struct error *err);
struct question *question_free(struct question *question);
CLEANUP_DEFINE(struct question *, question_free)

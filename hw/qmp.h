/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/*
 * The control connection to a QEMU: one command at a time, over a unix socket. QEMU may be taken
 * over by its guest: what it says is bounded, and an answer that is none closes the connection.
 *
 * Source: QEMU Machine Protocol specification (docs/interop/qmp-spec), greeting, capabilities
 * negotiation, `return`, `error`, `event`.
 */

struct qmp;

/* answer is the value of `return`, borrowed; on failure NULL. Runs once, from the loop. */
typedef void (*qmp_done_fn)(int r, const json_t *answer, const struct error *err, void *data);

/* fd is a connected, non-blocking socket, taken over. The capabilities are negotiated by itself. */
int qmp_new(struct qmp **ret, sd_event *event, int fd, struct error *err);

/* No callback runs any more. */
struct qmp *qmp_free(struct qmp *qmp);

/*
 * Sends a command without arguments; before the negotiation is over it waits for that. done gets
 * -EPIPE when the connection ends first.
 *
 * Errors: -EBUSY while another command is under way.
 */
int qmp_command(struct qmp *qmp, const char *command, qmp_done_fn done, void *data,
		struct error *err);

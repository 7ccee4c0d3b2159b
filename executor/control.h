/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/protocol.h"

/*
 * The executor's side of control.sock: one dutd at a time, known by its uid and by a hello that
 * names this job, attempt and nonce with an epoch that is not older than the last one. A new
 * connection takes the place of the old one after what the old one still had to say. An open power
 * request survives its connection and is repeated on the next one.
 */

struct control;

/* A console that dutd lends; the fds are the callee's. */
struct control_loan {
	const char *name;
	uint64_t generation, base;
	json_t *codec; /* borrowed, or NULL */
	int console_fd, pipe_read_fd, pipe_write_fd, wake_fd;
};

/* Closes the fds of a loan that nobody takes. */
void control_loan_close(const struct control_loan *loan);

/* The answer to the open power request. */
struct control_answer {
	bool ok, verified;
	const char *state; /* "ON" "OFF" "UNKNOWN" */
	const char *error; /* when not ok */
};

struct control_handlers {
	/* Fills a hello with phase, boot and console, and lends the four fds (-1 for none). */
	void (*describe)(json_t *hello, int fds[static PACKET_FDS_MAX], void *data);
	void (*connected)(void *data);
	void (*go)(void *data);
	void (*lend)(const struct control_loan *loan, void *data);
	void (*give_back)(uint64_t generation, void *data);
	void (*answered)(const struct control_answer *answer, void *data);
	void (*cancel)(const char *reason, const char *by, const char *why, void *data);
	void (*lost)(void *data);
};

struct control_config {
	sd_event *event;
	int listen_fd;	/* bound, not yet listening; borrowed */
	uid_t uid;	/* of dutd; root may connect too */
	uint64_t epoch; /* of the dutd that started us */
	const char *id; /* of the job; borrowed */
	uint64_t attempt;
	const char *nonce; /* borrowed */
	const struct control_handlers *handlers;
	void *data;
};

/* Listens. Handlers run from the loop only. */
int control_new(struct control **ret, const struct control_config *config, struct error *err);
struct control *control_free(struct control *control);

/* Whether a dutd that said hello is there. */
bool control_connected(const struct control *control);

/*
 * Sends a packet to the present dutd; takes the reference. Nothing is kept for a dutd that is not
 * there: what the next one must know is in our hello. When it does not read, packets wait in order;
 * after 64 the connection is given up.
 */
void control_send(struct control *control, json_t *packet);

/*
 * Asks for power: request has "t" and its arguments, and gets the next number; takes the reference.
 * One at a time; it stays open until answered() or control_forget().
 */
void control_ask(struct control *control, json_t *request);
bool control_is_asking(const struct control *control);

/* Drops the open request: nobody waits for its answer any more. */
void control_forget(struct control *control);

/* Tries to send what waits, and reads what came, before the end. */
void control_finish(struct control *control);

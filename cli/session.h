/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/client.h"

/*
 * What a verb that asks the daemon has: a loop, a client, and INT, TERM and HUP as events (a signal
 * that was ignored when dut started, as by nohup(1), stays ignored).
 */

struct session {
	sd_event *loop;
	struct client *client;
	/* Runs at each signal. NULL: the loop stops with EXIT_INTERRUPTED. */
	void (*on_signal)(struct session *session, int signal);
	void *data; /* for on_signal */

	/* What is said of the daemon: "lost the daemon ...". NULL: say(). */
	void (*tell)(struct session *session, const char *text);
	uint64_t reconnect_us; /* how long one that went away is waited for; 0: not at all */
	uint64_t away_us;      /* since when it is away (CLOCK_BOOTTIME); 0: it is there */
	bool reached;	       /* there was one */

	bool stopped;
	int exit;
};

/* True with a session; false (said) when *ret_exit is the verb's exit code. */
bool session_open(struct session *session, const struct cli *cli, int *ret_exit);
void session_done(struct session *session);

/* Runs the loop until somebody stops it, and returns what session_stop() was given. It may run
 * again. */
int session_run(struct session *session);
void session_stop(struct session *session, int exit);

/* The daemon is there; and the connection to it broke, and is tried again. Said once each. */
void session_found(struct session *session);
void session_lost(struct session *session, const struct answer *answer);

/*
 * Asks and waits for the answer; a session that may reconnect asks again when that broke. path is
 * from client_path() and freed; NULL is memory that ran out. True with a successful answer (status
 * 2xx, and a JSON object); else false: what went wrong was said and *ret_exit is the exit code.
 */
bool session_ask(struct session *session, const char *method, char *path, const json_t *body,
		 unsigned timeout_s, json_t **ret, int *ret_exit);

/* The same, with the answer whatever it is: 0, and the caller's by answer_done(). Else the exit
 * code (said). */
int session_answer(struct session *session, const char *method, char *path, const json_t *body,
		   unsigned timeout_s, struct answer *ret);

static inline bool answer_is_good(const struct answer *answer)
{
	return answer->r >= 0 && answer->status >= 200 && answer->status < 300;
}

/* Says what is wrong with an answer that is no success (or not what was asked for), and returns the
 * exit code. */
int session_refused(const struct answer *answer);

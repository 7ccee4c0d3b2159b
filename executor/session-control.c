/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/log.h"
#include "executor/session-internal.h"

/*
 * What dutd says, and how it learns where the job is.
 */

static void describe(json_t *hello, int fds[static PACKET_FDS_MAX], void *data)
{
	const struct session *session = data;

	(void)json_object_set_new(hello, "phase", json_string(job_phase_name(session->boot.phase)));
	(void)json_object_set_new(hello, "boot", json_integer(session->boot.number));
	(void)json_object_set_new(hello, "console", loan_describe(session->loan, fds));
}

static void on_connected(void *data)
{
	const struct session *session = data;

	log_job(session->config.assignment->dut, session->config.assignment->number, LOG_DEBUG,
		"dutd is there");
}

static void on_lost(void *data)
{
	const struct session *session = data;

	log_job(session->config.assignment->dut, session->config.assignment->number, LOG_NOTICE,
		"dutd is gone; the job goes on");
}

static void on_lend(const struct control_loan *lent, void *data)
{
	struct session *session = data;
	struct error err;
	int r;

	if (session->concluded) {
		/* Nobody would read it any more. */
		control_loan_close(lent);
		return;
	}
	r = loan_take(session->loan, lent, &err);
	if (r < 0) {
		log_job(session->config.assignment->dut, session->config.assignment->number,
			LOG_ERR, "cannot take the console: %s", err.text);
		if (r == -ENOSPC || r == -EDQUOT)
			session_end(session, DRAIN_WHAT_IS_THERE, "disk",
				    "cannot take the console: %s", err.text);
		return;
	}
	/* One that is repeated is confirmed again; an older one is nobody's. */
	if (r == 0 && lent->generation != loan_generation(session->loan))
		return;
	control_send(session->control,
		     json_pack("{s:s, s:I}", "t", "lent", "gen", (json_int_t)lent->generation));
	if (r > 0)
		events_emit(session->events, "console",
			    json_pack("{s:s, s:s, s:I, s:I}", "name", lent->name, "state", "lent",
				      "gen", (json_int_t)lent->generation, "offset",
				      (json_int_t)loan_offset(session->loan)),
			    "console %s is read", lent->name);
}

static void on_give_back(uint64_t generation, void *data)
{
	struct session *session = data;

	session_give_back(session, generation);
}

static void on_go(void *data)
{
	session_go(data);
}

static void on_answered(const struct control_answer *answer, void *data)
{
	session_answered(data, answer);
}

static void on_cancel(const char *reason, const char *by, const char *why, void *data)
{
	session_cancel(data, reason, by, why);
}

const struct control_handlers session_control_handlers = {
	.describe = describe,
	.connected = on_connected,
	.go = on_go,
	.lend = on_lend,
	.give_back = on_give_back,
	.answered = on_answered,
	.cancel = on_cancel,
	.lost = on_lost,
};

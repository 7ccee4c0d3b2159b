/* SPDX-License-Identifier: MIT */
#include <jansson.h>

#include "cli/options.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "cli/view.h"

/* The job that a DUT has now. True, or false with *ret_exit. */
static bool find_job(struct session *session, const char *board, char id[VIEW_ID_SIZE],
		     int *ret_exit)
{
	json_t *answer = NULL;

	if (!session_ask(session, "GET", client_path("/dut/%s", board), NULL,
			 CLIENT_ANSWER_TIMEOUT_S, &answer, ret_exit))
		return false;
	if (!*view_id(id, json_object_get(view_dut(answer), "job")))
		*ret_exit = say_exit(EXIT_NOT_FOUND, "%s has no job", board);
	json_decref(answer);
	return *id;
}

static int ask(struct cli *cli, const char *what, const char *why)
{
	json_t *body = NULL, *answer = NULL;
	struct session session;
	char id[VIEW_ID_SIZE];
	int code;

	if (!session_open(&session, cli, &code))
		return code;
	if (!view_read_id(id, what) && !find_job(&session, what, id, &code))
		goto out;

	body = json_pack("{s:s*}", "why", why);
	if (!body) {
		code = say_exit(EXIT_USAGE, "cancel: --why is not UTF-8");
		goto out;
	}
	if (session_ask(&session, "POST", client_path("/jobs/%s/cancel", id), body,
			CLIENT_ANSWER_TIMEOUT_S, &answer, &code)) {
		if (cli->json)
			say_json(answer);
		code = say_finish(0);
	}
out:
	json_decref(body);
	json_decref(answer);
	session_done(&session);
	return code;
}

static int cancel(struct cli *cli, int argc, char **argv)
{
	const char *why = NULL, *what;
	const struct option options[] = {
		{ "why", "TEXT", OPTION_TEXT, &why, "the reason, which the job's owner reads" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_cancel, options, cli, 0, 1, &operands, argc, argv, &code)) {
		what = options_board(cli, &operands);
		code = what ? ask(cli, what, why) : EXIT_USAGE;
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_cancel = {
	.name = "cancel",
	.operands = "[ID|DUT] [OPTION...]",
	.summary = "ends a job, or the job that a DUT has",
	.run = cancel,
};

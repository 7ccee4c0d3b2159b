/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/cleanup.h"
#include "cli/boardname.h"
#include "cli/options.h"
#include "cli/pump.h"
#include "cli/retry.h"
#include "cli/verbs.h"
#include "cli/view.h"

/* How much of a console's past is shown, in bytes. */
#define CONSOLE_PAST "-65536"

static int log_job(struct session *session, const char *id, bool follow)
{
	const struct pump_request request = {
		.path = client_path(follow ? "/jobs/%s/log?follow=1" : "/jobs/%s/log", id),
		.end = UINT64_MAX,
		.interrupted_exit = EXIT_INTERRUPTED,
		.what = "log",
	};

	return pump_run(session, &request);
}

/* Where a console ends now. True, or false with *ret_exit. */
static bool find_end(struct session *session, const struct board_name *name, uint64_t *ret,
		     int *ret_exit)
{
	const json_t *consoles, *console;
	json_t *answer = NULL;
	bool found = false;
	size_t i;

	if (!session_ask(session, "GET", client_path("/dut/%s", name->board), NULL,
			 CLIENT_ANSWER_TIMEOUT_S, &answer, ret_exit))
		return false;
	consoles = json_object_get(view_dut(answer), "consoles");
	json_array_foreach(consoles, i, console) {
		const char *text = view_text(console, "name");

		if (found || (name->console && (!text || strcmp(text, name->console) != 0)))
			continue;
		*ret = (uint64_t)json_integer_value(json_object_get(console, "offset"));
		found = true;
	}
	json_decref(answer);
	if (!found && name->console)
		*ret_exit = say_exit(EXIT_NOT_FOUND, "%s has no console '%s'", name->board,
				     name->console);
	else if (!found)
		*ret_exit = say_exit(EXIT_NOT_FOUND, "%s has no console", name->board);
	return found;
}

static int log_board(struct session *session, const struct board_name *name, bool follow)
{
	struct pump_request request = {
		.end = UINT64_MAX,
		.ended_exit = EXIT_UNREACHABLE,
		.interrupted_exit = EXIT_INTERRUPTED,
		.what = "console",
	};
	int code;

	if (!follow && !find_end(session, name, &request.end, &code))
		return code;
	if (request.end == 0)
		return 0;
	request.path = board_name_path(name);
	request.from = CONSOLE_PAST;
	return pump_run(session, &request);
}

static int show_log(struct cli *cli, const char *what, bool follow, const char *reconnect)
{
	cleanup_(board_name_done) struct board_name name = { 0 };
	struct session session;
	char id[VIEW_ID_SIZE];
	bool is_job = view_read_id(id, what);
	uint64_t limit_us;
	int code;

	if (cli->json)
		return say_exit(EXIT_USAGE, "log: a log is bytes, there is no --json of it");
	if (!is_job && !board_name_read(&name, what, &code))
		return code;
	if (!retry_read_limit(&limit_us, "log", reconnect))
		return EXIT_USAGE;
	if (!session_open(&session, cli, &code))
		return code;
	session.reconnect_us = limit_us;
	code = is_job ? log_job(&session, id, follow) : log_board(&session, &name, follow);
	session_done(&session);
	return code;
}

static int log_verb(struct cli *cli, int argc, char **argv)
{
	const char *reconnect = NULL;
	bool follow = false;
	const struct option options[] = {
		{ "follow", NULL, OPTION_FLAG, &follow, "goes on with what comes" },
		{ "reconnect", "D", OPTION_TEXT, &reconnect,
		  "how long a daemon that went away is waited for (10m)" },
		{ "boot", "N", OPTION_NOT_YET_VALUE, NULL, NULL },
		{ "timestamps", NULL, OPTION_NOT_YET, NULL, NULL },
		{ "since", "D", OPTION_NOT_YET_VALUE, NULL, NULL },
		{ 0 },
	};
	struct option_list operands = { 0 };
	const char *what;
	int code;

	if (options_parse(&verb_log, options, cli, 0, 1, &operands, argc, argv, &code)) {
		what = options_board(cli, &operands);
		code = what ? show_log(cli, what, follow, reconnect) : EXIT_USAGE;
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_log = {
	.name = "log",
	.operands = "[ID|DUT[/NAME]] [OPTION...]",
	.summary = "shows the console log of a job, or of a DUT",
	.run = log_verb,
};

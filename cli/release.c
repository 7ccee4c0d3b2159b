/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <stdio.h>

#include "base/text.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/verbs.h"

/* The two ways to end a reservation: one's own, and somebody else's. */

static int end(struct cli *cli, const char *board, json_t *body)
{
	struct session session;
	json_t *answer = NULL;
	int code;

	if (!body)
		return say_exit(EXIT_INTERNAL, "out of memory");
	if (session_open(&session, cli, &code)) {
		if (session_ask(&session, "DELETE", client_path("/dut/%s/reservation", board), body,
				CLIENT_ANSWER_TIMEOUT_S, &answer, &code)) {
			if (cli->json)
				say_json(answer);
			code = say_finish(0);
		}
		session_done(&session);
	}
	json_decref(answer);
	json_decref(body);
	return code;
}

static int release(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 };
	const char *board;
	int code;

	if (options_parse(&verb_release, NULL, cli, 0, 1, &operands, argc, argv, &code)) {
		board = options_board(cli, &operands);
		code = board ? end(cli, board, json_object()) : EXIT_USAGE;
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_release = {
	.name = "release",
	.operands = "[DUT]",
	.summary = "ends one's own reservation",
	.run = release,
};

static int kick_board(struct cli *cli, const char *board, const char *why, const char *notice)
{
	uint64_t notice_us = 0;
	struct error err;

	if (notice && text_to_duration_us(&notice_us, notice, &err) < 0)
		return say_exit(EXIT_USAGE, "kick: --notice: %s", err.text);
	return end(cli, board,
		   json_pack("{s:f, s:s?}", "notice", (double)notice_us / 1000000, "why", why));
}

static int kick(struct cli *cli, int argc, char **argv)
{
	const char *why = NULL, *notice = NULL, *board;
	bool now = false;
	const struct option options[] = {
		{ "why", "TEXT", OPTION_TEXT, &why, "the reason, which the holder reads" },
		{ "notice", "D", OPTION_TEXT, &notice, "how long the holder still has (60s)" },
		{ "now", NULL, OPTION_FLAG, &now, "no time at all" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_kick, options, cli, 0, 1, &operands, argc, argv, &code)) {
		board = options_board(cli, &operands);
		if (!board)
			code = EXIT_USAGE;
		else if (now && notice)
			code = say_exit(EXIT_USAGE, "kick: --notice, or --now, but not both");
		else
			code = kick_board(cli, board, why, now ? NULL : notice ? notice : "60s");
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_kick = {
	.name = "kick",
	.operands = "[DUT] [OPTION...]",
	.summary = "ends somebody's reservation, with notice",
	.run = kick,
};

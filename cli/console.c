/* SPDX-License-Identifier: MIT */
#include "base/cleanup.h"
#include "cli/boardname.h"
#include "cli/options.h"
#include "cli/pump.h"
#include "cli/retry.h"
#include "cli/verbs.h"

static int watch(struct cli *cli, const char *word, const char *reconnect)
{
	cleanup_(board_name_done) struct board_name name = { 0 };
	struct pump_request request = {
		.end = UINT64_MAX,
		.ended_exit = EXIT_UNREACHABLE,
		.what = "console",
	};
	struct session session;
	uint64_t limit_us;
	int code;

	if (cli->json)
		return say_exit(EXIT_USAGE,
				"console: a console is bytes, there is no --json of it");
	if (!retry_read_limit(&limit_us, "console", reconnect))
		return EXIT_USAGE;
	if (!board_name_read(&name, word, &code) || !session_open(&session, cli, &code))
		return code;
	session.reconnect_us = limit_us;
	request.path = board_name_path(&name);
	code = pump_run(&session, &request);
	session_done(&session);
	return code;
}

static int console(struct cli *cli, int argc, char **argv)
{
	const char *reconnect = NULL;
	bool read_only = false;
	const struct option options[] = {
		{ "read-only", NULL, OPTION_FLAG, &read_only, "watches, and sends nothing" },
		{ "reconnect", "D", OPTION_TEXT, &reconnect,
		  "how long a daemon that went away is waited for (10m)" },
		{ "raw", NULL, OPTION_NOT_YET, NULL, NULL },
		{ "force", NULL, OPTION_NOT_YET, NULL, NULL },
		{ 0 },
	};
	struct option_list operands = { 0 };
	const char *word;
	int code;

	if (options_parse(&verb_console, options, cli, 0, 1, &operands, argc, argv, &code)) {
		word = options_board(cli, &operands);
		if (!word)
			code = EXIT_USAGE;
		else if (!read_only)
			code = say_exit(EXIT_USAGE, "not yet: console without --read-only");
		else
			code = watch(cli, word, reconnect);
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_console = {
	.name = "console",
	.operands = "--read-only [DUT[/NAME]]",
	.summary = "shows what a DUT's console says, live, until Ctrl-C",
	.run = console,
};

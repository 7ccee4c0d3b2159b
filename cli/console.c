/* SPDX-License-Identifier: MIT */
#include "base/cleanup.h"
#include "cli/boardname.h"
#include "cli/options.h"
#include "cli/pump.h"
#include "cli/verbs.h"

static int watch(struct cli *cli, const char *word)
{
	cleanup_(board_name_done) struct board_name name = { 0 };
	struct pump_request request = {
		.end = UINT64_MAX,
		.ended_exit = EXIT_UNREACHABLE,
		.what = "console",
	};
	struct session session;
	int code;

	if (cli->json)
		return say_exit(EXIT_USAGE,
				"console: a console is bytes, there is no --json of it");
	if (!board_name_read(&name, word, &code) || !session_open(&session, cli, &code))
		return code;
	request.path = board_name_path(&name, NULL);
	code = pump_run(&session, &request);
	session_done(&session);
	return code;
}

static int console(struct cli *cli, int argc, char **argv)
{
	bool read_only = false;
	const struct option options[] = {
		{ "read-only", NULL, OPTION_FLAG, &read_only, "watches, and sends nothing" },
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
			code = watch(cli, word);
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

/* SPDX-License-Identifier: MIT */
#include <jansson.h>

#include "cli/flags.h"
#include "cli/options.h"
#include "cli/verbs.h"

static int activate(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 };
	const char *board;
	int code;

	if (options_parse(&verb_activate, NULL, cli, 0, 1, &operands, argc, argv, &code)) {
		board = options_board(cli, &operands);
		code = board ? flags_patch(cli, board, json_pack("{s:b}", "is_retired", 0))
			     : EXIT_USAGE;
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_activate = {
	.name = "activate",
	.operands = "[DUT]",
	.summary = "takes a retired DUT into service again",
	.run = activate,
};

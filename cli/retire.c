/* SPDX-License-Identifier: MIT */
#include <jansson.h>

#include "cli/flags.h"
#include "cli/options.h"
#include "cli/verbs.h"

static int retire(struct cli *cli, int argc, char **argv)
{
	const char *why = NULL, *board;
	const struct option options[] = {
		{ "why", "TEXT", OPTION_TEXT, &why, "the reason, which whoever wants it reads" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_retire, options, cli, 0, 1, &operands, argc, argv, &code)) {
		board = options_board(cli, &operands);
		if (!board)
			code = EXIT_USAGE;
		else if (why)
			code = flags_patch(cli, board,
					   json_pack("{s:b, s:s}", "is_retired", 1, "why", why));
		else
			code = flags_patch(cli, board, json_pack("{s:b}", "is_retired", 1));
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_retire = {
	.name = "retire",
	.operands = "[DUT] [OPTION...]",
	.summary = "takes a DUT out of service: it gets no more jobs",
	.run = retire,
};

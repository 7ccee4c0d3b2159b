/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "cli/options.h"
#include "cli/verbs.h"

static int version(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_version, NULL, cli, 0, 0, &operands, argc, argv, &code)) {
		(void)printf(cli->json ? "{\"version\":\"%s\"}\n" : "dut %s\n", DUT_VERSION);
		code = say_finish(0);
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_version = {
	.name = "version",
	.operands = "",
	.summary = "says which dut this is",
	.run = version,
};

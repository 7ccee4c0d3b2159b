/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "cli/view.h"

/* "b1: waits for job 17: power"; true when it is a refusal. */
static bool print_change(const struct cli *cli, const json_t *change)
{
	const char *what = view_text(change, "dut"), *text = view_text(change, "text");
	const char *outcome = view_text(change, "outcome");

	if (cli->json) {
		say_json(change);
	} else {
		say_out(what ? what : view_text(change, "setting"));
		(void)printf(": ");
		say_out(text);
		(void)printf("\n");
	}
	return outcome && strcmp(outcome, "refused") == 0;
}

static int print_changes(const struct cli *cli, const json_t *changes)
{
	size_t refused = 0, i;
	const json_t *change;

	if (!json_is_array(changes))
		return say_exit(EXIT_INTERNAL, "the daemon's answer is not what it should be");
	json_array_foreach(changes, i, change)
		refused += print_change(cli, change);
	if (!cli->json && json_array_size(changes) == 0)
		(void)printf("nothing has changed\n");
	(void)say_finish(0);
	if (refused > 0)
		return say_exit(EXIT_LAB, "%zu of %zu changes are refused", refused,
				json_array_size(changes));
	return say_finish(0);
}

static int reload(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 };
	struct session session;
	json_t *answer = NULL;
	int code;

	if (options_parse(&verb_reload, NULL, cli, 0, 0, &operands, argc, argv, &code) &&
	    session_open(&session, cli, &code)) {
		if (session_ask(&session, "POST", client_path("/reload"), NULL,
				CLIENT_ANSWER_TIMEOUT_S, &answer, &code))
			code = print_changes(cli, json_object_get(answer, "changes"));
		json_decref(answer);
		session_done(&session);
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_reload = {
	.name = "reload",
	.operands = "[OPTION...]",
	.summary = "has the daemon read its configuration again",
	.run = reload,
};

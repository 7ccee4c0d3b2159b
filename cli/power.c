/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "cli/view.h"

static const struct {
	const char *word;
	const char *wanted; /* the state that it has to end in */
} actions[] = {
	{ "on", "ON" },
	{ "off", "OFF" },
	{ "cycle", "ON" },
};

/* Exactly one word on stdout: scripts compare it. */
static int print_state(const struct cli *cli, const char *board, const json_t *power)
{
	const char *state = view_text(power, "state"), *error = view_text(power, "error");
	bool known = state && (strcmp(state, "ON") == 0 || strcmp(state, "OFF") == 0);

	if (cli->json)
		say_json(power);
	else
		(void)printf("%s\n", known ? state : "UNKNOWN");
	if (known)
		return say_finish(0);
	(void)say_finish(0);
	return say_exit(EXIT_LAB, "the power state of %s is unknown%s%s", board, error ? ": " : "",
			error ? error : "");
}

static int check_state(const struct cli *cli, const char *board, const char *wanted,
		       const json_t *power)
{
	const char *state = view_text(power, "state"), *error = view_text(power, "error");

	if (cli->json)
		say_json(power);
	if (state && strcmp(state, wanted) == 0)
		return say_finish(0);
	(void)say_finish(0);
	return say_exit(EXIT_LAB, "the power of %s is %s after that, not %s%s%s", board,
			state ? state : "UNKNOWN", wanted, error ? ": " : "", error ? error : "");
}

/* Switching takes as long as it takes (min_off_time, a slow PDU): without a time limit. */
static int switch_power(struct session *session, const struct cli *cli, const char *word,
			const char *wanted, const char *board, bool force)
{
	json_t *body = json_pack("{s:s}", "state", word), *answer = NULL;
	int code;

	if (force)
		(void)json_object_set_new(body, "force", json_true());
	if (session_ask(session, "PUT", client_path("/dut/%s/power", board), body, 0, &answer,
			&code))
		code = check_state(cli, board, wanted, answer);
	json_decref(answer);
	json_decref(body);
	return code;
}

static int read_power(struct session *session, const struct cli *cli, const char *board)
{
	json_t *answer = NULL;
	int code;

	if (session_ask(session, "GET", client_path("/dut/%s/power", board), NULL, 0, &answer,
			&code))
		code = print_state(cli, board, answer);
	json_decref(answer);
	return code;
}

static int act(struct cli *cli, const char *word, const struct option_list *rest, bool force)
{
	const char *wanted = NULL, *board;
	struct session session;
	int code;

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (strcmp(actions[i].word, word) == 0)
			wanted = actions[i].wanted;
	if (!wanted && strcmp(word, "reset") == 0)
		return say_exit(EXIT_USAGE, "not yet: power reset");
	if (!wanted && strcmp(word, "get") != 0)
		return say_exit(EXIT_USAGE, "power: '%.60s' is not on, off, cycle or get", word);
	board = options_board(cli, rest);
	if (!board)
		return EXIT_USAGE;

	if (!session_open(&session, cli, &code))
		return code;
	if (wanted)
		code = switch_power(&session, cli, word, wanted, board, force);
	else
		code = read_power(&session, cli, board);
	session_done(&session);
	return code;
}

static int power(struct cli *cli, int argc, char **argv)
{
	bool force = false;
	const struct option options[] = {
		{ "force", NULL, OPTION_FLAG, &force, "though somebody else has reserved it" },
		{ 0 },
	};
	struct option_list operands = { 0 }, rest;
	int code;

	if (options_parse(&verb_power, options, cli, 1, 2, &operands, argc, argv, &code)) {
		rest = (struct option_list){ operands.items + 1, operands.count - 1 };
		code = act(cli, operands.items[0], &rest, force);
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_power = {
	.name = "power",
	.operands = "on|off|cycle|get [DUT] [OPTION...]",
	.summary = "switches a DUT's power, or says what it is",
	.run = power,
};

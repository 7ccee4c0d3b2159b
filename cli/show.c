/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "cli/view.h"

static void show_power(const json_t *power)
{
	const char *state = view_text(power, "state"), *since = view_text(power, "since");
	const json_t *verified = json_object_get(power, "verified");
	free_ char *text = NULL;

	if (!state)
		return;
	if (asprintf(&text, "%s%s%s%s", state, json_is_false(verified) ? ", not verified" : "",
		     since ? " since " : "", since ? since : "") < 0)
		text = NULL;
	view_field("power", text);
	view_field("power error", view_text(power, "error"));
}

static void show_consoles(const json_t *consoles)
{
	const json_t *console;
	size_t i;

	json_array_foreach(consoles, i, console) {
		const json_t *offset = json_object_get(console, "offset");
		const char *name = view_text(console, "name"), *state = view_text(console, "state");
		free_ char *text = NULL;

		if (asprintf(&text, "%s: %s, %" JSON_INTEGER_FORMAT " bytes so far",
			     name ? name : "?", state ? state : "?",
			     json_integer_value(offset)) < 0)
			text = NULL;
		view_field("console", text);
	}
}

/* Its message says who has retired it and why; one that has a job has no such message yet. */
static void show_retired(const json_t *dut)
{
	const json_t *retired = json_object_get(dut, "retired");
	const char *by = view_text(retired, "by"), *why = view_text(retired, "why");
	free_ char *text = NULL;

	if (!json_is_true(json_object_get(dut, "is_retired")))
		return;
	if (asprintf(&text, "%s%s%s%s%s",
		     json_is_object(json_object_get(dut, "job")) ? "when its job has ended" : "yes",
		     by ? ", by " : "", by ? by : "", why ? ": " : "", why ? why : "") < 0)
		text = NULL;
	view_field("retired", text);
}

static void show_reservation(const json_t *reservation)
{
	const json_t *kick = json_object_get(reservation, "kick");
	const char *until = view_text(reservation, "until"), *by = view_text(kick, "by");
	const char *why = view_text(kick, "why");
	free_ char *text = NULL;

	if (!until)
		return;
	if (asprintf(&text, "until %s%s%s%s%s%s", until,
		     json_is_true(json_object_get(reservation, "bound")) ? ", while a command runs"
									 : "",
		     by ? ", ended by " : "", by ? by : "", by && why ? ": " : "",
		     by && why ? why : "") < 0)
		text = NULL;
	view_field("reserved", text);
}

/* "KEY: VALUE (FILE:LINE)", a list with commas between. */
static void show_value(const json_t *entry)
{
	const json_t *value = json_object_get(entry, "value"), *item;
	const char *key = view_text(entry, "key"), *file = view_text(entry, "file");
	size_t i;

	(void)printf("    ");
	say_out(key ? key : "?");
	(void)printf(": ");
	if (json_is_string(value))
		say_out(json_string_value(value));
	json_array_foreach(value, i, item) {
		(void)printf("%s", i > 0 ? ", " : "");
		say_out(json_is_string(item) ? json_string_value(item) : "...");
	}
	(void)printf(" (");
	say_out(file ? file : "?");
	(void)printf(":%" JSON_INTEGER_FORMAT ")\n",
		     json_integer_value(json_object_get(entry, "line")));
}

static void show_config(const json_t *config)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(config, i, entry) {
		if (i == 0)
			(void)printf("  configuration:\n");
		show_value(entry);
	}
}

static int show_dut(const struct cli *cli, const json_t *dut)
{
	free_ char *holder = NULL;
	const json_t *tag;
	size_t i;

	if (cli->json) {
		say_json(dut);
		return say_finish(0);
	}
	holder = view_holder(dut);
	say_out(view_text(dut, "id"));
	(void)printf(": ");
	say_out(view_text(dut, "state"));
	(void)printf("\n");
	view_field("description", view_text(dut, "description"));
	view_field("message", view_text(dut, "message"));
	view_field(json_is_object(json_object_get(dut, "job")) ? "job" : "holder", holder);
	show_reservation(json_object_get(dut, "reservation"));
	json_array_foreach(json_object_get(dut, "tags"), i, tag)
		view_field(i == 0 ? "tags" : "", json_string_value(tag));
	view_field("comment", view_text(dut, "comment"));
	show_retired(dut);
	if (json_is_false(json_object_get(dut, "ready_for_service")))
		view_field("ready", "no");
	show_power(json_object_get(dut, "power"));
	show_consoles(json_object_get(dut, "consoles"));
	show_config(json_object_get(dut, "config"));
	return say_finish(0);
}

static int ask(struct cli *cli, const char *board)
{
	struct session session;
	json_t *answer = NULL;
	int code;

	if (!session_open(&session, cli, &code))
		return code;
	if (session_ask(&session, "GET", client_path("/dut/%s?config=1", board), NULL,
			CLIENT_ANSWER_TIMEOUT_S, &answer, &code)) {
		const json_t *dut = view_dut(answer);

		code = dut ? show_dut(cli, dut)
			   : say_exit(EXIT_NOT_FOUND, "there is no DUT '%s'", board);
	}
	json_decref(answer);
	session_done(&session);
	return code;
}

static int show(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 };
	const char *board;
	int code;

	if (options_parse(&verb_show, NULL, cli, 0, 1, &operands, argc, argv, &code)) {
		board = options_board(cli, &operands);
		code = board ? ask(cli, board) : EXIT_USAGE;
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_show = {
	.name = "show",
	.operands = "[DUT]",
	.summary = "shows one DUT: its state, power and consoles",
	.run = show,
};

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/bound.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "cli/view.h"

static const uint64_t USEC_PER_SEC = 1000000;
static const uint64_t AGAIN_US = 1000000;

struct reserve {
	struct cli *cli;
	struct session session;
	struct option_list tags;
	const char *span, *why, *wait; /* as they were given */
	uint64_t span_us, wait_us;     /* wait_us: UINT64_MAX: for ever */
	const char *dut;
	char *const *command; /* NULL: none */
	char id[40];
	uint64_t begun_us;
};

/* ---- asking ---- */

static json_t *make_body(const struct reserve *reserve)
{
	json_t *body =
		json_pack("{s:s, s:b}", "id", reserve->id, "bound", reserve->command != NULL);
	json_t *tags;

	if (!body)
		return NULL;
	if (reserve->why)
		(void)json_object_set_new(body, "why", json_string(reserve->why));
	if (reserve->span)
		(void)json_object_set_new(
			body, "seconds",
			json_real((double)reserve->span_us / (double)USEC_PER_SEC));
	if (reserve->dut) {
		(void)json_object_set_new(body, "target", json_pack("{s:s}", "id", reserve->dut));
		return body;
	}
	tags = json_array();
	for (size_t i = 0; i < reserve->tags.count; i++)
		(void)json_array_append_new(tags, json_string(reserve->tags.items[i]));
	(void)json_object_set_new(body, "target", json_pack("{s:o}", "tags", tags));
	return body;
}

static uint64_t wait_left_us(const struct reserve *reserve)
{
	uint64_t gone = clock_now_us() - reserve->begun_us;

	if (reserve->wait_us == UINT64_MAX)
		return UINT64_MAX;
	return gone < reserve->wait_us ? reserve->wait_us - gone : 0;
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	session_stop(data, 0);
	return 0;
}

static int pause_a_second(struct reserve *reserve)
{
	sd_event_source *timer = NULL;
	int code;

	if (sd_event_add_time_relative(reserve->session.loop, &timer, CLOCK_BOOTTIME, AGAIN_US, 1,
				       on_pause_over, &reserve->session) < 0)
		return say_exit(EXIT_INTERNAL, "out of memory");
	code = session_run(&reserve->session);
	(void)sd_event_source_disable_unref(timer);
	return code;
}

static void say_waiting(const struct reserve *reserve, const struct answer *answer)
{
	const char *text = view_text(answer->json, "error");
	char wait[64];

	if (reserve->wait_us == UINT64_MAX)
		say("%s; waiting", text ? text : "busy");
	else
		say("%s; waiting up to %s", text ? text : "busy",
		    text_format_duration(wait, sizeof(wait), reserve->wait_us));
}

/* A failure of the answer: -1 to ask again, else the exit code. */
static int look_at_failure(struct reserve *reserve, const struct answer *answer, json_t *body,
			   bool *waiting)
{
	uint64_t left = reserve->wait ? wait_left_us(reserve) : 0;
	const char *text = view_text(answer->json, "error");

	/* dutd is started again, and the place is lost. */
	if (*waiting && answer->r < 0 && answer->r != -EACCES && left > 0)
		return pause_a_second(reserve) == 0 ? -1 : EXIT_INTERRUPTED;
	if (answer->r < 0 || answer->status != 409 || !reserve->wait)
		return session_refused(answer);
	if (left == 0)
		return say_exit(EXIT_TIMED_OUT, "%s; waited %s", text ? text : "busy",
				reserve->wait);
	if (!*waiting)
		say_waiting(reserve, answer);
	*waiting = true;
	(void)json_object_set_new(body, "wait",
				  left == UINT64_MAX
					  ? json_string("forever")
					  : json_real((double)left / (double)USEC_PER_SEC));
	return -1;
}

/* Until it is ours, or will not be. */
static int take(struct reserve *reserve, json_t **ret)
{
	json_auto_t *body = make_body(reserve);
	bool waiting = false;
	int code = body ? -1 : say_exit(EXIT_INTERNAL, "out of memory");

	while (code < 0) {
		struct answer answer;

		code = session_answer(&reserve->session, "POST", client_path("/reservations"), body,
				      waiting ? 0 : CLIENT_ANSWER_TIMEOUT_S, &answer);
		if (code != 0)
			return code;
		if (answer_is_good(&answer) && view_text(answer.json, "dut") &&
		    view_text(answer.json, "id"))
			*ret = json_incref(answer.json);
		else
			code = look_at_failure(reserve, &answer, body, &waiting);
		answer_done(&answer);
	}
	return code;
}

/* ---- what is had ---- */

/* A person wants to know how long; a script the name, which is on stdout. */
static void say_until(const json_t *reservation)
{
	const json_t *left = json_object_get(reservation, "seconds_left");
	char text[64];

	if (isatty(STDERR_FILENO) && json_is_number(left))
		say("%s is reserved for you for %s", view_text(reservation, "dut"),
		    text_format_duration(text, sizeof(text),
					 (uint64_t)(json_number_value(left) + 0.5) * USEC_PER_SEC));
}

static int print(const struct reserve *reserve, const json_t *reservation)
{
	if (reserve->cli->json) {
		say_json(reservation);
	} else {
		say_out(view_text(reservation, "dut"));
		(void)printf("\n");
		say_until(reservation);
	}
	return say_finish(0);
}

static int reserve_and_leave(struct reserve *reserve)
{
	json_t *reservation = NULL;
	int code;

	if (!session_open(&reserve->session, reserve->cli, &code))
		return code;
	code = take(reserve, &reservation);
	if (code == 0)
		code = print(reserve, reservation);
	json_decref(reservation);
	session_done(&reserve->session);
	return code;
}

static int reserve_and_run(struct reserve *reserve)
{
	cleanup_(command_freep) struct command *command = NULL;
	json_t *reservation = NULL;
	struct error err;
	int code;

	if (command_new(&command, reserve->command, &err) < 0)
		return say_exit(EXIT_INTERNAL, "%s", err.text);
	if (!session_open(&reserve->session, reserve->cli, &code))
		return code;
	code = take(reserve, &reservation);
	if (code == 0)
		code = bound_run(&reserve->session, reservation, command);
	json_decref(reservation);
	session_done(&reserve->session);
	return code;
}

/* ---- what was given ---- */

static int read_durations(struct reserve *reserve)
{
	struct error err;

	if (reserve->span && text_to_duration_us(&reserve->span_us, reserve->span, &err) < 0)
		return say_exit(EXIT_USAGE, "reserve: --for: %s", err.text);
	if (reserve->wait && strcmp(reserve->wait, "forever") == 0)
		reserve->wait_us = UINT64_MAX;
	else if (reserve->wait && text_to_duration_us(&reserve->wait_us, reserve->wait, &err) < 0)
		return say_exit(EXIT_USAGE, "reserve: --wait: %s", err.text);
	return 0;
}

static int check_and_reserve(struct reserve *reserve, const struct option_list *operands)
{
	uint64_t numbers[2] = { 0 };
	int code;

	if (reserve->tags.count > 0 && operands->count > 0)
		return say_exit(EXIT_USAGE, "reserve: a DUT, or --tag, but not both");
	if (reserve->tags.count == 0) {
		reserve->dut = options_board(reserve->cli, operands);
		if (!reserve->dut)
			return EXIT_USAGE;
	}
	code = read_durations(reserve);
	if (code != 0)
		return code;
	/* So that a repeat of the request, after a break, is the same reservation. */
	if (getrandom(numbers, sizeof(numbers), 0) != sizeof(numbers))
		return say_exit(EXIT_INTERNAL, "getrandom: %s", strerror(errno));
	(void)snprintf(reserve->id, sizeof(reserve->id), "%016" PRIx64 "%016" PRIx64, numbers[0],
		       numbers[1]);
	reserve->begun_us = clock_now_us();
	return reserve->command ? reserve_and_run(reserve) : reserve_and_leave(reserve);
}

/* What stands behind "--" is the command. */
static int cut_command(struct reserve *reserve, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--") == 0) {
			reserve->command = argv + i + 1;
			return i;
		}
	return argc;
}

static int reserve_verb(struct cli *cli, int argc, char **argv)
{
	struct reserve reserve = { .cli = cli };
	const struct option options[] = {
		{ "tag", "T", OPTION_LIST, &reserve.tags, "any DUT with this tag" },
		{ "for", "D", OPTION_TEXT, &reserve.span, "how long (2h)" },
		{ "why", "TEXT", OPTION_TEXT, &reserve.why, "the reason, for the others" },
		{ "wait", "D|forever", OPTION_TEXT, &reserve.wait, "until it is free" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	int count = cut_command(&reserve, argc, argv), code;

	if (options_parse(&verb_reserve, options, cli, 0, 1, &operands, count, argv, &code)) {
		if (reserve.command && !reserve.command[0])
			code = say_exit(EXIT_USAGE, "reserve: no command behind '--'");
		else
			code = check_and_reserve(&reserve, &operands);
	}
	option_list_done(&reserve.tags);
	option_list_done(&operands);
	return code;
}

const struct verb verb_reserve = {
	.name = "reserve",
	.operands = "[DUT | --tag T ...] [OPTION...] [-- COMMAND...]",
	.summary = "holds a DUT: for a time, or while a command runs",
	.run = reserve_verb,
};

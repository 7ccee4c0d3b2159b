/* SPDX-License-Identifier: MIT */
#include "cli/bound.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/text.h"
#include "cli/hold.h"
#include "cli/view.h"

enum {
	EXIT_NO_PROGRAM = 127, /* as the shell has it */
	EXIT_NO_EXEC = 126,
};

struct bound {
	struct session *session;
	struct command *command;
	const char *dut, *id;
	bool started;
	bool lost; /* the board is somebody else's, or nobody's */
};

static void begin(struct bound *bound);

static void lose(struct bound *bound)
{
	bound->lost = true;
	if (bound->started)
		command_end(bound->command);
	else
		session_stop(bound->session, EXIT_BUSY);
}

static void say_kick(const struct bound *bound, const json_t *reservation)
{
	const json_t *kick = json_object_get(reservation, "kick");
	const char *by = view_text(kick, "by"), *why = view_text(kick, "why");
	double left = json_number_value(json_object_get(reservation, "seconds_left"));
	char text[64];

	if (!json_is_object(kick))
		return;
	if (!isfinite(left) || left < 0 || left > 1e9)
		left = 0;
	say("%s: %s ends your reservation in %s%s%s", bound->dut, by ? by : "an administrator",
	    text_format_duration(text, sizeof(text), (uint64_t)(left + 0.5) * 1000000),
	    why ? ": " : "", why ? why : "");
}

static void say_end(const struct bound *bound, const json_t *line)
{
	const char *how = view_text(line, "how"), *by = view_text(line, "by");
	const char *why = view_text(line, "why");

	say("%s: your reservation %s%s%s%s%s", bound->dut, how ? how : "is over", by ? " by " : "",
	    by ? by : "", why ? ": " : "", why ? why : "");
}

static void on_line(const json_t *line, void *data)
{
	struct bound *bound = data;
	const char *type = view_text(line, "type");
	const json_t *reservation = json_object_get(line, "reservation");

	if (strcmp(type, "ended") == 0) {
		say_end(bound, line);
		lose(bound);
	} else if (strcmp(type, "kick") == 0 || strcmp(type, "held") == 0) {
		say_kick(bound, reservation);
	}
	if (!bound->started && !bound->lost)
		begin(bound);
}

static void on_lost(struct answer *answer, void *data)
{
	struct bound *bound = data;

	(void)session_refused(answer);
	answer_done(answer);
	lose(bound);
}

static void on_end(int status, void *data)
{
	struct bound *bound = data;

	session_stop(bound->session, bound->lost ? EXIT_BUSY : status);
}

static void begin(struct bound *bound)
{
	struct error err;
	int r = command_start(bound->command, bound->session->loop, "DUT_BOARD", bound->dut, on_end,
			      bound, &err);

	bound->started = r >= 0;
	if (r < 0)
		session_stop(bound->session, say_exit(r == -ENOENT ? EXIT_NO_PROGRAM : EXIT_NO_EXEC,
						      "%s", err.text));
}

static void on_signal(struct session *session, int signal)
{
	const struct bound *bound = session->data;

	if (bound->started)
		command_signal(bound->command, signal);
	else
		session_stop(session, EXIT_INTERRUPTED);
}

static void release(const struct bound *bound)
{
	struct answer answer;
	int code;

	/* It may be over already; and one that cannot be released now ends with its client. */
	code = session_answer(bound->session, "DELETE",
			      client_path("/dut/%s/reservation?id=%s", bound->dut, bound->id), NULL,
			      CLIENT_ANSWER_TIMEOUT_S, &answer);
	if (code == 0)
		answer_done(&answer);
}

int bound_run(struct session *session, const json_t *reservation, struct command *command)
{
	struct bound bound = {
		.session = session,
		.command = command,
		.dut = view_text(reservation, "dut"),
		.id = view_text(reservation, "id"),
	};
	const struct hold_config config = {
		.session = session,
		.dut = bound.dut,
		.id = bound.id,
		.on_line = on_line,
		.on_lost = on_lost,
		.data = &bound,
	};
	struct hold *hold = NULL;
	struct error err;
	int code;

	session->on_signal = on_signal;
	session->data = &bound;
	if (hold_new(&hold, &config, &err) < 0)
		return say_exit(EXIT_INTERNAL, "%s", err.text);
	code = session_run(session);
	session->on_signal = NULL;
	(void)hold_free(hold);
	if (!bound.lost && json_is_true(json_object_get(reservation, "bound")))
		release(&bound);
	return code;
}

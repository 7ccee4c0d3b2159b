/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "dut/board-internal.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/lease.h"
#include "dut/reservation.h"

/* What is told of a board: who holds it, in words, and the API's view. */

enum { HELD_TIME_SIZE = CLOCK_ISO_SIZE + 8 };

static void describe_reservation(const struct board *board, char *text, size_t size)
{
	const struct reservation *reservation = board->reservation;
	const char *error = board->outlet ? outlet_status(board->outlet)->text : "";
	char until[RESERVATION_TIME_SIZE];

	if (board->off.pending)
		(void)snprintf(text, size, "is being switched off after the reservation of %s%s%s",
			       reservation->owner, *error ? ": " : "", error);
	else if (reservation->stage > RESERVATION_HELD)
		(void)snprintf(text, size, "is just being released by %s", reservation->owner);
	else
		(void)snprintf(text, size, "is reserved by %s%s%s%s until %s", reservation->owner,
			       reservation->why ? " (\"" : "",
			       reservation->why ? reservation->why : "",
			       reservation->why ? "\")" : "",
			       reservation_format_until(reservation, until));
}

uint64_t board_expected_end(const struct board *board)
{
	const struct reservation *reservation = board->reservation;

	if (board->job)
		return job_expected_end(board->job);
	if (reservation && reservation->stage == RESERVATION_HELD)
		return clock_realtime_us() + reservation_left_us(reservation);
	return 0;
}

/* "since ..." or, which says more, "until 14:32", in the gateway's time; the day, when it is not
 * today. */
static const char *describe_time(char text[static HELD_TIME_SIZE], uint64_t since_us,
				 uint64_t until_us)
{
	time_t now = (time_t)(clock_realtime_us() / 1000000), until = (time_t)(until_us / 1000000);
	struct tm today, then;
	char iso[CLOCK_ISO_SIZE];

	if (!until_us || !localtime_r(&now, &today) || !localtime_r(&until, &then)) {
		(void)snprintf(text, HELD_TIME_SIZE, "since %s", clock_format_iso(iso, since_us));
	} else if (today.tm_year == then.tm_year && today.tm_yday == then.tm_yday) {
		(void)strftime(text, HELD_TIME_SIZE, "until %H:%M", &then);
	} else {
		(void)strftime(text, HELD_TIME_SIZE, "until %Y-%m-%d %H:%M", &then);
	}
	return text;
}

void board_describe_holder(const struct board *board, char *text, size_t size)
{
	const struct job *job = board->job;
	char since[HELD_TIME_SIZE];

	if (board->foreign.reason && job)
		(void)snprintf(text, size,
			       "is held since %s by something that the executor of job %" PRIu64
			       " has left behind: %s",
			       clock_format_iso(since, board->foreign.since_realtime_us), job->id,
			       board->foreign.reason);
	else if (board->foreign.since_realtime_us)
		(void)snprintf(
			text, size,
			"is held since %s by the executor of an earlier dutd, pid %d, which does not answer",
			clock_format_iso(since, board->foreign.since_realtime_us),
			(int)board->foreign.pid);
	else if (board->conclude.text[0] && job)
		(void)snprintf(text, size, "waits for the end of job %" PRIu64 " to be read: %s",
			       job->id, board->conclude.text);
	else if (board->off.pending && job)
		(void)snprintf(text, size, "is being switched off after job %" PRIu64 "%s%s",
			       job->id, outlet_status(board->outlet)->text[0] ? ": " : "",
			       outlet_status(board->outlet)->text);
	else if (job)
		(void)snprintf(text, size, "is held by %s (job %" PRIu64 ", \"%s\") %s", job->owner,
			       job->id, job->name,
			       describe_time(since,
					     job->started_us ? job->started_us : job->submitted_us,
					     board_expected_end(board)));
	else if (board->reservation)
		describe_reservation(board, text, size);
	else if (board->renewal.leaving)
		(void)snprintf(text, size, "is leaving: it is not configured any more%s%s",
			       board->renewal.text[0] ? "; " : "", board->renewal.text);
	else if (board->renewal.pending)
		(void)snprintf(text, size, "is getting other power or consoles%s%s",
			       board->renewal.text[0] ? ": " : "", board->renewal.text);
	else if (!board->outlet)
		(void)snprintf(text, size, "has no power configured");
	else if (board->flags.retired)
		(void)snprintf(text, size, "is retired since %s%s%s%s%s",
			       clock_format_iso(since, board->flags.since_realtime_us),
			       board->flags.by ? " by " : "",
			       board->flags.by ? board->flags.by : "", board->flags.why ? ": " : "",
			       board->flags.why ? board->flags.why : "");
	else if (!board->flags.ready)
		(void)snprintf(text, size, "is not ready for service");
	else if (board_is_switched_by_hand(board))
		(void)snprintf(text, size, "is being switched on or off by hand");
	else
		(void)snprintf(text, size, "is %s", dut_state_name(board_state(board)));
}

void board_write_power(const struct board *board, const char *key, struct jsontext *json)
{
	const struct outlet_status *status;

	if (!board->outlet) {
		jsontext_text(json, key, NULL);
		return;
	}
	status = outlet_status(board->outlet);
	jsontext_open_object(json, key);
	jsontext_text(json, "state", power_state_name(status->state));
	jsontext_bool(json, "verified", status->verified);
	jsontext_time(json, "since", status->since_realtime_us);
	if (status->text[0])
		jsontext_text(json, "error", status->text);
	jsontext_close_object(json);
}

static void write_consoles(const struct board *board, struct jsontext *json)
{
	static const char *const names[] = {
		[LINE_CLOSED] = "closed",
		[LINE_HELD] = "held",
		[LINE_READING] = "idle",
		[LINE_LENT] = "lent",
	};

	jsontext_open_array(json, "consoles");
	for (size_t i = 0; i < board->n_lines; i++) {
		jsontext_open_object(json, NULL);
		jsontext_text(json, "name", line_name(board->lines[i]));
		jsontext_text(json, "state", names[line_state(board->lines[i])]);
		jsontext_integer(json, "offset", (int64_t)line_offset(board->lines[i]));
		jsontext_close_object(json);
	}
	jsontext_close_array(json);
}

static void write_reserver(const struct reservation *reservation, struct jsontext *json)
{
	jsontext_open_object(json, "holder");
	jsontext_text(json, "job", NULL);
	jsontext_text(json, "owner", reservation->owner);
	jsontext_text(json, "why", reservation->why);
	jsontext_time(json, "since", reservation->since_realtime_us);
	jsontext_time(json, "until", clock_realtime_us() + reservation_left_us(reservation));
	jsontext_close_object(json);
}

/* Who has it, whether for a job or by hand. */
static void write_holder(const struct board *board, struct jsontext *json)
{
	const struct job *job = board->job;
	char id[24];

	if (!job && board->reservation) {
		write_reserver(board->reservation, json);
		return;
	}
	if (!job) {
		jsontext_text(json, "holder", NULL);
		return;
	}
	(void)snprintf(id, sizeof(id), "%" PRIu64, job->id);
	jsontext_open_object(json, "holder");
	jsontext_text(json, "job", id);
	jsontext_text(json, "owner", job->owner);
	jsontext_text(json, "why", job->name);
	jsontext_time(json, "since", job->started_us ? job->started_us : job->submitted_us);
	jsontext_text(json, "until", NULL);
	jsontext_close_object(json);
}

/* What is not as it should be, or will not stay. */
static void write_message(const struct board *board, enum dut_state state, struct jsontext *json)
{
	char text[512] = "";

	if (state == DUT_BORKED || state == DUT_WAIT_FOR_CONFIG || state == DUT_RETIRED ||
	    state == DUT_TRAINING)
		board_describe_holder(board, text, sizeof(text));
	else if (board->renewal.leaving)
		(void)snprintf(text, sizeof(text),
			       "leaving: it is not configured any more, and goes when it is free");
	else if (board->renewal.pending)
		(void)snprintf(text, sizeof(text),
			       "gets other power or consoles when it is free%s%s",
			       board->renewal.text[0] ? ": " : "", board->renewal.text);
	if (text[0])
		jsontext_text(json, "message", text);
}

static void write_members(const struct board *board, struct jsontext *json)
{
	const struct config_dut *config = board->config;
	enum dut_state state = board_state(board);

	jsontext_text(json, "id", config->id);
	jsontext_text(json, "state", dut_state_name(state));
	jsontext_tree(json, "tags", flags_tags(&board->flags, config->tags));
	flags_write(&board->flags, json);
	board_write_power(board, "power", json);
	write_consoles(board, json);
	if (board->job)
		jsontext_tree(json, "job", job_to_json(board->job));
	else
		jsontext_text(json, "job", NULL);
	jsontext_text(json, "description", config->description);
	if (board->reservation)
		jsontext_tree(json, "reservation", reservation_to_json(board->reservation));
	else
		jsontext_text(json, "reservation", NULL);
	write_holder(board, json);
	if (board->lease || board->foreign.pid) {
		jsontext_open_object(json, "executor");
		jsontext_integer(json, "pid",
				 board->lease ? lease_pid(board->lease) : board->foreign.pid);
		jsontext_close_object(json);
	}
	jsontext_bool(json, "leaving", board->renewal.leaving);
	write_message(board, state, json);
}

void board_write(const struct board *board, const char *key, struct jsontext *json)
{
	jsontext_open_object(json, key);
	write_members(board, json);
	jsontext_close_object(json);
}

void board_write_with_config(const struct board *board, struct jsontext *json)
{
	jsontext_open_object(json, NULL);
	write_members(board, json);
	config_dut_write(board->config, "config", json);
	jsontext_close_object(json);
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "dut/board-internal.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"

/*
 * A newer configuration reaches a board. Its words (description, tags, variables ...) hold at once;
 * its power and its consoles are exchanged when nobody has the board. Each console that is the same
 * stays open, with its viewers. A virtual board whose power changes, or that leaves, is ended
 * first: nobody could switch its process off any more.
 */

static const uint64_t RETRY_US = UINT64_C(10) * 1000000;

static bool is_same_line(const struct line *line, const struct config_console *console)
{
	const struct config_console *own = config_find_console(line_dut(line), line_name(line));

	return strcmp(line_name(line), console->name) == 0 && own &&
	       config_same_console(own, console);
}

static bool has_its_times(const struct board *board)
{
	return !board->outlet ||
	       outlet_has_times(board->outlet, board->config->min_off_us, board->config->settle_us);
}

/* Whether power and consoles are those of the configuration. */
static bool is_up_to_date(const struct board *board)
{
	const struct config_dut *config = board->config;

	if (!config_same_power(board->power_config, config) || !has_its_times(board) ||
	    board->n_lines != config->n_consoles)
		return false;
	for (size_t i = 0; i < board->n_lines; i++)
		if (!is_same_line(board->lines[i], &config->consoles[i]))
			return false;
	return true;
}

static void set_present(struct board *board)
{
	config_dut_unref(board->present);
	board->present = config_dut_ref(board->config);
}

void board_configure(struct board *board, struct config_dut *config)
{
	struct config_dut *old = board->config;

	board->renewal.ended = false;
	board->renewal.text[0] = '\0';
	board->renewal.timer = sd_event_source_disable_unref(board->renewal.timer);
	board->renewal.leaving = !config;
	if (!config) {
		old->board = NULL; /* its name finds it, no alias */
		return;
	}
	board->config = config_dut_ref(config);
	config->board = board;
	old->board = NULL;
	config_dut_unref(old);
	board->renewal.pending = !is_up_to_date(board);
	if (!board->renewal.pending)
		set_present(board);
}

bool board_is_nobodys(const struct board *board)
{
	return board->lock_fd >= 0 && !board->job && !board->reservation && !board->starting &&
	       !board->lease && !board->off.pending && !board->conclude.text[0] &&
	       !(board->outlet && outlet_busy(board->outlet));
}

bool board_is_being_renewed(const struct board *board)
{
	return (board->renewal.pending || board->renewal.leaving) && !board->renewal.text[0] &&
	       board->lock_fd >= 0 && !board->job && !board->reservation && !board->starting &&
	       !board->off.pending && !board->conclude.text[0];
}

void board_read_consoles(struct board *board)
{
	struct error err;

	for (size_t i = 0; i < board->n_lines; i++) {
		(void)line_connect(board->lines[i], NULL);
		if (line_read(board->lines[i], &err) < 0)
			log_board(board->config->id, LOG_ERR, "console %s: %s",
				  line_name(board->lines[i]), err.text);
	}
}

bool board_misses_console(const struct board *board)
{
	for (size_t i = 0; i < board->n_lines; i++) {
		const struct config_console *console =
			config_find_console(line_dut(board->lines[i]), line_name(board->lines[i]));

		if (line_state(board->lines[i]) == LINE_CLOSED && console &&
		    !power_driver_is_virtual(console->driver))
			return true;
	}
	return false;
}

/* ---- the end of a virtual board ---- */

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct board *board = data;

	(void)source;
	(void)usec;
	board->renewal.timer = sd_event_source_disable_unref(board->renewal.timer);
	dispatch_later(board->daemon);
	return 0;
}

static void retry_later(struct board *board, const char *text)
{
	if (strcmp(board->renewal.text, text) != 0)
		log_board(board->config->id, LOG_ERR, "%s, trying again every %" PRIu64 " s: %s",
			  board->renewal.leaving ? "cannot leave" : "cannot be changed",
			  RETRY_US / 1000000, text);
	(void)snprintf(board->renewal.text, sizeof(board->renewal.text), "%s", text);
	board->renewal.timer = sd_event_source_disable_unref(board->renewal.timer);
	(void)sd_event_add_time_relative(board->daemon->event, &board->renewal.timer,
					 CLOCK_BOOTTIME, RETRY_US, 0, on_retry, board);
}

static void on_ended(const struct power_result *result, void *data)
{
	struct board *board = data;

	if (result->error >= 0 && result->state == POWER_OFF)
		board->renewal.ended = true;
	else
		retry_later(board, result->error < 0 ? result->text.text
						     : "its power does not read back OFF");
	dispatch_later(board->daemon);
}

static bool has_to_end(const struct board *board)
{
	return board->outlet && !board->renewal.ended &&
	       power_driver_is_virtual(board->power_config->power_driver) &&
	       (board->renewal.leaving || !config_same_power(board->power_config, board->config));
}

/* ---- the exchange ---- */

/* What is opened, and takes the place of what is there, all at once or not at all. */
struct exchange {
	struct outlet *outlet;
	bool other_power;
	struct line **lines;
	bool *opened; /* of lines: new ones */
};

static void exchange_done(struct exchange *exchange, size_t n_lines)
{
	(void)outlet_free(exchange->outlet);
	for (size_t i = 0; exchange->lines && i < n_lines; i++)
		if (exchange->opened[i])
			(void)line_free(exchange->lines[i]);
	free(exchange->lines);
	free(exchange->opened);
}

static struct line *find_same_line(const struct board *board, const struct config_console *console)
{
	for (size_t i = 0; i < board->n_lines; i++)
		if (is_same_line(board->lines[i], console))
			return board->lines[i];
	return NULL;
}

static int open_exchange(struct board *board, struct exchange *exchange, struct error *err)
{
	const struct config_dut *config = board->config;
	int r = 0;

	exchange->lines = calloc(config->n_consoles + 1, sizeof(struct line *));
	exchange->opened = calloc(config->n_consoles + 1, sizeof(bool));
	if (!exchange->lines || !exchange->opened)
		return error_oom(err);
	for (size_t i = 0; i < config->n_consoles && r >= 0; i++) {
		exchange->lines[i] = find_same_line(board, &config->consoles[i]);
		if (exchange->lines[i])
			continue;
		r = board_open_line(board, &config->consoles[i], &exchange->lines[i], err);
		exchange->opened[i] = r >= 0;
	}
	exchange->other_power = !config_same_power(board->power_config, config);
	if (r >= 0 && exchange->other_power)
		r = board_open_power(board, &exchange->outlet, err);
	return r;
}

static bool has_line(struct line *const *lines, size_t n, const struct line *line)
{
	for (size_t i = 0; i < n; i++)
		if (lines[i] == line)
			return true;
	return false;
}

/* Nothing can fail from here on. */
static void commit_exchange(struct board *board, struct exchange *exchange)
{
	struct config_dut *config = board->config;

	for (size_t i = 0; i < board->n_lines; i++)
		if (!has_line(exchange->lines, config->n_consoles, board->lines[i]))
			(void)line_free(board->lines[i]);
	free(board->lines);
	board->lines = take_ptr(exchange->lines);
	board->n_lines = config->n_consoles;
	if (board->n_lines > 0 && exchange->opened[0])
		daemon_attach_logs(board->daemon, board);
	for (size_t i = 0; i < board->n_lines; i++)
		if (exchange->opened[i])
			line_start(board->lines[i]);
	if (exchange->other_power) {
		board->outlet = outlet_free(board->outlet);
		board->outlet = take_ptr(exchange->outlet);
		board->power_seen = POWER_UNKNOWN;
		config_dut_unref(board->power_config);
		board->power_config = config_dut_ref(config);
	} else if (board->outlet) {
		outlet_set_times(board->outlet, config->min_off_us, config->settle_us);
	}
	set_present(board);
	board->renewal.pending = board->renewal.ended = false;
	board->renewal.text[0] = '\0';
}

static int exchange_hardware(struct board *board, struct error *err)
{
	struct exchange exchange = { 0 };
	int r = open_exchange(board, &exchange, err);

	if (r >= 0)
		commit_exchange(board, &exchange);
	exchange_done(&exchange, board->config->n_consoles);
	if (r >= 0)
		board_read_consoles(board);
	if (r >= 0 && board->outlet)
		(void)outlet_request(board->outlet, OUTLET_READ, NULL, NULL, NULL, NULL);
	return r;
}

int board_renew(struct board *board, struct error *err)
{
	int r = 0;

	if (!board->renewal.leaving && !board->renewal.pending)
		return 1;
	if (!board_is_nobodys(board) || board->renewal.timer)
		return 0;
	if (has_to_end(board))
		r = outlet_request(board->outlet, OUTLET_END, NULL, on_ended, board, err);
	else if (board->renewal.leaving)
		return 1;
	else
		r = exchange_hardware(board, err);
	if (r < 0) {
		retry_later(board, err->text);
		return r;
	}
	return !board->renewal.pending && !board->renewal.leaving;
}

/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/http.h"
#include "base/log.h"
#include "dut/board.h"
#include "dut/config.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/lab-events.h"
#include "dut/reload.h"
#include "dut/reservation.h"
#include "dut/submit.h"
#include "dut/token-watch.h"

/*
 * From a new configuration to the boards. Each board that is configured in both is told what it is
 * now; what cannot be done while somebody has it waits in the board (board-renew.c). One that is
 * configured no more stays as long as somebody has it; new ones are opened. First all that goes is
 * closed, then what comes is opened: a console may go from one DUT to another.
 */

enum { MAX_TEXT = 700 };

static const uint64_t SLICE_US = 5000;

/* ---- what is told ---- */

static void report(struct daemon *daemon, json_t *changes, json_t *change, const char *outcome,
		   const char *format, ...) printf_(5, 6);

/* Completes a change: for the one who asked, the log and the lab's events. */
static void report(struct daemon *daemon, json_t *changes, json_t *change, const char *outcome,
		   const char *format, ...)
{
	const char *dut = json_string_value(json_object_get(change, "dut"));
	const char *setting = json_string_value(json_object_get(change, "setting"));
	char text[MAX_TEXT];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	(void)json_object_set_new(change, "outcome", json_string(outcome));
	(void)json_object_set_new(change, "text", json_string(text));
	if (dut)
		log_board(dut, LOG_NOTICE, "configuration: %s", text);
	else
		log_msg(LOG_NOTICE, "configuration: %s: %s", setting, text);
	lab_event(daemon, "config", dut, 0, json_copy(change));
	(void)json_array_append_new(changes, change);
}

/* "power, tags" */
static const char *join(const json_t *keys, char text[static MAX_TEXT / 2])
{
	size_t length = 0, i;
	const json_t *key;

	text[0] = '\0';
	json_array_foreach(keys, i, key) {
		int n = snprintf(text + length, MAX_TEXT / 2 - length, "%s%s", i > 0 ? ", " : "",
				 json_string_value(key));

		if (n < 0 || length + (size_t)n >= MAX_TEXT / 2)
			break;
		length += (size_t)n;
	}
	return text;
}

/* What it waits for: "waits for job 17", or whatever has the board. */
static const char *describe_wait(const struct board *board, json_t *change,
				 char text[static MAX_TEXT / 2])
{
	char holder[MAX_TEXT / 2 - 24], id[24];

	if (board->job) {
		(void)snprintf(id, sizeof(id), "%" PRIu64, board->job->id);
		(void)json_object_set_new(change, "job", json_string(id));
		(void)snprintf(text, MAX_TEXT / 2, "waits for job %s", id);
	} else {
		board_describe_holder(board, holder, sizeof(holder));
		(void)snprintf(text, MAX_TEXT / 2, "waits: %s %s", board->config->id, holder);
	}
	return text;
}

/* ---- settings ---- */

static void report_settings(struct daemon *daemon, json_t *changes, const struct config *config,
			    const struct yaml_node *at_start)
{
	json_auto_t *now = config_changed_settings(daemon->config->settings, config->settings);
	json_auto_t *restart = config_changed_settings(at_start, config->settings);
	const json_t *setting;
	size_t i;

	json_array_foreach(now, i, setting)
		if (!config_needs_restart(json_string_value(setting)))
			report(daemon, changes, json_pack("{s:O}", "setting", setting), "applied",
			       "applied");
	json_array_foreach(restart, i, setting)
		if (config_needs_restart(json_string_value(setting)))
			report(daemon, changes, json_pack("{s:O}", "setting", setting), "restart",
			       "needs a restart of dutd");
}

/* Those that somebody has a copy of. */
static void use_settings(struct daemon *daemon)
{
	const struct config_limits *limits = &daemon->config->limits;

	submit_set_limits(limits->job_file, limits->bucket);
	http_server_set_upload_min_free(daemon->http, limits->free_space);
	LIST_FOREACH(link, &daemon->boards) {
		struct board *board = CONTAINER_OF(link, struct board, link);

		for (size_t i = 0; i < board->n_lines; i++)
			line_set_limits(board->lines[i], limits->free_space, limits->idle_log);
	}
}

/* ---- boards that are there ---- */

/* What the new configuration means for one of them. */
struct change {
	struct board *board;
	json_t *keys; /* that have other values */
	bool leaves, comes_back;
};

static void configure_board(struct daemon *daemon, struct board *board, struct change *change)
{
	struct config_dut *dut = config_find_dut(daemon->config, board->config->id);

	if (dut && strcmp(dut->id, board->config->id) != 0)
		dut = NULL; /* its name is another one's alias now */
	change->board = board;
	change->leaves = !dut;
	change->comes_back = dut && board->renewal.leaving;
	if (dut)
		change->keys = config_changed_keys(board->config, dut);
	board_configure(board, dut);
	daemon->n_leaving += !dut;
}

static void let_go(struct daemon *daemon, struct board *board)
{
	LIST_FOREACH(link, &daemon->jobs) {
		struct job *job = CONTAINER_OF(link, struct job, link);

		if (job->board == board)
			job->board = NULL;
	}
	board_free(board);
	daemon->n_leaving--;
}

static void report_leaving(struct daemon *daemon, json_t *changes, struct board *board, int r,
			   const struct error *err)
{
	json_t *change = json_pack("{s:s}", "dut", board->config->id);
	char text[MAX_TEXT / 2];

	if (r < 0) {
		report(daemon, changes, change, "refused", "refused, it stays: %s", err->text);
	} else if (r == 0 && board_is_being_renewed(board)) {
		report(daemon, changes, change, "applied",
		       "applied: it is ended, and is gone then");
	} else if (r == 0) {
		const char *wait = describe_wait(board, change, text);

		report(daemon, changes, change, "waits", "%s, then it leaves", wait);
	} else {
		report(daemon, changes, change, "applied", "applied: it is gone");
		let_go(daemon, board);
	}
}

/* The keys of the one kind or the other. */
static json_t *pick(const json_t *keys, bool hardware)
{
	json_t *picked = json_array();
	const json_t *key;
	size_t i;

	json_array_foreach(keys, i, key)
		if (config_is_hardware_key(json_string_value(key)) == hardware)
			(void)json_array_append(picked, (json_t *)(uintptr_t)key);
	return picked;
}

static void report_applied(struct daemon *daemon, json_t *changes, const struct change *change,
			   const json_t *keys)
{
	json_t *entry = json_pack("{s:s, s:O}", "dut", change->board->config->id, "keys", keys);
	char text[MAX_TEXT / 2];

	report(daemon, changes, entry, "applied", "applied: %s%s%s",
	       change->comes_back ? "it stays after all" : "",
	       change->comes_back && json_array_size(keys) > 0 ? ", with other " : "",
	       join(keys, text));
}

/* Its hardware is to be another one, which cannot be now. */
static void report_pending(struct daemon *daemon, json_t *changes, const struct change *change,
			   const json_t *keys, int r, const struct error *err)
{
	json_t *entry = json_pack("{s:s, s:O}", "dut", change->board->config->id, "keys", keys);
	char names[MAX_TEXT / 2], text[MAX_TEXT / 2];

	/* Asked for by an earlier reload. */
	if (json_array_size(keys) == 0)
		(void)snprintf(names, sizeof(names), "other power or consoles");
	else
		join(keys, names);
	if (r < 0)
		report(daemon, changes, entry, "refused", "refused: %s: %s", names, err->text);
	else
		report(daemon, changes, entry, "waits", "%s: %s",
		       describe_wait(change->board, entry, text), names);
}

static void renew_board(struct daemon *daemon, json_t *changes, const struct change *change)
{
	json_auto_t *words = pick(change->keys, false), *hardware = pick(change->keys, true);
	struct error err;
	int r = board_renew(change->board, &err);

	if (change->leaves) {
		report_leaving(daemon, changes, change->board, r, &err);
		return;
	}
	if (r == 1 || (r == 0 && board_is_being_renewed(change->board))) {
		if (json_array_size(change->keys) > 0 || change->comes_back)
			report_applied(daemon, changes, change, change->keys);
		return;
	}
	if (json_array_size(words) > 0 || change->comes_back)
		report_applied(daemon, changes, change, words);
	report_pending(daemon, changes, change, hardware, r, &err);
}

static size_t count_boards(const struct daemon *daemon)
{
	size_t n = 0;

	LIST_FOREACH(link, &daemon->boards)
		n++;
	return n;
}

/* list has room for all boards. */
static void change_boards(struct daemon *daemon, json_t *changes, struct change *list)
{
	size_t n = 0;

	daemon->n_leaving = 0;
	LIST_FOREACH(link, &daemon->boards)
		configure_board(daemon, CONTAINER_OF(link, struct board, link), &list[n++]);
	for (size_t i = 0; i < n; i++)
		if (list[i].leaves)
			renew_board(daemon, changes, &list[i]);
	for (size_t i = 0; i < n; i++) {
		if (!list[i].leaves)
			renew_board(daemon, changes, &list[i]);
		json_decref(list[i].keys);
	}
}

/* ---- new ones ---- */

/* Before those that leave. */
static void insert_board(struct daemon *daemon, struct board *board)
{
	struct list *before = &daemon->boards;

	for (unsigned i = 0; i < daemon->n_leaving; i++)
		before = before->previous;
	list_append(before, &board->link);
}

static void open_board(struct daemon *daemon, json_t *changes, struct config_dut *dut)
{
	json_t *change = json_pack("{s:s}", "dut", dut->id);
	struct board *board;
	struct error err;
	int r = board_new(&board, daemon, dut, &err);

	if (r < 0) {
		report(daemon, changes, change, "refused", "refused: %s", err.text);
		return;
	}
	insert_board(daemon, board);
	daemon_attach_jobs(daemon, board);
	reservation_load(board);
	board_begin(board);
	report(daemon, changes, change, "applied", "applied: it is new");
}

/* The order of the configuration, and behind it those that leave. */
static void sort_boards(struct daemon *daemon)
{
	for (size_t i = 0; i < daemon->config->n_duts; i++) {
		struct board *board = daemon->config->duts[i]->board;

		if (!board)
			continue;
		list_remove(&board->link);
		list_append(&daemon->boards, &board->link);
	}
	for (unsigned i = 0; i < daemon->n_leaving; i++) {
		struct list *first = daemon->boards.next;

		list_remove(first);
		list_append(&daemon->boards, first);
	}
}

/* A console that another board has given up may be there now. */
static void find_consoles(struct daemon *daemon)
{
	LIST_FOREACH(link, &daemon->boards) {
		struct board *board = CONTAINER_OF(link, struct board, link);

		if (board_misses_console(board) && board_is_nobodys(board))
			board_read_consoles(board);
	}
}

json_t *reload_apply(struct daemon *daemon, struct config *config, const struct yaml_node *at_start)
{
	free_ struct change *list = calloc(count_boards(daemon) + 1, sizeof(*list));
	struct config *old = daemon->config;
	json_t *changes = json_array();

	if (!list || !changes) {
		json_decref(changes);
		(void)config_free(config);
		return NULL;
	}
	report_settings(daemon, changes, config, at_start);
	daemon->config = config;
	use_settings(daemon);
	token_watch_renew(daemon);
	change_boards(daemon, changes, list);
	sort_boards(daemon);
	(void)config_free(old);
	dispatch_later(daemon);
	return changes;
}

bool reload_open_some(struct daemon *daemon, json_t *changes, size_t *next)
{
	const struct config *config = daemon->config;
	uint64_t until_us = clock_now_us() + SLICE_US;

	for (; *next < config->n_duts; (*next)++) {
		if (config->duts[*next]->board)
			continue;
		if (clock_now_us() >= until_us)
			return false;
		open_board(daemon, changes, config->duts[*next]);
	}
	return true;
}

void reload_finish(struct daemon *daemon, const json_t *changes)
{
	sort_boards(daemon);
	if (json_array_size(changes) > 0)
		find_consoles(daemon);
	dispatch_later(daemon);
}

static void tell_settled(struct daemon *daemon, const struct board *board, const char *text)
{
	log_board(board->config->id, LOG_NOTICE, "configuration: %s", text);
	lab_event(daemon, "config", board->config->id, 0,
		  json_pack("{s:s, s:s, s:s}", "dut", board->config->id, "outcome", "applied",
			    "text", text));
}

void reload_settle(struct daemon *daemon)
{
	bool any = false;

	LIST_FOREACH_SAFE(link, after, &daemon->boards) {
		struct board *board = CONTAINER_OF(link, struct board, link);
		bool leaves = board->renewal.leaving;
		struct error err; /* it notes its failures itself */

		if (!leaves && !board->renewal.pending)
			continue;
		if (board_renew(board, &err) != 1)
			continue;
		any = true;
		tell_settled(daemon, board,
			     leaves ? "it is gone" : "it has its other power or consoles now");
		if (leaves)
			let_go(daemon, board);
	}
	if (any)
		find_consoles(daemon);
}

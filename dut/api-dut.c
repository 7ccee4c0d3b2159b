/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "dut/access.h"
#include "dut/api.h"
#include "dut/audit.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/reservation.h"

struct board *api_find_board(struct http_request *request, const struct daemon *daemon)
{
	const char *id = http_request_argument(request, "id");
	struct board *board = daemon_find_board(daemon, id);
	char escaped[128];

	if (!board)
		http_reply_error(request, 404, "there is no DUT '%s'",
				 text_escape(escaped, sizeof(escaped), id, strlen(id)));
	return board;
}

void api_duts(struct http_request *request, void *data)
{
	const struct daemon *daemon = data;
	struct jsontext json = { 0 };

	jsontext_open_object(&json, NULL);
	jsontext_open_object(&json, "duts");
	LIST_FOREACH(link, &daemon->boards) {
		const struct board *board = CONTAINER_OF(link, struct board, link);

		board_write(board, board->config->id, &json);
	}
	jsontext_close_object(&json);
	jsontext_close_object(&json);
	http_reply_jsontext(request, 200, &json);
}

void api_dut(struct http_request *request, void *data)
{
	const struct board *board = api_find_board(request, data);
	struct jsontext json = { 0 };

	if (!board)
		return;
	if (http_request_query(request, "config"))
		board_write_with_config(board, &json);
	else
		board_write(board, NULL, &json);
	http_reply_jsontext(request, 200, &json);
}

/* ---- power ---- */

/* Fewer than an outlet takes: a job's own requests and the off after it always find room. */
enum { MAX_WAITING_BY_HAND = 8, MAX_WAITING_OFF = 12 };

/* Somebody who waits for the power; a cycle is an off and then an on. */
struct power_call {
	struct http_request *request;
	struct board *board;
	bool then_on;
	bool force; /* though somebody has reserved it */
};

/* Whether nobody else has it, or (force) has it but for a person's reservation. */
static bool may_switch(const struct http_request *request, const struct board *board, bool force)
{
	const struct reservation *reservation = board->reservation;
	struct access_identity who;

	access_identify(board->daemon, request, &who);
	if (force && reservation)
		return board_is_idle_for(board, reservation->owner, reservation->owner_uid);
	return reservation ? board_is_idle_for(board, who.name, who.uid) : board_is_unused(board);
}

static void on_caller_gone(void *data)
{
	struct power_call *call = data;

	outlet_forget(call->board->outlet, call);
	free(call);
}

static void refuse_held(struct http_request *request, const struct board *board)
{
	char holder[512];

	board_describe_holder(board, holder, sizeof(holder));
	http_reply_error(request, 409, "%s %s", board->config->id, holder);
}

static void reply_power(struct http_request *request, const struct board *board)
{
	struct jsontext json = { 0 };

	board_write_power(board, NULL, &json);
	http_reply_jsontext(request, 200, &json);
}

static void on_power_done(const struct power_result *result, void *data)
{
	struct power_call *call = data;
	struct error err;
	int r = result->error;

	if (r >= 0 && call->then_on) {
		call->then_on = false;
		if (!may_switch(call->request, call->board, call->force)) {
			refuse_held(call->request, call->board);
			free(call);
			return;
		}
		r = outlet_request(call->board->outlet, OUTLET_ON, NULL, on_power_done, call, &err);
		if (r >= 0)
			return;
	} else {
		err = result->text;
	}
	if (r < 0)
		http_reply_error(call->request, 502, "%s: power: %s", call->board->config->id,
				 err.text);
	else
		reply_power(call->request, call->board);
	free(call);
}

/* A read that fails is an answer, too: UNKNOWN, with the error. */
static void on_power_read(const struct power_result *result, void *data)
{
	struct power_call *call = data;

	(void)result;
	reply_power(call->request, call->board);
	free(call);
}

static void begin_power(struct http_request *request, struct board *board, enum outlet_verb verb,
			bool then_on, bool force)
{
	/* An off still gets in behind all that others have asked for. */
	unsigned max = verb == OUTLET_OFF && !then_on ? MAX_WAITING_OFF : MAX_WAITING_BY_HAND;
	struct power_call *call = malloc(sizeof(*call));
	struct error err;
	int r;

	if (!call) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	if (outlet_waiting(board->outlet) >= max) {
		http_reply_error(request, 429,
				 "%s: %u power operations wait already, which is the limit",
				 board->config->id, max);
		free(call);
		return;
	}
	*call = (struct power_call){ request, board, then_on, force };
	r = outlet_request(board->outlet, verb, NULL,
			   verb == OUTLET_READ ? on_power_read : on_power_done, call, &err);
	if (r < 0) {
		http_reply_error(request, api_status(r), "%s: power: %s", board->config->id,
				 err.text);
		free(call);
		return;
	}
	http_request_on_gone(request, on_caller_gone, call);
}

static bool has_power(struct http_request *request, const struct board *board)
{
	if (!board->outlet)
		http_reply_error(request, 503, "%s has no power configured", board->config->id);
	return board->outlet;
}

void api_power_get(struct http_request *request, void *data)
{
	struct board *board = api_find_board(request, data);

	if (!board || !has_power(request, board))
		return;
	/* The device is busy with an operation: what is known is the answer, and does not wait for
	 * it. */
	if (outlet_busy(board->outlet))
		reply_power(request, board);
	else
		begin_power(request, board, OUTLET_READ, false, false);
}

/* The wanted state of {"state": ...}, or NULL when the request is answered. */
static const char *wanted_state(struct http_request *request, const json_t *body)
{
	static const char *const known[] = { "on", "off", "cycle" };
	const char *state = json_string_value(json_object_get(body, "state"));

	for (size_t i = 0; state && i < ARRAY_SIZE(known); i++)
		if (strcasecmp(state, known[i]) == 0)
			return known[i];
	if (state && strcasecmp(state, "reset") == 0)
		http_reply_error(request, 400, "not yet: reset");
	else
		http_reply_error(request, 400,
				 "the body must be {\"state\": S} with S one of on, off, cycle");
	return NULL;
}

/* Whether he may go over a reservation. */
static bool need_force(struct http_request *request, const struct board *board)
{
	struct access_identity who;

	access_identify(board->daemon, request, &who);
	return access_need(request, &who, ACCESS_ADMIN, "to switch %s by force", board->config->id);
}

void api_power_put(struct http_request *request, void *data)
{
	struct board *board = api_find_board(request, data);
	json_auto_t *body = NULL;
	struct access_identity who;
	const char *state;
	size_t length;
	const char *text;
	bool force;

	if (!board || !has_power(request, board))
		return;
	text = http_request_body(request, &length);
	body = text ? json_loadb(text, length, 0, NULL) : NULL;
	state = wanted_state(request, body);
	if (!state)
		return;
	access_identify(data, request, &who);
	if (board_is_out_of_service(board) &&
	    !access_need(request, &who, ACCESS_ADMIN, "%s is %s: to switch its power",
			 board->config->id, board->flags.retired ? "retired" : "not ready"))
		return;
	force = json_is_true(json_object_get(body, "force"));
	if (force && !need_force(request, board))
		return;
	/* Only the lock's holder switches on; off does no harm to a board that has to go off
	 * anyway. */
	if (!may_switch(request, board, force) &&
	    !(strcmp(state, "off") == 0 && board_may_be_cut(board))) {
		refuse_held(request, board);
		return;
	}
	audit_note(data, &who, board->config->id, 0, "power", "%s", state);
	begin_power(request, board, strcmp(state, "on") == 0 ? OUTLET_ON : OUTLET_OFF,
		    strcmp(state, "cycle") == 0, force);
}

/* ---- console ---- */

static struct line *find_line(struct http_request *request, const struct board *board)
{
	const char *name = http_request_query(request, "name");
	char escaped[128];

	for (size_t i = 0; i < board->n_lines; i++)
		if (!name || !*name || strcmp(line_name(board->lines[i]), name) == 0)
			return board->lines[i];
	if (name && *name)
		http_reply_error(request, 404, "%s has no console '%s'", board->config->id,
				 text_escape(escaped, sizeof(escaped), name, strlen(name)));
	else
		http_reply_error(request, 404, "%s has no console", board->config->id);
	return NULL;
}

/* The first offset: N, or -N from the end; without one, what comes from now on. */
static int first_offset(const struct http_request *request, const struct history *history,
			uint64_t *ret, struct error *err)
{
	const char *text = http_request_query(request, "offset");
	uint64_t end = history_end(history), number;
	int r;

	if (!text || !*text) {
		*ret = end;
		return 0;
	}
	r = text_to_uint64(&number, text[0] == '-' ? text + 1 : text, 0, INT64_MAX, err);
	if (r < 0)
		return error_prefix(err, r, "offset");
	if (text[0] == '-')
		*ret = number < end ? end - number : 0;
	else
		*ret = number < end ? number : end;
	return 0;
}

void api_console(struct http_request *request, void *data)
{
	static const char *const later[] = { "boot", "timestamps", "mode" };
	const struct board *board = api_find_board(request, data);
	struct line *line = board ? find_line(request, board) : NULL;
	struct error err;
	uint64_t offset = 0;
	int r;

	if (!line)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(later); i++)
		if (http_request_query(request, later[i])) {
			http_reply_error(request, 400, "not yet: %s", later[i]);
			return;
		}
	r = first_offset(request, line_history(line), &offset, &err);
	if (r >= 0)
		r = viewer_add_console(line_viewers(line), request, line_history(line), offset,
				       &err);
	if (r < 0)
		http_reply_error(request, api_status(r), "%s", err.text);
	else
		line_watch(line);
}

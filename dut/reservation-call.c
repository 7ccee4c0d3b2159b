/* SPDX-License-Identifier: MIT */
#include "dut/reservation-call.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "dut/api.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/metadata.h"

static const double USEC_PER_SEC = 1e6;

enum { MAX_CALLS = 1000 };

/* ---- its life ---- */

void call_free(struct reservation_call *call)
{
	if (!call)
		return;
	queue_remove(&call->claim);
	list_remove(&call->link);
	json_decref(call->body);
	free(call->dut);
	free(call->id);
	free(call);
}

void api_reservations_drop(struct daemon *daemon)
{
	while (!list_empty(&daemon->reservation_calls))
		call_free(CONTAINER_OF(daemon->reservation_calls.next, struct reservation_call,
				       link));
}

/* Many may wait, but no one user keeps the others from it. */
static bool has_room(struct http_request *request, const struct daemon *daemon)
{
	const struct http_peer *peer = http_request_peer(request);
	unsigned count = 0, of_user = 0;

	LIST_FOREACH(link, &daemon->reservation_calls) {
		count++;
		of_user += CONTAINER_OF(link, struct reservation_call, link)->user == peer->user;
	}
	if (count >= MAX_CALLS)
		http_reply_error(request, 429,
				 "%u requests for reservations wait already, which is the limit",
				 count);
	else if (of_user >= MAX_CALLS / 2)
		http_reply_error(request, 429,
				 "%u requests of %s for reservations wait already, which is the "
				 "limit for one user",
				 of_user, peer->user_name);
	else
		return true;
	return false;
}

struct reservation_call *call_new(struct http_request *request, struct daemon *daemon)
{
	struct reservation_call *call;

	if (!has_room(request, daemon))
		return NULL;
	call = calloc(1, sizeof(*call));
	if (!call) {
		http_reply_error(request, 500, "out of memory");
		return NULL;
	}
	call->daemon = daemon;
	call->request = request;
	call->user = http_request_peer(request)->user;
	access_identify(daemon, request, &call->who);
	list_append(&daemon->reservation_calls, &call->link);
	return call;
}

int call_about(struct reservation_call *call, const struct reservation *reservation,
	       struct error *err)
{
	call->dut = strdup(reservation->board->config->id);
	call->id = strdup(reservation->id);
	return call->dut && call->id ? 0 : error_oom(err);
}

/* ---- what is asked ---- */

struct board *call_find_board(struct http_request *request, const struct daemon *daemon,
			      const char *id)
{
	struct board *board = daemon_find_board(daemon, id);
	char escaped[128];

	if (!board)
		http_reply_error(request, 404, "there is no DUT '%s'",
				 text_escape(escaped, sizeof(escaped), id, strlen(id)));
	return board;
}

int call_read_seconds(uint64_t *ret_us, const json_t *body, const char *key, uint64_t max_us,
		      const char *limit, struct error *err)
{
	const json_t *value = json_object_get(body, key);
	double seconds = json_number_value(value);
	char text[64];

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_number(value) || !isfinite(seconds) || seconds < 0)
		return error_set(err, -EINVAL, "%s: a number of seconds is needed", key);
	if (seconds > (double)max_us / USEC_PER_SEC)
		return error_set(err, -EINVAL, "%s: more than %s (%s)", key, limit,
				 text_format_duration(text, sizeof(text), max_us));
	*ret_us = (uint64_t)(seconds * USEC_PER_SEC);
	return 1;
}

int call_read_text(const char **ret, const json_t *body, const char *key, size_t max,
		   struct error *err)
{
	const json_t *value = json_object_get(body, key);

	if (!value || json_is_null(value))
		return 0;
	if (!metadata_is_text(value, max) || json_string_length(value) == 0)
		return error_set(err, -EINVAL,
				 "%s: a printable text of at most %zu bytes is needed", key, max);
	*ret = json_string_value(value);
	return 0;
}

static int check_keys(const json_t *body, const char *const *known, struct error *err)
{
	const char *key;
	const json_t *value;

	json_object_foreach((json_t *)(uintptr_t)body, key, value) {
		char shown[64];

		if (!api_is_one_of(key, known))
			return error_set(err, -EINVAL, "unknown key '%s'",
					 text_escape(shown, sizeof(shown), key, strlen(key)));
	}
	return 0;
}

json_t *call_read_body(struct http_request *request, const char *const *known)
{
	json_t *body;
	struct error err;
	size_t length;
	const char *text = http_request_body(request, &length);

	body = text && length > 0 ? json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL)
				  : json_object();
	if (!json_is_object(body))
		http_reply_error(request, 400, "the body must be a JSON object");
	else if (check_keys(body, known, &err) < 0)
		http_reply_error(request, 400, "%s", err.text);
	else
		return body;
	json_decref(body);
	return NULL;
}

/* ---- the answer ---- */

struct reservation *call_find_reservation(const struct reservation_call *call)
{
	const struct board *board = call->dut ? daemon_find_board(call->daemon, call->dut) : NULL;

	return board && board->reservation && strcmp(board->reservation->id, call->id) == 0
		       ? board->reservation
		       : NULL;
}

void call_refuse(struct reservation_call *call, int r, const char *text)
{
	if (call->request)
		http_reply_error(call->request, api_status(r), "%s", text);
	call_free(call);
}

void call_refuse_unwritten(struct reservation_call *call, int r, const struct error *err)
{
	struct error text = *err;

	(void)error_prefix(&text, r, "%s: the reservation is not on disk",
			   call->dut ? call->dut : "");
	call_refuse(call, r, text.text);
}

static void on_gone(void *data)
{
	struct reservation_call *call = data;
	struct daemon *daemon = call->daemon;

	call->request = NULL;
	if (!queue_waits(&call->claim))
		return; /* what is on its way to the disk goes on */
	call_free(call);
	dispatch_later(daemon);
}

void call_await(struct reservation_call *call)
{
	http_request_on_gone(call->request, on_gone, call);
}

void call_on_changed(int r, const struct error *err, void *data)
{
	struct reservation_call *call = data;
	const struct reservation *reservation = call_find_reservation(call);

	if (r < 0)
		call_refuse_unwritten(call, r, err);
	else if (!call->request)
		call_free(call);
	else {
		http_reply_json(
			call->request, 200,
			reservation ? reservation_to_json(reservation)
				    : json_pack("{s:s, s:s}", "id", call->id, "dut", call->dut));
		call_free(call);
	}
}

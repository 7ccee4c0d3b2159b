/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "dut/access.h"
#include "dut/api.h"
#include "dut/audit.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/metadata.h"
#include "dut/reservation-hold.h"
#include "dut/reservation.h"

/* Taking, extending and ending reservations over HTTP. Each answer waits until what it tells of is
 * on disk. */

static const uint64_t USEC_PER_SEC = 1000000;
static const uint64_t DEFAULT_SPAN_US = UINT64_C(2) * 3600 * 1000000;

enum { MAX_CALLS = 1000 };

/* A request that waits. */
struct call {
	struct list link; /* daemon.reservation_calls */
	struct daemon *daemon;
	struct http_request *request; /* NULL: the client has left */
	struct access_identity who;
	json_t *body;
	struct reservation_request wanted; /* its texts lie in who and body */
	char *dut, *id;			   /* of the reservation that it is about */
};

static void call_free(struct call *call)
{
	list_remove(&call->link);
	json_decref(call->body);
	free(call->dut);
	free(call->id);
	free(call);
}

CLEANUP_DEFINE(struct call *, call_free)

void api_reservations_drop(struct daemon *daemon)
{
	while (!list_empty(&daemon->reservation_calls))
		call_free(CONTAINER_OF(daemon->reservation_calls.next, struct call, link));
}

/* The board that the path names; when there is none the request is answered. */
static struct board *find_board(struct http_request *request, const struct daemon *daemon,
				const char *id)
{
	struct board *board = daemon_find_board(daemon, id);
	char escaped[128];

	if (!board)
		http_reply_error(request, 404, "there is no DUT '%s'",
				 text_escape(escaped, sizeof(escaped), id, strlen(id)));
	return board;
}

/* ---- what is asked ---- */

static int read_seconds(uint64_t *ret_us, const json_t *body, const char *key, uint64_t max_us,
			const char *limit, struct error *err)
{
	const json_t *value = json_object_get(body, key);
	double seconds = json_number_value(value);
	char text[64];

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_number(value) || !isfinite(seconds) || seconds < 0)
		return error_set(err, -EINVAL, "%s: a number of seconds is needed", key);
	if (seconds > (double)max_us / (double)USEC_PER_SEC)
		return error_set(err, -EINVAL, "%s: more than %s (%s)", key, limit,
				 text_format_duration(text, sizeof(text), max_us));
	*ret_us = (uint64_t)(seconds * (double)USEC_PER_SEC);
	return 1;
}

static int read_text(const char **ret, const json_t *body, const char *key, size_t max,
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

/* The object of a body, which may be empty; NULL when the request is answered. */
static json_t *read_body(struct http_request *request, const char *const *known)
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

static int read_wanted(struct call *call, struct error *err)
{
	uint64_t max_us = call->daemon->config->limits.reservation_us;
	struct reservation_request *wanted = &call->wanted;
	const json_t *bound = json_object_get(call->body, "bound");
	const char *owner = NULL;
	int r;

	*wanted = (struct reservation_request){
		.owner = call->who.name,
		.owner_uid = call->who.uid,
		.bound = json_is_true(bound),
	};
	/* A command may run long. */
	wanted->span_us = wanted->bound || max_us < DEFAULT_SPAN_US ? max_us : DEFAULT_SPAN_US;
	if (bound && !json_is_boolean(bound))
		return error_set(err, -EINVAL, "bound: true or false is needed");
	r = read_seconds(&wanted->span_us, call->body, "seconds", max_us, "limits.reservation",
			 err);
	if (r >= 0 && wanted->span_us == 0)
		r = error_set(err, -EINVAL, "seconds: more than 0 is needed");
	if (r >= 0)
		r = read_text(&wanted->why, call->body, "why", RESERVATION_MAX_WHY, err);
	if (r >= 0)
		r = read_text(&wanted->id, call->body, "id", RESERVATION_ID_MAX, err);
	if (r >= 0)
		r = read_text(&owner, call->body, "owner", ACCESS_NAME_SIZE - 1, err);
	if (r >= 0 && owner && strcmp(owner, wanted->owner) != 0) {
		wanted->owner = owner;
		wanted->owner_uid = (uid_t)-1;
	}
	return r;
}

static bool is_for_himself(const struct call *call)
{
	return call->wanted.owner == call->who.name;
}

/* ---- the answer, when it is on disk ---- */

static struct reservation *find_reservation(const struct call *call)
{
	const struct board *board = call->dut ? daemon_find_board(call->daemon, call->dut) : NULL;

	return board && board->reservation && strcmp(board->reservation->id, call->id) == 0
		       ? board->reservation
		       : NULL;
}

static void refuse(struct call *call, int r, const char *text)
{
	if (call->request)
		http_reply_error(call->request, api_status(r), "%s", text);
	call_free(call);
}

static void refuse_unwritten(struct call *call, int r, const struct error *err)
{
	struct error text = *err;

	(void)error_prefix(&text, r, "%s: the reservation is not on disk",
			   call->dut ? call->dut : "");
	refuse(call, r, text.text);
}

static void on_gone(void *data)
{
	struct call *call = data;

	call->request = NULL;
}

static void on_taken(int r, const struct error *err, void *data)
{
	struct call *call = data;
	struct reservation *reservation = find_reservation(call);
	struct error ignored;

	if (r < 0) {
		refuse_unwritten(call, r, err);
		return;
	}
	if (reservation && reservation->stage == RESERVATION_HELD && !call->request)
		(void)reservation_end(reservation, "is over: its client left before it was told",
				      NULL, NULL, NULL, NULL, &ignored);
	if (!call->request) {
		call_free(call);
		return;
	}
	if (!reservation || reservation->stage != RESERVATION_HELD) {
		refuse(call, -EBUSY, "the reservation is over already");
		return;
	}
	audit_note(call->daemon, &call->who, call->dut, 0, "reserve", "%s%s%s", reservation->owner,
		   reservation->why ? ": " : "", reservation->why ? reservation->why : "");
	http_reply_json(call->request, 201, reservation_to_json(reservation));
	call_free(call);
}

/* Of an extension, a kick, a release; the reservation may be gone by now. */
static void on_changed(int r, const struct error *err, void *data)
{
	struct call *call = data;
	const struct reservation *reservation = find_reservation(call);

	if (r < 0)
		refuse_unwritten(call, r, err);
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

/* Notes what the call is about. */
static int call_about(struct call *call, const struct reservation *reservation, struct error *err)
{
	call->dut = strdup(reservation->board->config->id);
	call->id = strdup(reservation->id);
	return call->dut && call->id ? 0 : error_oom(err);
}

static struct call *call_new(struct http_request *request, struct daemon *daemon)
{
	struct call *call;
	unsigned count = 0;

	LIST_FOREACH(link, &daemon->reservation_calls)
		count++;
	if (count >= MAX_CALLS) {
		http_reply_error(request, 429, "%u reservations wait already, which is the limit",
				 count);
		return NULL;
	}
	call = calloc(1, sizeof(*call));
	if (!call) {
		http_reply_error(request, 500, "out of memory");
		return NULL;
	}
	call->daemon = daemon;
	call->request = request;
	access_identify(daemon, request, &call->who);
	list_append(&daemon->reservation_calls, &call->link);
	return call;
}

/* ---- taking ---- */

static void take(struct call *call, struct board *board)
{
	struct error err;
	int r;

	call->dut = strdup(board->config->id);
	call->id = call->wanted.id ? strdup(call->wanted.id) : reservation_make_id();
	call->wanted.id = call->id;
	if (call->dut && call->id)
		r = reservation_take(board, &call->wanted, on_taken, call, &err);
	else
		r = error_oom(&err);
	if (r < 0)
		refuse_unwritten(call, r, &err);
	else
		http_request_on_gone(call->request, on_gone, call);
}

static void extend(struct call *call, struct reservation *reservation)
{
	uint64_t left = reservation_left_us(reservation);
	uint64_t span = call->wanted.span_us > left ? call->wanted.span_us : left;
	struct error err;
	int r;

	r = call_about(call, reservation, &err);
	if (r >= 0)
		r = reservation_extend(reservation, span, on_changed, call, &err);
	if (r < 0) {
		refuse_unwritten(call, r, &err);
		return;
	}
	audit_note(call->daemon, &call->who, call->dut, 0, "extend", NULL);
	http_request_on_gone(call->request, on_gone, call);
}

/* Who asks again for what he has: an answer that got lost; more time. False: neither. */
static bool is_had(struct call *call, const struct board *board)
{
	struct reservation *reservation = board->reservation;

	if (!reservation || reservation->stage != RESERVATION_HELD || !is_for_himself(call) ||
	    !reservation_is_of(reservation, call->who.name, call->who.uid))
		return false;
	if (call->wanted.id && strcmp(call->wanted.id, reservation->id) == 0) {
		http_reply_json(call->request, 201, reservation_to_json(reservation));
		call_free(call);
		return true;
	}
	/* What is bound to a command is that command's alone: the next one, of the same user, waits
	 * like everybody. */
	if (reservation->bound || reservation->kicked)
		return false;
	/* A command that is run meanwhile has it as long as it is there. */
	if (call->wanted.bound && !json_is_number(json_object_get(call->body, "seconds"))) {
		http_reply_json(call->request, 200, reservation_to_json(reservation));
		call_free(call);
	} else {
		extend(call, reservation);
	}
	return true;
}

static void refuse_busy(struct call *call, const struct board *board, size_t candidates)
{
	char holder[512], text[700];
	json_t *extra = json_pack("{s:s}", "dut", board->config->id);

	board_describe_holder(board, holder, sizeof(holder));
	if (candidates > 1)
		(void)snprintf(text, sizeof(text), "all %zu DUTs that fit are busy; %s %s",
			       candidates, board->config->id, holder);
	else
		(void)snprintf(text, sizeof(text), "%s %s", board->config->id, holder);
	if (extra && board->reservation)
		(void)json_object_set_new(extra, "reservation",
					  reservation_to_json(board->reservation));
	http_reply_error_json(call->request, 409, extra, text);
	call_free(call);
}

static bool has_tag(const struct board *board, const char *wanted)
{
	return api_is_one_of(wanted, (const char *const *)board->config->tags);
}

static bool has_tags(const struct board *board, const json_t *tags)
{
	const json_t *tag;
	size_t i;

	json_array_foreach(tags, i, tag)
		if (!has_tag(board, json_string_value(tag)))
			return false;
	return true;
}

static bool are_tags(const json_t *tags)
{
	const json_t *tag;
	size_t i;

	json_array_foreach(tags, i, tag)
		if (!json_is_string(tag))
			return false;
	return json_array_size(tags) > 0;
}

/* Reads what all ways to reserve have in common. NULL when the request is answered. */
static struct call *begin(struct http_request *request, struct daemon *daemon,
			  const char *const *known)
{
	cleanup_(call_freep) struct call *call = NULL;
	struct error err;

	if (daemon->stop_timer) {
		http_reply_error(request, 503, "dutd is stopping; try again when it is back");
		return NULL;
	}
	call = call_new(request, daemon);
	if (!call)
		return NULL;
	call->body = read_body(request, known);
	if (!call->body)
		return NULL;
	if (read_wanted(call, &err) < 0) {
		http_reply_error(request, 400, "%s", err.text);
		return NULL;
	}
	if (!is_for_himself(call) && !access_need(request, &call->who, ACCESS_ADMIN,
						  "to reserve for %s", call->wanted.owner))
		return NULL;
	return take_ptr(call);
}

static void reserve_board(struct call *call, struct board *board)
{
	if (is_had(call, board))
		return;
	if (board_is_free(board))
		take(call, board);
	else
		refuse_busy(call, board, 1);
}

void api_reservation_post(struct http_request *request, void *data)
{
	static const char *const known[] = {
		"owner", "why", "seconds", "bound", "id", "wait", NULL
	};
	struct board *board = find_board(request, data, http_request_argument(request, "id"));
	struct call *call = board ? begin(request, data, known) : NULL;

	if (call)
		reserve_board(call, board);
}

/* The first free one that has all tags. */
static void reserve_by_tags(struct call *call, const json_t *tags)
{
	struct board *first = NULL, *found = NULL;
	size_t candidates = 0;

	LIST_FOREACH(link, &call->daemon->boards) {
		struct board *board = CONTAINER_OF(link, struct board, link);

		if (!has_tags(board, tags))
			continue;
		candidates++;
		if (!first)
			first = board;
		if (!found && board_is_free(board))
			found = board;
	}
	if (found) {
		take(call, found);
	} else if (first) {
		refuse_busy(call, first, candidates);
	} else {
		http_reply_error(call->request, 406, "no DUT has all these tags");
		call_free(call);
	}
}

void api_reservations_post(struct http_request *request, void *data)
{
	static const char *const known[] = { "owner", "why",  "seconds", "bound",
					     "id",    "wait", "target",	 NULL };
	struct call *call = begin(request, data, known);
	const json_t *target, *id, *tags;
	struct board *board;

	if (!call)
		return;
	target = json_object_get(call->body, "target");
	id = json_object_get(target, "id");
	tags = json_object_get(target, "tags");
	if (json_is_string(id) && !tags) {
		board = find_board(request, data, json_string_value(id));
		if (board)
			reserve_board(call, board);
		else
			call_free(call);
	} else if (!id && are_tags(tags)) {
		reserve_by_tags(call, tags);
	} else {
		http_reply_error(request, 400,
				 "target: {\"id\": DUT} or {\"tags\": [TAG, ...]} is needed");
		call_free(call);
	}
}

/* ---- what is there ---- */

/* The reservation that the path names, and ?id= if it is there. NULL when the request is answered.
 */
static struct reservation *find_held(struct http_request *request, const struct daemon *daemon)
{
	const struct board *board =
		find_board(request, daemon, http_request_argument(request, "id"));
	const char *id = http_request_query(request, "id");
	struct reservation *reservation = board ? board->reservation : NULL;

	if (!board)
		return NULL;
	if (!reservation || reservation->stage != RESERVATION_HELD) {
		http_reply_error(request, 404, "%s is not reserved", board->config->id);
		return NULL;
	}
	if (id && strcmp(id, reservation->id) != 0) {
		http_reply_error(request, 404,
				 "that reservation of %s is over; it is reserved by %s",
				 board->config->id, reservation->owner);
		return NULL;
	}
	return reservation;
}

void api_reservation_get(struct http_request *request, void *data)
{
	struct reservation *reservation = find_held(request, data);
	const char *hold = http_request_query(request, "hold");
	struct access_identity who;
	struct error err;
	int r;

	if (!reservation)
		return;
	if (!hold || strcmp(hold, "0") == 0) {
		http_reply_json(request, 200, reservation_to_json(reservation));
		return;
	}
	access_identify(data, request, &who);
	/* Somebody else must not keep it alive. */
	if (!reservation_is_of(reservation, who.name, who.uid) &&
	    !access_need(request, &who, ACCESS_ADMIN, "%s is reserved by %s: to hold it",
			 reservation->board->config->id, reservation->owner))
		return;
	r = reservation_hold(reservation, request, strcmp(hold, reservation->id) == 0, &err);
	if (r < 0)
		http_reply_error(request, api_status(r), "%s", err.text);
}

/* ---- more time, less time, no time ---- */

/* A call about a reservation of which the caller is the holder, or an admin. NULL when the request
 * is answered. */
static struct call *begin_change(struct http_request *request, struct daemon *daemon,
				 const struct reservation *reservation, const char *const *known,
				 const char *what)
{
	cleanup_(call_freep) struct call *call = call_new(request, daemon);
	struct error err;

	if (!call)
		return NULL;
	if (!reservation_is_of(reservation, call->who.name, call->who.uid) &&
	    !access_need(request, &call->who, ACCESS_ADMIN, "%s is reserved by %s: to %s it",
			 reservation->board->config->id, reservation->owner, what))
		return NULL;
	call->body = read_body(request, known);
	if (!call->body)
		return NULL;
	if (call_about(call, reservation, &err) < 0) {
		http_reply_error(request, 500, "%s", err.text);
		return NULL;
	}
	return take_ptr(call);
}

/* The change has been made, and may be on its way to the disk. */
static void await(struct call *call, int r, const struct error *err)
{
	if (r < 0)
		refuse_unwritten(call, r, err);
	else
		http_request_on_gone(call->request, on_gone, call);
}

static void refuse_call(struct call *call, const struct error *err)
{
	http_reply_error(call->request, 400, "%s", err->text);
	call_free(call);
}

void api_reservation_patch(struct http_request *request, void *data)
{
	static const char *const known[] = { "seconds", NULL };
	struct daemon *daemon = data;
	struct reservation *reservation = find_held(request, daemon);
	struct call *call =
		reservation ? begin_change(request, daemon, reservation, known, "extend") : NULL;
	uint64_t span_us = 0;
	struct error err;
	int r;

	if (!call)
		return;
	r = read_seconds(&span_us, call->body, "seconds", daemon->config->limits.reservation_us,
			 "limits.reservation", &err);
	if (r >= 0 && span_us == 0)
		r = error_set(&err, -EINVAL, "seconds: more than 0 is needed");
	if (r < 0) {
		refuse_call(call, &err);
		return;
	}
	if (reservation->kicked) {
		http_reply_error(request, 409, "%s: the reservation is being ended by %s%s%s",
				 call->dut,
				 reservation->kick_by ? reservation->kick_by : "an admin",
				 reservation->kick_why ? ": " : "",
				 reservation->kick_why ? reservation->kick_why : "");
		call_free(call);
		return;
	}
	r = reservation_extend(reservation, span_us, on_changed, call, &err);
	audit_note(daemon, &call->who, call->dut, 0, "extend", NULL);
	await(call, r, &err);
}

static void release(struct call *call, struct reservation *reservation, const char *why)
{
	struct error err;
	int r;

	/* Out of habit an admin would end what is somebody else's. */
	if (!reservation_is_of(reservation, call->who.name, call->who.uid)) {
		http_reply_error(call->request, 409,
				 "%s is reserved by %s, and not by you; 'dut kick' ends it",
				 call->dut, reservation->owner);
		call_free(call);
		return;
	}
	r = reservation_end(reservation, "is released", NULL, why, on_changed, call, &err);
	audit_note(call->daemon, &call->who, call->dut, 0, "release", why ? "%s" : NULL, why);
	await(call, r, &err);
}

/* With "notice" it is a kick. */
void api_reservation_delete(struct http_request *request, void *data)
{
	static const char *const known[] = { "why", "notice", NULL };
	struct daemon *daemon = data;
	struct reservation *reservation = find_held(request, daemon);
	struct call *call =
		reservation ? begin_change(request, daemon, reservation, known, "end") : NULL;
	const char *why = NULL;
	uint64_t notice_us = 0;
	struct error err;
	int r;

	if (!call)
		return;
	r = read_text(&why, call->body, "why", RESERVATION_MAX_WHY, &err);
	if (r >= 0)
		r = read_seconds(&notice_us, call->body, "notice",
				 daemon->config->limits.reservation_us, "limits.reservation", &err);
	if (r < 0) {
		refuse_call(call, &err);
		return;
	}
	if (r == 0) {
		release(call, reservation, why);
		return;
	}
	r = reservation_kick(reservation, notice_us, call->who.name, why, on_changed, call, &err);
	audit_note(daemon, &call->who, call->dut, 0, "kick", why ? "%s" : NULL, why);
	await(call, r, &err);
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "dut/api.h"
#include "dut/audit.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/flags.h"
#include "dut/metadata.h"
#include "dut/reservation-call.h"

/* Who wants a DUT for himself: he gets it, waits for it in the queue, or is told who has it. */

static const uint64_t DEFAULT_SPAN_US = UINT64_C(2) * 3600 * 1000000;

/* How long one waits for a board that is just being switched off, though he did not want to wait.
 */
static const uint64_t SETTLE_LIMIT_US = UINT64_C(20) * 1000000;

/* ---- what is asked ---- */

static int read_wanted(struct reservation_call *call, struct error *err)
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
	r = call_read_seconds(&wanted->span_us, call->body, "seconds", max_us, "limits.reservation",
			      err);
	if (r >= 0 && wanted->span_us == 0)
		r = error_set(err, -EINVAL, "seconds: more than 0 is needed");
	if (r >= 0)
		r = call_read_text(&wanted->why, call->body, "why", RESERVATION_MAX_WHY, err);
	if (r >= 0)
		r = call_read_text(&wanted->id, call->body, "id", RESERVATION_ID_MAX, err);
	if (r >= 0)
		r = call_read_text(&owner, call->body, "owner", ACCESS_NAME_SIZE - 1, err);
	if (r >= 0)
		r = metadata_read_wait(&call->wait_us, json_object_get(call->body, "wait"), err);
	if (r >= 0 && owner && strcmp(owner, wanted->owner) != 0) {
		wanted->owner = owner;
		wanted->owner_uid = (uid_t)-1;
	}
	return r;
}

static bool is_for_himself(const struct reservation_call *call)
{
	return call->wanted.owner == call->who.name;
}

/* ---- the answer, when it is on disk ---- */

static void on_taken(int r, const struct error *err, void *data)
{
	struct reservation_call *call = data;
	struct reservation *reservation = call_find_reservation(call);
	struct error ignored;

	if (r < 0) {
		call_refuse_unwritten(call, r, err);
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
		call_refuse(call, -EBUSY, "the reservation is over already");
		return;
	}
	audit_note(call->daemon, &call->who, call->dut, 0, "reserve", "%s%s%s", reservation->owner,
		   reservation->why ? ": " : "", reservation->why ? reservation->why : "");
	http_reply_json(call->request, 201, reservation_to_json(reservation));
	call_free(call);
}

/* ---- taking ---- */

static int take(struct reservation_call *call, struct board *board)
{
	struct error err;
	int r;

	queue_remove(&call->claim);
	call->dut = strdup(board->config->id);
	call->id = call->wanted.id ? strdup(call->wanted.id) : reservation_make_id();
	call->wanted.id = call->id;
	if (call->dut && call->id)
		r = reservation_take(board, &call->wanted, on_taken, call, &err);
	else
		r = error_oom(&err);
	if (r < 0)
		call_refuse_unwritten(call, r, &err);
	return r;
}

static void extend(struct reservation_call *call, struct reservation *reservation)
{
	uint64_t left = reservation_left_us(reservation);
	uint64_t span = call->wanted.span_us > left ? call->wanted.span_us : left;
	struct error err;
	int r;

	r = call_about(call, reservation, &err);
	if (r >= 0)
		r = reservation_extend(reservation, span, call_on_changed, call, &err);
	if (r < 0) {
		call_refuse_unwritten(call, r, &err);
		return;
	}
	audit_note(call->daemon, &call->who, call->dut, 0, "extend", NULL);
	call_await(call);
}

static bool is_his(const struct reservation_call *call, const struct reservation *reservation)
{
	return reservation && reservation->stage == RESERVATION_HELD && is_for_himself(call) &&
	       reservation_is_of(reservation, call->who.name, call->who.uid);
}

/* Who asks again, because the answer got lost. */
static bool is_repeat(struct reservation_call *call)
{
	LIST_FOREACH(link, &call->daemon->boards) {
		const struct reservation *reservation =
			CONTAINER_OF(link, struct board, link)->reservation;

		if (!call->wanted.id || !reservation || reservation->stage != RESERVATION_HELD ||
		    strcmp(call->wanted.id, reservation->id) != 0 ||
		    !reservation_is_of(reservation, call->wanted.owner, call->wanted.owner_uid))
			continue;
		http_reply_json(call->request, 201, reservation_to_json(reservation));
		call_free(call);
		return true;
	}
	return false;
}

/* Who has it, and wants more time, or to run a command meanwhile. */
static bool is_more(struct reservation_call *call, const struct board *board)
{
	struct reservation *reservation = board->reservation;

	/* What is bound to a command is that command's alone: the next one, of the same user, waits
	 * like everybody. */
	if (!is_his(call, reservation) || reservation->bound || reservation->kicked)
		return false;
	/* A command has it as long as it is there. */
	if (call->wanted.bound && !json_is_number(json_object_get(call->body, "seconds"))) {
		http_reply_json(call->request, 200, reservation_to_json(reservation));
		call_free(call);
	} else {
		extend(call, reservation);
	}
	return true;
}

/* ---- waiting ---- */

/* The claim is in the queue, so that its place is known. */
static void refuse_busy(struct reservation_call *call)
{
	const struct daemon *daemon = call->daemon;
	const struct board *board = dispatch_awaited(daemon, &call->claim);
	char text[DISPATCH_REFUSAL_SIZE];
	json_t *extra = json_pack(
		"{s:o, s:b}", "reservation",
		board && board->reservation ? reservation_to_json(board->reservation) : json_null(),
		"waited", call->wait_us > 0);

	dispatch_refuse(daemon, &call->claim, text, extra);
	http_reply_error_json(call->request, 409, extra, text);
	call_free(call);
}

static int give(struct claim *claim, struct board *board)
{
	struct reservation_call *call = CONTAINER_OF(claim, struct reservation_call, claim);
	int r = take(call, board);

	return r < 0 ? r : 1;
}

static void over(struct claim *claim, enum claim_end end)
{
	(void)end;
	refuse_busy(CONTAINER_OF(claim, struct reservation_call, claim));
}

static bool is_settling(const struct reservation_call *call)
{
	size_t count;
	const char *const *names = queue_duts(&call->claim, &count);

	for (size_t i = 0; i < count; i++) {
		const struct board *board = daemon_find_board(call->daemon, names[i]);

		if (board && (board_is_settling(board) ||
			      (board_is_being_renewed(board) && !board->renewal.leaving)))
			return true;
	}
	return false;
}

void api_reservations_retry(struct daemon *daemon)
{
	LIST_FOREACH_SAFE(link, after, &daemon->reservation_calls) {
		struct reservation_call *call = CONTAINER_OF(link, struct reservation_call, link);

		if (queue_waits(&call->claim) && call->wait_us == 0 && !is_settling(call))
			refuse_busy(call);
	}
}

static uint64_t find_limit(const struct reservation_call *call, uint64_t now_us)
{
	if (call->wait_us == UINT64_MAX)
		return UINT64_MAX;
	return now_us + (call->wait_us > 0 ? call->wait_us : SETTLE_LIMIT_US);
}

/* One of these DUTs, as soon as it may be. */
static void reserve_one_of(struct reservation_call *call, const char *const *duts, size_t n_duts)
{
	struct daemon *daemon = call->daemon;
	uint64_t now_us = clock_now_us();
	struct board *board;
	struct error err;
	int r;

	call->claim = (struct claim){
		.kind = CLAIM_RESERVATION,
		.owner = call->wanted.owner,
		.owner_uid = call->wanted.owner_uid,
		.queued_us = (int64_t)now_us,
		.limit_us = find_limit(call, now_us),
		.deadline_realtime_us = UINT64_MAX,
		.give = give,
		.over = over,
	};
	r = queue_add(daemon->queue, &call->claim, duts, n_duts, &err);
	if (r < 0) {
		call_refuse(call, r, err.text);
		return;
	}
	board = dispatch_find_board(daemon, &call->claim);
	if (board) {
		if (take(call, board) >= 0)
			call_await(call);
	} else if (call->wait_us > 0 || is_settling(call)) {
		call_await(call);
		dispatch_later(daemon);
	} else {
		refuse_busy(call);
	}
}

/* ---- the routes ---- */

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
static struct reservation_call *begin(struct http_request *request, struct daemon *daemon,
				      const char *const *known)
{
	cleanup_(call_freep) struct reservation_call *call = NULL;
	struct reservation_call *ready;
	struct error err;

	if (daemon->stop_timer) {
		http_reply_error(request, 503, "dutd is stopping; try again when it is back");
		return NULL;
	}
	call = call_new(request, daemon);
	if (!call)
		return NULL;
	call->body = call_read_body(request, known);
	if (!call->body)
		return NULL;
	if (read_wanted(call, &err) < 0) {
		http_reply_error(request, 400, "%s", err.text);
		return NULL;
	}
	if (!is_for_himself(call) && !access_need(request, &call->who, ACCESS_ADMIN,
						  "to reserve for %s", call->wanted.owner))
		return NULL;
	ready = take_ptr(call);
	return is_repeat(ready) ? NULL : ready;
}

static void reserve_board(struct reservation_call *call, const struct board *board)
{
	const char *const duts[] = { board->config->id };

	if (!is_more(call, board))
		reserve_one_of(call, duts, 1);
}

void api_reservation_post(struct http_request *request, void *data)
{
	static const char *const known[] = {
		"owner", "why", "seconds", "bound", "id", "wait", NULL
	};
	const struct board *board =
		call_find_board(request, data, http_request_argument(request, "id"));
	struct reservation_call *call = board ? begin(request, data, known) : NULL;

	if (call)
		reserve_board(call, board);
}

static bool has_tags(const struct board *board, const json_t *wanted)
{
	json_auto_t *tags = flags_tags(&board->flags, board->config->tags);
	const json_t *tag, *other;
	size_t i, j;

	json_array_foreach(wanted, i, tag) {
		bool found = false;

		json_array_foreach(tags, j, other)
			found = found || json_equal(tag, other);
		if (!found)
			return false;
	}
	return true;
}

static void reserve_by_tags(struct reservation_call *call, const json_t *tags)
{
	free_ const char **duts = NULL;
	size_t count = 0;

	LIST_FOREACH(link, &call->daemon->boards)
		count++;
	duts = calloc(count + 1, sizeof(*duts));
	if (!duts) {
		call_refuse(call, -ENOMEM, "out of memory");
		return;
	}
	count = 0;
	LIST_FOREACH(link, &call->daemon->boards) {
		const struct board *board = CONTAINER_OF(link, struct board, link);

		if (has_tags(board, tags))
			duts[count++] = board->config->id;
	}
	if (count > 0) {
		reserve_one_of(call, duts, count);
	} else {
		http_reply_error(call->request, 406, "no DUT has all these tags");
		call_free(call);
	}
}

void api_reservations_post(struct http_request *request, void *data)
{
	static const char *const known[] = { "owner", "why",  "seconds", "bound",
					     "id",    "wait", "target",	 NULL };
	struct reservation_call *call = begin(request, data, known);
	const json_t *target, *id, *tags;
	const struct board *board;

	if (!call)
		return;
	target = json_object_get(call->body, "target");
	id = json_object_get(target, "id");
	tags = json_object_get(target, "tags");
	if (json_is_string(id) && !tags) {
		board = call_find_board(request, data, json_string_value(id));
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

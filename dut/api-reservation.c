/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "dut/api.h"
#include "dut/audit.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/reservation-call.h"
#include "dut/reservation-hold.h"

/* Who has reserved a DUT: to look, to hold, to extend and to end it. Each answer waits until what
 * it tells of is on disk. */

/* ---- what is there ---- */

/* The reservation that the path names, and ?id= if it is there. NULL when the request is answered.
 */
static struct reservation *find_held(struct http_request *request, const struct daemon *daemon)
{
	const struct board *board =
		call_find_board(request, daemon, http_request_argument(request, "id"));
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
static struct reservation_call *begin_change(struct http_request *request, struct daemon *daemon,
					     const struct reservation *reservation,
					     const char *const *known, const char *what)
{
	cleanup_(call_freep) struct reservation_call *call = call_new(request, daemon);
	struct error err;

	if (!call)
		return NULL;
	if (!reservation_is_of(reservation, call->who.name, call->who.uid) &&
	    !access_need(request, &call->who, ACCESS_ADMIN, "%s is reserved by %s: to %s it",
			 reservation->board->config->id, reservation->owner, what))
		return NULL;
	call->body = call_read_body(request, known);
	if (!call->body)
		return NULL;
	if (call_about(call, reservation, &err) < 0) {
		http_reply_error(request, 500, "%s", err.text);
		return NULL;
	}
	return take_ptr(call);
}

/* The change has been made, and may be on its way to the disk. */
static void await(struct reservation_call *call, int r, const struct error *err)
{
	if (r < 0)
		call_refuse_unwritten(call, r, err);
	else
		call_await(call);
}

static void refuse_call(struct reservation_call *call, const struct error *err)
{
	http_reply_error(call->request, 400, "%s", err->text);
	call_free(call);
}

void api_reservation_patch(struct http_request *request, void *data)
{
	static const char *const known[] = { "seconds", NULL };
	struct daemon *daemon = data;
	struct reservation *reservation = find_held(request, daemon);
	struct reservation_call *call =
		reservation ? begin_change(request, daemon, reservation, known, "extend") : NULL;
	uint64_t span_us = 0;
	struct error err;
	int r;

	if (!call)
		return;
	r = call_read_seconds(&span_us, call->body, "seconds",
			      daemon->config->limits.reservation_us, "limits.reservation", &err);
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
	r = reservation_extend(reservation, span_us, call_on_changed, call, &err);
	audit_note(daemon, &call->who, call->dut, 0, "extend", NULL);
	await(call, r, &err);
}

static void release(struct reservation_call *call, struct reservation *reservation, const char *why)
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
	r = reservation_end(reservation, "is released", NULL, why, call_on_changed, call, &err);
	audit_note(call->daemon, &call->who, call->dut, 0, "release", why ? "%s" : NULL, why);
	await(call, r, &err);
}

/* With "notice" it is a kick. */
void api_reservation_delete(struct http_request *request, void *data)
{
	static const char *const known[] = { "why", "notice", NULL };
	struct daemon *daemon = data;
	struct reservation *reservation = find_held(request, daemon);
	struct reservation_call *call =
		reservation ? begin_change(request, daemon, reservation, known, "end") : NULL;
	const char *why = NULL;
	uint64_t notice_us = 0;
	struct error err;
	int r;

	if (!call)
		return;
	r = call_read_text(&why, call->body, "why", RESERVATION_MAX_WHY, &err);
	if (r >= 0)
		r = call_read_seconds(&notice_us, call->body, "notice",
				      daemon->config->limits.reservation_us, "limits.reservation",
				      &err);
	if (r < 0) {
		refuse_call(call, &err);
		return;
	}
	if (r == 0) {
		release(call, reservation, why);
		return;
	}
	r = reservation_kick(reservation, notice_us, call->who.name, why, call_on_changed, call,
			     &err);
	audit_note(daemon, &call->who, call->dut, 0, "kick", why ? "%s" : NULL, why);
	await(call, r, &err);
}

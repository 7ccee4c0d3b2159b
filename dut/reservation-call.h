/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/http.h"
#include "base/list.h"
#include "dut/access.h"
#include "dut/queue.h"
#include "dut/reservation.h"

/* A request about a reservation, until it is answered: what api-reserve.c (who wants one) and
 * api-reservation.c (who has one) share. */

struct board;
struct daemon;

struct reservation_call {
	struct list link; /* daemon.reservation_calls */
	struct daemon *daemon;
	struct http_request *request; /* NULL: the client has left */
	uint64_t user;		      /* http_peer.user */
	struct access_identity who;
	json_t *body;
	struct reservation_request wanted; /* its texts lie in who and body */
	struct claim claim;		   /* while it waits for a board */
	uint64_t wait_us;		   /* UINT64_MAX: for ever */
	char *dut, *id;			   /* of the reservation that it is about */
};

/* NULL when the request is answered. */
struct reservation_call *call_new(struct http_request *request, struct daemon *daemon);
void call_free(struct reservation_call *call);
CLEANUP_DEFINE(struct reservation_call *, call_free)

/* Notes what the call is about. */
int call_about(struct reservation_call *call, const struct reservation *reservation,
	       struct error *err);

/* What it is about, if that is still there. */
struct reservation *call_find_reservation(const struct reservation_call *call);

/* The board of that name; when there is none the request is answered. */
struct board *call_find_board(struct http_request *request, const struct daemon *daemon,
			      const char *id);

/* The object of a body, which may be empty; NULL when the request is answered. known ends with
 * NULL. */
json_t *call_read_body(struct http_request *request, const char *const *known);

/* 1: it is there; 0: it is not, and *ret is as it was; -EINVAL. limit is the name of max_us. */
int call_read_seconds(uint64_t *ret_us, const json_t *body, const char *key, uint64_t max_us,
		      const char *limit, struct error *err);
int call_read_text(const char **ret, const json_t *body, const char *key, size_t max,
		   struct error *err);

/* The answer comes later: when something is on disk, or it is its turn. */
void call_await(struct reservation_call *call);

/* These answer, if anybody is there, and free the call. */
void call_refuse(struct reservation_call *call, int r, const char *text);
void call_refuse_unwritten(struct reservation_call *call, int r, const struct error *err);

/* A reservation_saved_fn, which answers with the reservation as it is now. */
void call_on_changed(int r, const struct error *err, void *data);

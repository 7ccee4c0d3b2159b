/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/http.h"
#include "dut/reservation.h"

enum { MAX_HOLDS = 16 }; /* of one reservation; more get 429 */

/*
 * Answers with a stream of JSON lines that lasts as long as the reservation: "held" at once, then
 * "extended", "kick", at last "ended"; a blank line now and then shows that it lives. With binds it
 * is what a bound reservation lives by (binding.h).
 *
 * Errors: -EAGAIN over the limit; the request is then unanswered.
 */
int reservation_hold(struct reservation *reservation, struct http_request *request, bool binds,
		     struct error *err);

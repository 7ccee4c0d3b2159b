/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"
#include "base/http.h"

struct daemon;
struct job;

enum { RESULTS_MAX_PACKED_AT_ONCE = 8 };

/*
 * Answers with a tar of the job's result files, which a process of its own (dut-fetch) packs while
 * the client reads.
 *
 * Errors: -EAGAIN when so many are being packed; a client that has not read for 10 s loses its
 * place to the next one. The request is unanswered then.
 */
int results_reply(struct daemon *daemon, struct http_request *request, const struct job *job,
		  struct error *err);

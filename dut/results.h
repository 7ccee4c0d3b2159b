/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"
#include "base/http.h"

struct daemon;
struct job;

/*
 * Answers with a tar of the job's result files, which a process of its own (dut-fetch) packs while
 * the client reads.
 *
 * Errors: the request is unanswered then.
 */
int results_reply(struct daemon *daemon, struct http_request *request, const struct job *job,
		  struct error *err);

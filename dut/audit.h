/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

#include "base/attr.h"
#include "base/http.h"
#include "dut/access.h"

/*
 * Who did what when: each change that somebody has asked for leaves a row, after it happened or
 * when it is certain to happen. It is written behind what it tells of, and never holds anything up.
 */

struct daemon;

/*
 * Notes a change. dut: NULL when it is about none; job: 0 likewise. action is a word: "submit",
 * "cancel", "power on", "retire", "reserve", "reload". format (or NULL) tells more.
 */
void audit_note(struct daemon *daemon, const struct access_identity *who, const char *dut,
		uint64_t job, const char *action, const char *format, ...) printf_(6, 7);

/* The same, of whoever asks. */
void audit_request(struct daemon *daemon, const struct http_request *request, const char *dut,
		   uint64_t job, const char *action, const char *format, ...) printf_(6, 7);

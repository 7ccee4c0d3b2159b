/* SPDX-License-Identifier: MIT */
#include "dut/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "dut/api.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/records.h"

enum { MAX_DETAIL = 512 /* bytes */ };

/* ---- noting ---- */

static void on_noted(int r, const struct error *err, void *data)
{
	(void)data;
	if (r < 0)
		log_msg(LOG_WARNING, "a line of the history is lost: %s", err->text);
}

static void note(struct daemon *daemon, const struct access_identity *who, const char *dut,
		 uint64_t job, const char *action, const char *format, va_list arguments)
	printf_(6, 0);

static void note(struct daemon *daemon, const struct access_identity *who, const char *dut,
		 uint64_t job, const char *action, const char *format, va_list arguments)
{
	char detail[MAX_DETAIL] = "";
	const struct records_audit audit = {
		.who = who->name,
		.role = access_role_name(who->role),
		.from = who->from,
		.dut = dut,
		.job = job,
		.action = action,
		.detail = format ? detail : NULL,
	};
	struct error err;
	int r;

	if (format)
		(void)vsnprintf(detail, sizeof(detail), format, arguments);
	detail[text_whole_utf8(detail, strlen(detail))] = '\0';
	if (job)
		log_job(dut, job, LOG_INFO, "%s by %s (%s)%s%s", action, who->name, who->from,
			*detail ? ": " : "", detail);
	else if (dut)
		log_board(dut, LOG_INFO, "%s by %s (%s)%s%s", action, who->name, who->from,
			  *detail ? ": " : "", detail);
	else
		log_msg(LOG_INFO, "%s by %s (%s)%s%s", action, who->name, who->from,
			*detail ? ": " : "", detail);
	r = records_audit_add(daemon->records, &audit, on_noted, NULL, &err);
	if (r < 0)
		on_noted(r, &err, NULL);
}

void audit_note(struct daemon *daemon, const struct access_identity *who, const char *dut,
		uint64_t job, const char *action, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	note(daemon, who, dut, job, action, format, arguments);
	va_end(arguments);
}

void audit_request(struct daemon *daemon, const struct http_request *request, const char *dut,
		   uint64_t job, const char *action, const char *format, ...)
{
	struct access_identity who;
	va_list arguments;

	access_identify(daemon, request, &who);
	va_start(arguments, format);
	note(daemon, &who, dut, job, action, format, arguments);
	va_end(arguments);
}

/* ---- reading: GET /history, GET /dut/{id}/history ---- */

enum { DEFAULT_LIMIT = 100 };

struct history_call {
	struct http_request *request; /* NULL: the client has left */
};

static void on_reader_gone(void *data)
{
	struct history_call *call = data;

	call->request = NULL;
}

/* The API's own forms of times and of ids. */
static json_t *entry_to_json(const json_t *row)
{
	const json_t *job = json_object_get(row, "job");
	char time[CLOCK_ISO_SIZE], id[24];
	json_t *entry = json_copy((json_t *)(uintptr_t)row);

	(void)clock_format_iso(time, (uint64_t)json_integer_value(json_object_get(row, "time_us")));
	(void)json_object_del(entry, "time_us");
	(void)json_object_set_new(entry, "time", json_string(time));
	(void)snprintf(id, sizeof(id), "%" JSON_INTEGER_FORMAT, json_integer_value(job));
	if (json_is_integer(job))
		(void)json_object_set_new(entry, "job", json_string(id));
	return entry;
}

static void on_rows(int r, const struct error *err, const json_t *rows, void *data)
{
	struct history_call *call = data;
	json_t *entries = json_array();
	const json_t *row;
	size_t i;

	if (call->request && r < 0) {
		http_reply_error(call->request, api_status(r), "the history: %s", err->text);
	} else if (call->request) {
		json_array_foreach(rows, i, row)
			(void)json_array_append_new(entries, entry_to_json(row));
		http_reply_json(call->request, 200, json_pack("{s:O}", "history", entries));
	}
	json_decref(entries);
	free(call);
}

static int read_query(const struct http_request *request, uint64_t *ret_before, uint64_t *ret_limit,
		      struct error *err)
{
	const char *limit = http_request_query(request, "limit");
	const char *before = http_request_query(request, "before");
	int r = 0;

	*ret_before = UINT64_MAX;
	*ret_limit = DEFAULT_LIMIT;
	if (limit)
		r = text_to_uint64(ret_limit, limit, 1, RECORDS_AUDIT_MAX, err);
	if (r >= 0 && before)
		r = text_to_uint64(ret_before, before, 0, INT64_MAX, err);
	return r < 0 ? error_prefix(err, r, "limit, before") : 0;
}

static void reply_history(struct http_request *request, struct daemon *daemon, const char *dut)
{
	struct history_call *call = malloc(sizeof(*call));
	uint64_t before, limit;
	struct error err;
	int r;

	if (!call) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	call->request = request;
	r = read_query(request, &before, &limit, &err);
	if (r >= 0)
		r = records_audit_list(daemon->records, dut, before, (unsigned)limit, on_rows, call,
				       &err);
	if (r >= 0) {
		http_request_on_gone(request, on_reader_gone, call);
		return;
	}
	http_reply_error(request, api_status(r), "%s", err.text);
	free(call);
}

void api_history(struct http_request *request, void *data)
{
	const char *dut = http_request_query(request, "dut");
	const struct board *board = dut ? daemon_find_board(data, dut) : NULL;

	/* One that is not configured any more has its history still. */
	reply_history(request, data, board ? board->config->id : dut);
}

void api_dut_history(struct http_request *request, void *data)
{
	const char *dut = http_request_argument(request, "id");
	const struct board *board = daemon_find_board(data, dut);

	reply_history(request, data, board ? board->config->id : dut);
}

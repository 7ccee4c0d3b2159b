/* SPDX-License-Identifier: MIT */

/*
 * PATCH /dut/{id}. What is said of a DUT is on disk before it holds and is acknowledged; changes of
 * one DUT are made one after the other, so that none undoes another.
 */

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "dut/access.h"
#include "dut/api.h"
#include "dut/audit.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/reserve.h"
#include "dut/worker.h"

enum { MAX_CHANGES = 16 /* of one DUT that wait for the disk */ };

struct flags_change {
	struct list link;	      /* board.flag_changes; the first is being written */
	struct board *board;	      /* NULL: it is gone */
	struct http_request *request; /* NULL: the client has left */
	struct access_identity who;
	json_t *patch;
	struct flags flags; /* what comes of it */
	bool writing;	    /* it is the worker's, which uses nothing but these */
	int state_fd, dir_fd;
	char *text;
};

static void change_free(void *data)
{
	struct flags_change *change = data;

	list_remove(&change->link);
	json_decref(change->patch);
	flags_done(&change->flags);
	(void)close_fd(change->dir_fd);
	free(change->text);
	free(change);
}

void api_flags_drop(struct board *board)
{
	LIST_FOREACH_SAFE(link, after, &board->flag_changes) {
		struct flags_change *change = CONTAINER_OF(link, struct flags_change, link);

		list_remove(&change->link);
		change->board = NULL;
		if (change->request)
			http_reply_error(change->request, 404, "%s is gone", board->config->id);
		change->request = NULL;
		if (!change->writing)
			change_free(change);
	}
}

static void on_gone(void *data)
{
	struct flags_change *change = data;

	change->request = NULL;
}

static int write_flags(void *data, struct error *err)
{
	const struct flags_change *change = data;

	return reserve_replace(change->state_fd, change->dir_fd, "flags.json", change->text, 0640,
			       err);
}

/* What the journal and the audit call it. */
static const char *action_of(const struct flags_change *change)
{
	const json_t *retired = json_object_get(change->patch, "is_retired");

	if (!retired)
		return "set";
	return json_is_true(retired) ? "retire" : "activate";
}

static void tell(struct flags_change *change)
{
	struct board *board = change->board;
	const json_t *why = json_object_get(change->patch, "why");
	free_ char *text = NULL;
	struct jsontext json = { 0 };

	if (json_is_string(why))
		text = strdup(json_string_value(why));
	else if (!json_object_get(change->patch, "is_retired") ||
		 json_object_size(change->patch) > 1)
		text = json_dumps(change->patch, JSON_COMPACT);
	audit_note(board->daemon, &change->who, board->config->id, 0, action_of(change),
		   text ? "%s" : NULL, text);
	if (change->request) {
		board_write(board, NULL, &json);
		http_reply_jsontext(change->request, 200, &json);
	}
}

static void begin_next(struct board *board);

static void on_written(int r, const struct error *err, void *data)
{
	struct flags_change *change = data;
	struct board *board = change->board;

	if (!board)
		return;
	if (r < 0) {
		log_board(board->config->id, LOG_ERR, "%s by %s is not on disk: %s",
			  action_of(change), change->who.name, err->text);
		if (change->request)
			http_reply_error(change->request, api_status(r),
					 "%s: the change is not on disk: %s", board->config->id,
					 err->text);
	} else {
		struct flags before = board->flags;

		board->flags = change->flags;
		change->flags = before;
		tell(change);
		dispatch_later(board->daemon);
	}
	list_remove(&change->link);
	begin_next(board);
}

static int begin(struct flags_change *change, struct error *err)
{
	struct board *board = change->board;
	int r = flags_change(&change->flags, &board->flags, change->patch, change->who.name, err);

	if (r < 0)
		return r;
	change->state_fd = board->daemon->state_fd;
	/* The board's own is closed with it, and its number given to somebody else. */
	change->dir_fd = fcntl(board->state_fd, F_DUPFD_CLOEXEC, 0);
	if (change->dir_fd < 0)
		return error_errno(err, "flags.json");
	change->text = flags_dump(&change->flags);
	if (!change->text)
		return error_oom(err);
	r = worker_run(board->daemon->worker, write_flags, on_written, change_free, change, err);
	change->writing = r >= 0;
	return r;
}

static void begin_next(struct board *board)
{
	while (!list_empty(&board->flag_changes)) {
		struct flags_change *change =
			CONTAINER_OF(board->flag_changes.next, struct flags_change, link);
		struct error err;
		int r = begin(change, &err);

		if (r >= 0)
			return;
		if (change->request)
			http_reply_error(change->request, api_status(r), "%s", err.text);
		change_free(change);
	}
}

static unsigned count_changes(const struct board *board)
{
	unsigned count = 0;

	LIST_FOREACH(link, &board->flag_changes)
		count++;
	return count;
}

void api_dut_patch(struct http_request *request, void *data)
{
	struct daemon *daemon = data;
	struct board *board = api_find_board(request, daemon);
	struct flags_change *change;
	size_t length;
	const char *text;

	if (!board)
		return;
	if (count_changes(board) >= MAX_CHANGES) {
		http_reply_error(request, 429,
				 "%d changes of %s are being written, which is the limit",
				 MAX_CHANGES, board->config->id);
		return;
	}
	change = calloc(1, sizeof(*change));
	if (!change) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	text = http_request_body(request, &length);
	*change = (struct flags_change){
		.board = board,
		.request = request,
		.dir_fd = -1,
		.patch = text ? json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL) : NULL,
	};
	access_identify(daemon, request, &change->who);
	http_request_on_gone(request, on_gone, change);
	list_append(&board->flag_changes, &change->link);
	if (count_changes(board) == 1)
		begin_next(board);
}

/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/follow-internal.h"
#include "cli/view.h"

/* The log and the events of a job that is followed: to where they are read, at its pace. */

void follow_on_log_space(void *data)
{
	struct follow *follow = data;

	if (follow->log)
		feed_resume(follow->log);
	if (follow->request->json && follow->events)
		feed_resume(follow->events);
	follow_check(follow);
}

void follow_on_message_space(void *data)
{
	struct follow *follow = data;

	if (!follow->request->json && follow->events)
		feed_resume(follow->events);
	follow_check(follow);
}

static void on_log_bytes(const char *bytes, size_t length, void *data)
{
	struct follow *follow = data;

	if (mingle_console(follow->mingle, bytes, length, NULL) < 0)
		follow_stop_oom(follow);
	if (output_is_full(follow->out))
		feed_pause(follow->log);
}

static void on_event(const char *line, size_t length, void *data)
{
	struct follow *follow = data;
	json_t *event = json_loadb(line, length, 0, NULL);
	free_ char *text = NULL;

	if (!json_is_object(event)) {
		follow_tell(follow, "the daemon sent an event that cannot be read");
		json_decref(event);
		return;
	}
	if (!replay_is_new(&follow->replay, event, line, length)) {
		json_decref(event);
		return;
	}
	if (follow->request->json)
		text = json_dumps(event, JSON_COMPACT | JSON_ENSURE_ASCII);
	else
		text = view_event(event);
	json_decref(event);
	if (!text) {
		follow_stop_oom(follow);
		return;
	}
	if (follow->request->json) {
		(void)output_write(follow->out, text, strlen(text), NULL);
		(void)output_write(follow->out, "\n", 1, NULL);
	} else {
		(void)mingle_message(follow->mingle, text, NULL);
	}
}

/* They come from the first one again. */
static void on_events_begin(uint64_t missing, void *data)
{
	struct follow *follow = data;

	(void)missing;
	lines_reset(follow->lines);
}

static void on_event_bytes(const char *bytes, size_t length, void *data)
{
	struct follow *follow = data;

	if (lines_add(follow->lines, bytes, length, on_event, follow) < 0)
		follow_stop_oom(follow);
	if (output_is_full(follow->request->json ? follow->out : follow->messages))
		feed_pause(follow->events);
}

static void end_stream(struct follow *follow, struct answer *answer, const char *what)
{
	if (answer->r < 0) {
		follow_lost(follow, answer);
		return;
	}
	if (!answer_is_good(answer))
		follow_tell(follow, "no %s of job %s: HTTP status %u%s%s", what,
			    follow->request->id, answer->status, answer->reason ? ": " : "",
			    answer->reason ? answer->reason : "");
	answer_done(answer);
	follow_check(follow);
}

static void on_log_end(struct answer *answer, void *data)
{
	struct follow *follow = data;

	follow->log = feed_free(follow->log);
	end_stream(follow, answer, "log");
}

static void on_events_end(struct answer *answer, void *data)
{
	struct follow *follow = data;

	follow->events = feed_free(follow->events);
	end_stream(follow, answer, "events");
}

/* Console bytes are no JSON: they are among the results then. */
static int start_log(struct follow *follow, struct error *err)
{
	free_ char *path = client_path("/jobs/%s/log?follow=1", follow->request->id);
	const struct feed_config config = {
		.session = follow->session,
		.path = path,
		.has_offsets = true,
		.on_bytes = on_log_bytes,
		.on_end = on_log_end,
		.data = follow,
	};

	return path ? feed_new(&follow->log, &config, err) : error_oom(err);
}

static int start_events(struct follow *follow, struct error *err)
{
	const struct follow_request *request = follow->request;
	free_ char *path = request->token ? client_path("/jobs/%s/events?follow=1&bind=%s",
							request->id, request->token)
					  : client_path("/jobs/%s/events?follow=1", request->id);
	const struct feed_config config = {
		.session = follow->session,
		.path = path,
		.on_begin = on_events_begin,
		.on_bytes = on_event_bytes,
		.on_end = on_events_end,
		.data = follow,
	};

	return path ? feed_new(&follow->events, &config, err) : error_oom(err);
}

int follow_start_streams(struct follow *follow, struct error *err)
{
	int r = follow->request->json ? 0 : start_log(follow, err);

	return r < 0 ? r : start_events(follow, err);
}

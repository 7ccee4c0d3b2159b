/* SPDX-License-Identifier: MIT */
#include "dut/lab-events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/http.h"
#include "base/list.h"
#include "base/log.h"
#include "base/text.h"
#include "dut/api.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/job.h"

/* A stream on which nothing happens says so: what is between us might cut it off otherwise. */
static const uint64_t HEARTBEAT_US = UINT64_C(15) * 1000000;

/* While a board is being switched off, a look that nobody asked for: time alone makes it BORKED. */
static const uint64_t LOOK_US = 1000000;

struct kept {
	char *text; /* as it is sent; NULL: it could not be made */
	size_t length;
	char *dut; /* or NULL */
	uint64_t job;
};

struct lab_events {
	struct daemon *daemon;
	struct kept ring[LAB_EVENTS_KEPT]; /* event N at N % LAB_EVENTS_KEPT */
	uint64_t first, next;		   /* kept are those from first to before next */
	size_t bytes;
	uint64_t begun_us;   /* CLOCK_BOOTTIME */
	struct list viewers; /* viewer.link */
	unsigned n_viewers;
	sd_event_source *heartbeat, *look, *look_timer;
};

struct viewer {
	struct list link; /* lab_events.viewers */
	struct lab_events *events;
	struct http_stream *stream;
	uid_t uid;
	char *dut;	    /* only its events; NULL: all */
	uint64_t job;	    /* 0: all */
	uint64_t at;	    /* the next event */
	bool was_elsewhere; /* what it saw last was another dutd's */
	bool silent;	    /* nothing was sent since the last heartbeat */
	bool beat;	    /* a heartbeat is due */
	char *rest;	    /* of what is being sent */
	size_t rest_length, rest_at;
};

/* ---- what is kept ---- */

static void forget_first(struct lab_events *events)
{
	struct kept *kept = &events->ring[events->first++ % LAB_EVENTS_KEPT];

	events->bytes -= kept->length;
	free(kept->text);
	free(kept->dut);
	*kept = (struct kept){ 0 };
}

/* An event as it is sent; members (or NULL) are borrowed. NULL when memory ran out. */
static char *format(const struct lab_events *events, uint64_t seq, const char *type,
		    const char *dut, uint64_t job, json_t *members)
{
	double elapsed = (double)(clock_now_us() - events->begun_us) / 1e6;
	char time[CLOCK_ISO_SIZE], id[24];
	free_ char *object = NULL;
	json_auto_t *json = NULL;
	char *text;

	(void)snprintf(id, sizeof(id), "%" PRIu64, job);
	json = json_pack("{s:I, s:s, s:o, s:s, s:s?, s:s?}", "seq", (json_int_t)seq, "time",
			 clock_format_iso(time, clock_realtime_us()), "elapsed", json_real(elapsed),
			 "type", type, "dut", dut, "job", job ? id : NULL);
	if (!json || (members && json_object_update_missing(json, members) < 0))
		return NULL;
	/* ASCII and compact: there is no line end in it. */
	object = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
	if (!object || asprintf(&text, "id: %" PRIu64 "-%" PRIu64 "\ndata: %s\n\n",
				events->daemon->epoch, seq, object) < 0)
		return NULL;
	return text;
}

static void wake_all(struct lab_events *events)
{
	LIST_FOREACH_SAFE(link, after, &events->viewers)
		http_stream_wake(CONTAINER_OF(link, struct viewer, link)->stream);
}

void lab_event(struct daemon *daemon, const char *type, const char *dut, uint64_t job,
	       json_t *members)
{
	json_auto_t *owned = members;
	struct lab_events *events = daemon->lab_events;
	struct kept *kept;

	if (!events)
		return;
	if (events->next - events->first == LAB_EVENTS_KEPT)
		forget_first(events);
	kept = &events->ring[events->next % LAB_EVENTS_KEPT];
	kept->text = format(events, events->next, type, dut, job, owned);
	kept->length = kept->text ? strlen(kept->text) : 0;
	kept->dut = dut ? strdup(dut) : NULL;
	kept->job = job;
	events->bytes += kept->length;
	events->next++;
	while (events->bytes > LAB_EVENTS_MAX_BYTES && events->next - events->first > 1)
		forget_first(events);
	wake_all(events);
}

/* ---- states ---- */

/* Whether its state stays as long as nothing happens. */
static bool look_at_board(struct daemon *daemon, struct board *board)
{
	enum dut_state state = board_state(board);
	const struct job *job = board->job;

	if (!board->state_is_told || state != board->told_state)
		lab_event(
			daemon, "dut_state", board->config->id, job ? job->id : 0,
			json_pack("{s:s, s:s?}", "state", dut_state_name(state), "before",
				  board->state_is_told ? dut_state_name(board->told_state) : NULL));
	board->state_is_told = true;
	board->told_state = state;
	return !board->off.pending;
}

static void look_at_all(struct lab_events *events)
{
	bool at_rest = true;

	LIST_FOREACH(link, &events->daemon->boards)
		if (!look_at_board(events->daemon, CONTAINER_OF(link, struct board, link)))
			at_rest = false;
	if (at_rest)
		return;
	(void)sd_event_source_set_time_relative(events->look_timer, LOOK_US);
	(void)sd_event_source_set_enabled(events->look_timer, SD_EVENT_ONESHOT);
}

static int on_look(sd_event_source *source, void *data)
{
	(void)source;
	look_at_all(data);
	return 0;
}

static int on_look_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	look_at_all(data);
	return 0;
}

void lab_look(struct daemon *daemon)
{
	if (daemon->lab_events)
		(void)sd_event_source_set_enabled(daemon->lab_events->look, SD_EVENT_ONESHOT);
}

void lab_look_at_job(struct daemon *daemon, struct job *job)
{
	enum job_state state = job_told_state(job);
	json_t *members;

	if (job->preparing || state == job->event_state)
		return;
	members = json_pack("{s:s, s:s, s:s, s:I}", "state", job_state_name(state), "name",
			    job->name, "owner", job->owner, "attempt", (json_int_t)job->attempt);
	if (state == JOB_ENDED)
		(void)json_object_update_new(members,
					     json_pack("{s:s, s:s?, s:s?}", "status",
						       job_status_name(job->status), "reason",
						       job->reason, "verdict", job->verdict));
	job->event_state = state;
	lab_event(daemon, "job_state", job->dut, job->id, members);
}

/* ---- viewers ---- */

static void viewer_done(void *data)
{
	struct viewer *viewer = data;
	struct lab_events *events = viewer->events;

	list_remove(&viewer->link);
	if (--events->n_viewers == 0)
		(void)sd_event_source_set_enabled(events->heartbeat, SD_EVENT_OFF);
	free(viewer->dut);
	free(viewer->rest);
	free(viewer);
}

static void send_text(struct viewer *viewer, char *text)
{
	free(viewer->rest);
	viewer->rest = text;
	viewer->rest_length = text ? strlen(text) : 0;
	viewer->rest_at = 0;
}

static bool is_wanted(const struct viewer *viewer, const struct kept *kept)
{
	return (!viewer->dut || (kept->dut && strcmp(kept->dut, viewer->dut) == 0)) &&
	       (!viewer->job || kept->job == viewer->job);
}

/* What is not there any more, and of how many that is known. */
static char *format_missed(struct viewer *viewer)
{
	const struct lab_events *events = viewer->events;
	json_auto_t *members = json_pack(
		"{s:o}", "count",
		viewer->was_elsewhere ? json_null()
				      : json_integer((json_int_t)(events->first - viewer->at)));

	viewer->was_elsewhere = false;
	viewer->at = events->first;
	return format(events, events->first - 1, "missed", NULL, 0, members);
}

/* The next text to be sent; false: there is none now. */
static bool choose_next(struct viewer *viewer)
{
	const struct lab_events *events = viewer->events;
	const struct kept *kept;

	if (viewer->was_elsewhere || viewer->at < events->first) {
		send_text(viewer, format_missed(viewer));
		return true;
	}
	for (; viewer->at < events->next; viewer->at++) {
		kept = &events->ring[viewer->at % LAB_EVENTS_KEPT];
		if (!kept->text || !is_wanted(viewer, kept))
			continue;
		viewer->at++;
		send_text(viewer, strdup(kept->text));
		return true;
	}
	if (!viewer->beat)
		return false;
	viewer->beat = false;
	send_text(viewer, strdup(":\n\n"));
	return true;
}

static ssize_t viewer_read(void *data, char *buffer, size_t size)
{
	struct viewer *viewer = data;
	size_t n = 0;

	while (n < size) {
		size_t part = viewer->rest_length - viewer->rest_at;

		if (part == 0) {
			if (!choose_next(viewer))
				break;
			if (!viewer->rest)
				return HTTP_STREAM_ABORT;
			continue;
		}
		if (part > size - n)
			part = size - n;
		memcpy(buffer + n, viewer->rest + viewer->rest_at, part);
		viewer->rest_at += part;
		n += part;
	}
	if (n > 0)
		viewer->silent = false;
	return (ssize_t)n;
}

static int on_heartbeat(sd_event_source *source, uint64_t usec, void *data)
{
	struct lab_events *events = data;

	(void)usec;
	LIST_FOREACH(link, &events->viewers) {
		struct viewer *viewer = CONTAINER_OF(link, struct viewer, link);

		viewer->beat = viewer->silent;
		viewer->silent = true;
	}
	wake_all(events);
	(void)sd_event_source_set_time_relative(source, HEARTBEAT_US);
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

/* ---- who comes ---- */

static int check_room(const struct lab_events *events, uid_t uid, struct error *err)
{
	unsigned of_user = 0;

	LIST_FOREACH(link, &events->viewers)
		of_user += CONTAINER_OF(link, struct viewer, link)->uid == uid;
	if (events->n_viewers >= LAB_EVENTS_MAX_VIEWERS)
		return error_set(err, -EAGAIN,
				 "%d clients have the lab's events, which is the limit",
				 LAB_EVENTS_MAX_VIEWERS);
	if (of_user >= LAB_EVENTS_MAX_VIEWERS / 2)
		return error_set(err, -EAGAIN,
				 "the user with uid %u has the lab's events %u times, which is the "
				 "limit for one user",
				 (unsigned)uid, of_user);
	return 0;
}

/* Where somebody goes on who has seen EPOCH-SEQ; without it: with what comes. */
static int find_place(struct viewer *viewer, const char *last, struct error *err)
{
	const struct lab_events *events = viewer->events;
	const char *dash = last ? strchr(last, '-') : NULL;
	free_ char *first = dash ? strndup(last, (size_t)(dash - last)) : NULL;
	uint64_t epoch, seq;

	viewer->at = events->next;
	if (!last || !*last)
		return 0;
	if (!first || text_to_uint64(&epoch, first, 0, INT64_MAX, NULL) < 0 ||
	    text_to_uint64(&seq, dash + 1, 0, INT64_MAX, NULL) < 0)
		return error_set(err, -EINVAL, "Last-Event-ID is no id of ours");
	if (epoch != events->daemon->epoch) {
		viewer->was_elsewhere = true;
		viewer->at = events->first;
	} else if (seq < events->next) {
		viewer->at = seq + 1;
	}
	return 0;
}

static int read_filters(struct viewer *viewer, const struct http_request *request,
			struct error *err)
{
	const char *dut = http_request_query(request, "dut");
	const char *job = http_request_query(request, "job");
	const struct board *board;
	char escaped[128];

	if (job && text_to_uint64(&viewer->job, job, 1, INT64_MAX, err) < 0)
		return error_prefix(err, -EINVAL, "job");
	if (!dut)
		return 0;
	board = daemon_find_board(viewer->events->daemon, dut);
	if (!board)
		return error_set(err, -ENOENT, "there is no DUT '%s'",
				 text_escape(escaped, sizeof(escaped), dut, strlen(dut)));
	viewer->dut = strdup(board->config->id);
	return viewer->dut ? 0 : error_oom(err);
}

static int prepare(struct viewer *viewer, const struct http_request *request, struct error *err)
{
	int r = check_room(viewer->events, http_request_peer(request)->uid, err);

	if (r >= 0)
		r = read_filters(viewer, request, err);
	if (r >= 0)
		r = find_place(viewer, http_request_header(request, "Last-Event-ID"), err);
	/* So that the client knows at once that it is heard; and how soon it may come again. */
	send_text(viewer, strdup("retry: 1000\n\n"));
	if (r >= 0 && !viewer->rest)
		r = error_oom(err);
	return r;
}

void api_events(struct http_request *request, void *data)
{
	static const struct http_source source = { .read = viewer_read, .done = viewer_done };
	struct daemon *daemon = data;
	struct lab_events *events = daemon->lab_events;
	struct viewer *viewer = calloc(1, sizeof(*viewer));
	struct error err;
	int r;

	if (!viewer) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	viewer->events = events;
	r = prepare(viewer, request, &err);
	if (r < 0) {
		free(viewer->dut);
		free(viewer->rest);
		free(viewer);
		http_reply_error(request, api_status(r), "%s", err.text);
		return;
	}
	viewer->uid = http_request_peer(request)->uid;
	list_append(&events->viewers, &viewer->link);
	if (events->n_viewers++ == 0) {
		(void)sd_event_source_set_time_relative(events->heartbeat, HEARTBEAT_US);
		(void)sd_event_source_set_enabled(events->heartbeat, SD_EVENT_ONESHOT);
	}
	http_reply_header(request, "Cache-Control", "no-cache");
	viewer->stream = http_reply_stream(request, 200, "text/event-stream", &source, viewer);
}

/* ---- all of it ---- */

static int add_sources(struct lab_events *events, sd_event *event, struct error *err)
{
	int r = sd_event_add_time(event, &events->heartbeat, CLOCK_BOOTTIME, 0, 1000000,
				  on_heartbeat, events);

	if (r >= 0)
		r = sd_event_source_set_enabled(events->heartbeat, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(event, &events->look_timer, CLOCK_BOOTTIME, 0, 100000,
				      on_look_timer, events);
	if (r >= 0)
		r = sd_event_source_set_enabled(events->look_timer, SD_EVENT_OFF);
	/* The first look tells all. */
	if (r >= 0)
		r = sd_event_add_defer(event, &events->look, on_look, events);
	if (r >= 0)
		r = sd_event_source_set_priority(events->look, SD_EVENT_PRIORITY_IMPORTANT);
	if (r < 0)
		return error_code(err, r, "cannot add an event source");
	(void)sd_event_source_set_description(events->heartbeat, "events-heartbeat");
	(void)sd_event_source_set_description(events->look_timer, "events-look-timer");
	(void)sd_event_source_set_description(events->look, "events-look");
	return 0;
}

CLEANUP_DEFINE(struct lab_events *, lab_events_free)

int lab_events_new(struct lab_events **ret, struct daemon *daemon, struct error *err)
{
	cleanup_(lab_events_freep) struct lab_events *events = calloc(1, sizeof(*events));
	int r;

	if (!events)
		return error_oom(err);
	events->daemon = daemon;
	events->begun_us = clock_now_us();
	list_init(&events->viewers);
	r = add_sources(events, daemon->event, err);
	if (r < 0)
		return r;
	*ret = take_ptr(events);
	return 0;
}

struct lab_events *lab_events_free(struct lab_events *events)
{
	if (!events)
		return NULL;
	while (events->first < events->next)
		forget_first(events);
	sd_event_source_disable_unref(events->heartbeat);
	sd_event_source_disable_unref(events->look_timer);
	sd_event_source_disable_unref(events->look);
	free(events);
	return NULL;
}

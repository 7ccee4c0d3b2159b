/* SPDX-License-Identifier: MIT */
#include "dut/reload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/http.h"
#include "base/list.h"
#include "base/log.h"
#include "dut/audit.h"
#include "dut/config.h"
#include "dut/daemon.h"
#include "dut/worker.h"

/* Somebody who waits for what a round says. */
struct caller {
	struct list link; /* reload.callers */
	struct http_request *request;
	bool served; /* by the present round */
};

struct reload {
	struct daemon *daemon;
	char *path;
	struct yaml_tree *at_start;   /* the settings then: some hold until dutd is started again */
	struct worker *worker;	      /* from the first round on: nobody else's work delays it */
	struct list callers;	      /* caller.link */
	bool reading;		      /* a round is under way, */
	bool again;		      /* and another one follows */
	json_t *changes;	      /* what it has changed so far, */
	size_t next;		      /* with the DUTs up to this one, */
	sd_event_source *open_source; /* and goes on with the next ones */
	bool by_signal[2];	      /* who asked for the present, and for the next round */
};

/* What the thread works on. */
struct reading {
	struct reload *reload;
	char *path;
	struct config *config;
	struct problems problems;
};

static void caller_free(struct caller *caller)
{
	list_remove(&caller->link);
	free(caller);
}

struct reload *reload_free(struct reload *reload)
{
	if (!reload)
		return NULL;
	reload->worker = worker_free(reload->worker);
	LIST_FOREACH_SAFE(link, after, &reload->callers)
		caller_free(CONTAINER_OF(link, struct caller, link));
	sd_event_source_disable_unref(reload->open_source);
	json_decref(reload->changes);
	(void)yaml_tree_free(reload->at_start);
	free(reload->path);
	free(reload);
	return NULL;
}

CLEANUP_DEFINE(struct reload *, reload_free)

static int on_open(sd_event_source *source, uint64_t usec, void *data);

int reload_new(struct reload **ret, struct daemon *daemon, const char *path, struct error *err)
{
	cleanup_(reload_freep) struct reload *reload = calloc(1, sizeof(*reload));
	free_ char *here = NULL;
	int r;

	if (!reload)
		return error_oom(err);
	list_init(&reload->callers);
	reload->daemon = daemon;
	if (path[0] == '/') {
		reload->path = strdup(path);
	} else {
		here = getcwd(NULL, 0);
		if (!here || asprintf(&reload->path, "%s/%s", here, path) < 0)
			reload->path = NULL;
	}
	if (!reload->path || yaml_merge(&reload->at_start, NULL, daemon->config->settings) < 0)
		return error_oom(err);
	/* A timer: a defer source that is always due comes before all others. */
	r = sd_event_add_time(daemon->event, &reload->open_source, CLOCK_MONOTONIC, 0, 1, on_open,
			      reload);
	if (r >= 0)
		r = sd_event_source_set_enabled(reload->open_source, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "cannot add an event source");
	(void)sd_event_source_set_description(reload->open_source, "reload");
	*ret = take_ptr(reload);
	return 0;
}

/* ---- the answers ---- */

static void note_signal(struct reload *reload, const json_t *changes)
{
	size_t count = json_array_size(changes);
	struct access_identity who;

	if (!reload->by_signal[0])
		return;
	access_identify_dutd(&who, "signal");
	audit_note(reload->daemon, &who, NULL, 0, "reload", "%zu change%s", count,
		   count == 1 ? "" : "s");
}

/* Those whom this round is for; changes is borrowed. */
static void answer_callers(struct reload *reload, const json_t *changes)
{
	size_t count = json_array_size(changes);

	LIST_FOREACH_SAFE(link, after, &reload->callers) {
		struct caller *caller = CONTAINER_OF(link, struct caller, link);

		if (!caller->served)
			continue;
		audit_request(reload->daemon, caller->request, NULL, 0, "reload", "%zu change%s",
			      count, count == 1 ? "" : "s");
		http_reply_json(caller->request, 200, json_pack("{s:O}", "changes", changes));
		caller_free(caller);
	}
}

static void refuse_callers(struct reload *reload, unsigned status, json_t *extra, const char *text)
{
	LIST_FOREACH_SAFE(link, after, &reload->callers) {
		struct caller *caller = CONTAINER_OF(link, struct caller, link);

		if (!caller->served)
			continue;
		http_reply_error_json(caller->request, status, json_deep_copy(extra), text);
		caller_free(caller);
	}
	json_decref(extra);
}

static json_t *problems_json(const struct problems *problems)
{
	json_t *array = json_array();

	for (size_t i = 0; i < problems->count; i++) {
		const struct problem *problem = &problems->items[i];

		(void)json_array_append_new(array, json_pack("{s:s?, s:I, s:I, s:s?, s:s?}", "file",
							     problem->file, "line",
							     (json_int_t)problem->line, "column",
							     (json_int_t)problem->column, "text",
							     problem->text, "key", problem->key));
	}
	return array;
}

/* Everything stays as it is. */
static void refuse(struct reload *reload, const struct problems *problems, const struct error *err)
{
	char text[512];

	for (size_t i = 0; i < problems->count; i++) {
		const struct problem *problem = &problems->items[i];

		log_msg(LOG_ERR, "%s:%u:%u: %s", problem->file ? problem->file : reload->path,
			problem->line, problem->column, problem->text);
	}
	(void)snprintf(text, sizeof(text), "the configuration stays as it was: %s", err->text);
	log_msg(LOG_ERR, "%s", text);
	refuse_callers(reload, 400, json_pack("{s:o}", "problems", problems_json(problems)), text);
}

/* ---- a round ---- */

static int read_files(void *data, struct error *err)
{
	struct reading *reading = data;

	return config_load(&reading->config, reading->path, &reading->problems, err);
}

static void release_reading(void *data)
{
	struct reading *reading = data;

	(void)config_free(reading->config);
	problems_done(&reading->problems);
	free(reading->path);
	free(reading);
}

/* For a service manager that waits until the new configuration holds: sd_notify(3). */
static void notify_begin(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	(void)sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
			 (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

static void begin_round(struct reload *reload);

static void end_round(struct reload *reload)
{
	(void)sd_notify(false, "READY=1");
	reload->reading = false;
	if (reload->again)
		begin_round(reload);
}

static void open_later(struct reload *reload)
{
	(void)sd_event_source_set_time_relative(reload->open_source, 0);
	(void)sd_event_source_set_enabled(reload->open_source, SD_EVENT_ONESHOT);
}

/* Each new DUT is a few folders and files: others get their turn between them. */
static int on_open(sd_event_source *source, uint64_t usec, void *data)
{
	struct reload *reload = data;

	(void)source;
	(void)usec;
	if (!reload_open_some(reload->daemon, reload->changes, &reload->next)) {
		open_later(reload);
		return 0;
	}
	reload_finish(reload->daemon, reload->changes);
	if (json_array_size(reload->changes) == 0)
		log_msg(LOG_NOTICE, "read the configuration again: nothing has changed");
	note_signal(reload, reload->changes);
	answer_callers(reload, reload->changes);
	json_decref(take_ptr(reload->changes));
	end_round(reload);
	return 0;
}

static void on_read(int r, const struct error *err, void *data)
{
	struct reading *reading = data;
	struct reload *reload = reading->reload;
	struct daemon *daemon = reload->daemon;

	if (r < 0) {
		refuse(reload, &reading->problems, err);
	} else if (daemon->stop_timer) {
		refuse_callers(reload, 503, NULL, "dutd is stopping; try again when it is back");
	} else {
		reload->changes = reload_apply(daemon, take_ptr(reading->config),
					       yaml_root(reload->at_start));
		reload->next = 0;
		if (reload->changes) {
			open_later(reload);
			return;
		}
		refuse_callers(reload, 500, NULL, "out of memory");
	}
	end_round(reload);
}

static int start_reading(struct reload *reload, struct error *err)
{
	struct reading *reading;
	int r = 0;

	if (!reload->worker)
		r = worker_new(&reload->worker, reload->daemon->event, err);
	if (r < 0)
		return r;
	reading = calloc(1, sizeof(*reading));
	if (!reading)
		return error_oom(err);
	reading->reload = reload;
	reading->path = strdup(reload->path);
	r = reading->path
		    ? worker_run(reload->worker, read_files, on_read, release_reading, reading, err)
		    : error_oom(err);
	if (r < 0)
		release_reading(reading);
	return r;
}

static void begin_round(struct reload *reload)
{
	const struct problems none = { 0 };
	struct error err;

	notify_begin();
	reload->reading = true;
	reload->again = false;
	reload->by_signal[0] = reload->by_signal[1];
	reload->by_signal[1] = false;
	LIST_FOREACH(link, &reload->callers)
		CONTAINER_OF(link, struct caller, link)->served = true;
	if (start_reading(reload, &err) >= 0)
		return;
	refuse(reload, &none, &err);
	(void)sd_notify(false, "READY=1");
	reload->reading = false;
}

static void ask(struct reload *reload)
{
	if (reload->reading)
		reload->again = true;
	else
		begin_round(reload);
}

void reload_on_signal(struct reload *reload)
{
	reload->by_signal[1] = true;
	ask(reload);
}

/* ---- POST /reload ---- */

/* The round goes on: it was asked for. */
static void on_caller_gone(void *data)
{
	caller_free(data);
}

void api_reload(struct http_request *request, void *data)
{
	struct daemon *daemon = data;
	struct reload *reload = daemon->reload;
	struct caller *caller;
	unsigned n = 0;

	LIST_FOREACH(link, &reload->callers)
		n++;
	if (n >= RELOAD_MAX_CALLERS) {
		http_reply_error(request, 429, "%u wait for a reload already, which is the limit",
				 n);
		return;
	}
	caller = calloc(1, sizeof(*caller));
	if (!caller) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	caller->request = request;
	list_append(&reload->callers, &caller->link);
	http_request_on_gone(request, on_caller_gone, caller);
	ask(reload);
}

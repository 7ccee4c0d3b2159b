/* SPDX-License-Identifier: MIT */
#include "dut/scope.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"
#include "base/text.h"

/*
 * The manager answers StartTransientUnit() with a job, and says by JobRemoved() when that is over,
 * which is when the processes have been moved. Nothing here waits: each step is a callback, and
 * MOVE_LIMIT_US bounds all of them, however long the bus takes.
 */

#define MANAGER		  "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"

static const uint64_t MOVE_LIMIT_US = UINT64_C(10) * 1000000;
static const uint64_t STOP_LIMIT_US = UINT64_C(10) * 1000000; /* from TERM to KILL */

enum {
	MAX_CALLS = 16,	   /* under way; the bus drops a peer that asks for too much at once */
	MAX_CHILDREN = 16, /* of a process that is moved */
};

struct scopes {
	sd_event *event;
	sd_bus *bus;	  /* NULL until the first move, and after it was lost */
	char *unit;	  /* our own */
	char prefix[128]; /* the same, without its suffix */
	struct list moves;
	unsigned calls; /* how many of them are under way */
	bool complained;
	bool is_closing;
	sd_event_source *pump; /* begins what waits, ends what has lost its bus */
};

enum move_state { MOVE_WAITING, MOVE_CALLED, MOVE_STARTED, MOVE_OVER };

struct scope_move {
	struct list link; /* scopes.moves */
	struct scopes *scopes;
	enum move_state state;
	char *unit, *description, *slice;
	uint32_t pids[1 + MAX_CHILDREN];
	size_t n_pids;
	uint64_t memory_max, tasks_max;
	bool without_devices;
	sd_bus_slot *slot;
	char *job; /* its object path, once it is known */
	sd_event_source *timer;
	int result;
	char text[160]; /* why it failed */
	void (*done)(int r, void *data);
	void *data;
};

static void move_free(struct scope_move *move)
{
	if (move->state == MOVE_CALLED || move->state == MOVE_STARTED)
		move->scopes->calls--;
	list_remove(&move->link);
	sd_bus_slot_unref(move->slot);
	sd_event_source_disable_unref(move->timer);
	free(move->unit);
	free(move->description);
	free(move->slice);
	free(move->job);
	free(move);
}

static void pump_later(struct scopes *scopes)
{
	(void)sd_event_source_set_enabled(scopes->pump, SD_EVENT_ONESHOT);
}

/* Its end is told from the loop, by the pump. */
static void end_move(struct scope_move *move, int r, const char *text)
{
	struct scopes *scopes = move->scopes;

	if (move->state == MOVE_OVER)
		return;
	if (move->state != MOVE_WAITING)
		scopes->calls--;
	move->state = MOVE_OVER;
	move->result = r;
	(void)snprintf(move->text, sizeof(move->text), "%s", text ? text : "");
	move->slot = sd_bus_slot_unref(move->slot);
	pump_later(scopes);
}

static void tell_end(struct scope_move *move)
{
	struct scopes *scopes = move->scopes;
	void (*done)(int r, void *data) = move->done;
	void *data = move->data;
	int r = move->result;

	if (r < 0 && !scopes->complained)
		log_msg(LOG_NOTICE,
			"%s: stays in the control group of dutd, without limits of its own: %s",
			move->description, move->text);
	scopes->complained = r < 0;
	move_free(move);
	if (done)
		done(r, data);
}

/* ---- the bus ---- */

static int on_disconnected(sd_bus_message *message, void *data, sd_bus_error *error)
{
	struct scopes *scopes = data;

	(void)message;
	(void)error;
	LIST_FOREACH(link, &scopes->moves) {
		struct scope_move *move = CONTAINER_OF(link, struct scope_move, link);

		if (move->state != MOVE_WAITING)
			end_move(move, -ENOTCONN, "the connection to the bus was lost");
	}
	/* Not from its own callback. */
	scopes->is_closing = true;
	pump_later(scopes);
	return 0;
}

static int on_job_removed(sd_bus_message *message, void *data, sd_bus_error *error)
{
	struct scopes *scopes = data;
	const char *job, *unit, *result;
	uint32_t id;

	(void)error;
	if (sd_bus_message_read(message, "uoss", &id, &job, &unit, &result) < 0)
		return 0;
	LIST_FOREACH(link, &scopes->moves) {
		struct scope_move *move = CONTAINER_OF(link, struct scope_move, link);

		if (move->state == MOVE_STARTED && strcmp(move->job, job) == 0)
			end_move(move, strcmp(result, "done") == 0 ? 0 : -EIO, result);
	}
	return 0;
}

static int open_bus(struct scopes *scopes)
{
	sd_bus *bus = NULL;
	int r;

	if (scopes->bus)
		return 0;
	r = sd_bus_open_system(&bus);
	if (r >= 0)
		r = sd_bus_attach_event(bus, scopes->event, SD_EVENT_PRIORITY_NORMAL);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, "org.freedesktop.DBus.Local",
					"/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local",
					"Disconnected", on_disconnected, scopes);
	if (r >= 0)
		r = sd_bus_match_signal_async(bus, NULL, MANAGER, MANAGER_INTERFACE, "JobRemoved",
					      on_job_removed, NULL, scopes);
	if (r >= 0)
		r = sd_bus_call_method_async(bus, NULL, MANAGER, MANAGER_INTERFACE, "Subscribe",
					     NULL, NULL, NULL);
	if (r < 0)
		sd_bus_close_unref(bus);
	else
		scopes->bus = bus;
	return r;
}

static int on_started(sd_bus_message *message, void *data, sd_bus_error *error)
{
	struct scope_move *move = data;
	const sd_bus_error *failure = sd_bus_message_get_error(message);
	const char *job = NULL;

	(void)error;
	if (failure)
		end_move(move, -sd_bus_message_get_errno(message), failure->message);
	else if (sd_bus_message_read(message, "o", &job) < 0 || !(move->job = strdup(job)))
		end_move(move, -EBADMSG, "the manager's answer makes no sense");
	else
		move->state = MOVE_STARTED;
	return 0;
}

static int append_properties(sd_bus_message *message, const struct scope_move *move)
{
	int r = sd_bus_message_append(message, "(sv)(sv)(sv)(sv)", "Description", "s",
				      move->description, "Slice", "s", move->slice, "CollectMode",
				      "s", "inactive-or-failed", "TimeoutStopUSec", "t",
				      STOP_LIMIT_US);

	if (r >= 0 && move->memory_max > 0)
		r = sd_bus_message_append(message, "(sv)", "MemoryMax", "t", move->memory_max);
	if (r >= 0 && move->tasks_max > 0)
		r = sd_bus_message_append(message, "(sv)", "TasksMax", "t", move->tasks_max);
	if (r >= 0 && move->without_devices)
		r = sd_bus_message_append(message, "(sv)", "DevicePolicy", "s", "closed");
	return r;
}

static int append_pids(sd_bus_message *message, const struct scope_move *move)
{
	int r = sd_bus_message_open_container(message, 'r', "sv");

	r = r < 0 ? r : sd_bus_message_append(message, "s", "PIDs");
	r = r < 0 ? r : sd_bus_message_open_container(message, 'v', "au");
	r = r < 0 ? r
		  : sd_bus_message_append_array(message, 'u', move->pids,
						move->n_pids * sizeof(move->pids[0]));
	r = r < 0 ? r : sd_bus_message_close_container(message);
	return r < 0 ? r : sd_bus_message_close_container(message);
}

static int call(struct scope_move *move)
{
	struct scopes *scopes = move->scopes;
	sd_bus_message *message = NULL;
	int r = open_bus(scopes);

	r = r < 0 ? r
		  : sd_bus_message_new_method_call(scopes->bus, &message, MANAGER,
						   MANAGER_INTERFACE, "StartTransientUnit");
	r = r < 0 ? r : sd_bus_message_append(message, "ss", move->unit, "fail");
	r = r < 0 ? r : sd_bus_message_open_container(message, 'a', "(sv)");
	r = r < 0 ? r : append_properties(message, move);
	r = r < 0 ? r : append_pids(message, move);
	r = r < 0 ? r : sd_bus_message_close_container(message);
	r = r < 0 ? r : sd_bus_message_append(message, "a(sa(sv))", 0);
	r = r < 0 ? r
		  : sd_bus_call_async(scopes->bus, &move->slot, message, on_started, move,
				      MOVE_LIMIT_US);
	sd_bus_message_unref(message);
	return r;
}

static void begin_move(struct scope_move *move)
{
	int r = call(move);

	if (r < 0) {
		end_move(move, r, strerror(-r));
		return;
	}
	move->state = MOVE_CALLED;
	move->scopes->calls++;
}

static void close_bus(struct scopes *scopes)
{
	scopes->is_closing = false;
	(void)sd_bus_detach_event(scopes->bus);
	scopes->bus = sd_bus_close_unref(scopes->bus);
}

/* The first that is over, or that may begin. */
static struct scope_move *next_move(const struct scopes *scopes)
{
	LIST_FOREACH(link, &scopes->moves) {
		struct scope_move *move = CONTAINER_OF(link, struct scope_move, link);

		if (move->state == MOVE_OVER ||
		    (move->state == MOVE_WAITING && scopes->calls < MAX_CALLS))
			return move;
	}
	return NULL;
}

static int on_pump(sd_event_source *source, void *data)
{
	struct scopes *scopes = data;
	struct scope_move *move;

	(void)source;
	if (scopes->is_closing)
		close_bus(scopes);
	/* Who is told may begin or forget others. */
	while ((move = next_move(scopes))) {
		if (move->state == MOVE_OVER)
			tell_end(move);
		else
			begin_move(move);
	}
	return 0;
}

/* ---- moves ---- */

struct scopes *scopes_free(struct scopes *scopes)
{
	if (!scopes)
		return NULL;
	while (!list_empty(&scopes->moves))
		move_free(CONTAINER_OF(scopes->moves.next, struct scope_move, link));
	sd_event_source_disable_unref(scopes->pump);
	sd_bus_close_unref(scopes->bus);
	free(scopes->unit);
	free(scopes);
	return NULL;
}

int scopes_new(struct scopes **ret, sd_event *event, struct error *err)
{
	static const char suffix[] = ".service";
	free_ char *unit = NULL;
	struct scopes *scopes;
	size_t length;
	int r;

	if (geteuid() != 0 || sd_booted() <= 0 || sd_pid_get_unit(0, &unit) < 0)
		return 0;
	length = strlen(unit);
	/* A session of a person's, or a user manager, is no service of ours. */
	if (length <= strlen(suffix) || strcmp(unit + length - strlen(suffix), suffix) != 0 ||
	    strncmp(unit, "user@", 5) == 0)
		return 0;
	scopes = calloc(1, sizeof(*scopes));
	if (!scopes)
		return error_oom(err);
	scopes->event = event;
	list_init(&scopes->moves);
	(void)snprintf(scopes->prefix, sizeof(scopes->prefix), "%.*s",
		       (int)(length - strlen(suffix)), unit);
	for (char *at = scopes->prefix; *at; at++)
		if (*at == '@')
			*at = '-';
	scopes->unit = take_ptr(unit);
	r = sd_event_add_defer(event, &scopes->pump, on_pump, scopes);
	if (r >= 0)
		r = sd_event_source_set_enabled(scopes->pump, SD_EVENT_OFF);
	if (r < 0) {
		scopes_free(scopes);
		return error_code(err, r, "cannot add an event source");
	}
	*ret = scopes;
	return 0;
}

/* An earlier dutd may have moved it, and died before it could say so. */
static bool is_elsewhere(const struct scopes *scopes, pid_t pid)
{
	free_ char *unit = NULL;

	return sd_pid_get_unit(pid, &unit) >= 0 && strcmp(unit, scopes->unit) != 0;
}

/* What it has started: an executor its dut-helper, which has started nothing itself yet. */
static void add_children(struct scope_move *move, pid_t pid)
{
	fclose_ FILE *file = NULL;
	char path[64], text[24];
	uint64_t child;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	file = fopen(path, "re");
	while (file && move->n_pids < ARRAY_SIZE(move->pids) && fscanf(file, "%23s", text) == 1 &&
	       text_to_uint64(&child, text, 1, INT32_MAX, NULL) >= 0)
		move->pids[move->n_pids++] = (uint32_t)child;
}

static int on_limit(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	end_move(data, -ETIMEDOUT, "the manager does not answer");
	return 0;
}

int scope_move(struct scope_move **ret, struct scopes *scopes, const struct scope_config *config,
	       void (*done)(int r, void *data), void *data, struct error *err)
{
	struct scope_move *move = calloc(1, sizeof(*move));
	int r = 0;

	if (!move)
		return error_oom(err);
	list_init(&move->link);
	move->scopes = scopes;
	move->pids[move->n_pids++] = (uint32_t)config->pid;
	add_children(move, config->pid);
	move->memory_max = config->memory_max;
	move->tasks_max = config->tasks_max;
	move->without_devices = config->without_devices;
	move->done = done;
	move->data = data;
	move->description = strdup(config->description);
	if (asprintf(&move->unit, "%s-%s-%s.scope", scopes->prefix, config->kind, config->name) < 0)
		move->unit = NULL;
	if (asprintf(&move->slice, "dut-%ss.slice", config->kind) < 0)
		move->slice = NULL;
	if (!move->description || !move->unit || !move->slice)
		r = error_oom(err);
	if (r >= 0)
		r = sd_event_add_time_relative(scopes->event, &move->timer, CLOCK_BOOTTIME,
					       MOVE_LIMIT_US, 0, on_limit, move);
	if (r < 0) {
		move_free(move);
		return error_code(err, r, "cannot begin the move into a scope");
	}
	list_append(&scopes->moves, &move->link);
	if (is_elsewhere(scopes, config->pid))
		end_move(move, 0, NULL);
	pump_later(scopes);
	if (ret)
		*ret = move;
	return 0;
}

void scope_move_forget(struct scope_move *move)
{
	if (move)
		move->done = NULL;
}

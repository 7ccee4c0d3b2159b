/* SPDX-License-Identifier: MIT */
#include "dut/job.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "base/text.h"

enum { RECORD_VERSION = 1, US_PER_S = 1000000 };

/* No time in a record is larger, so that sums of them do not overflow. */
static const json_int_t MAX_US = INT64_MAX / 4;

static const enum job_state next[JOB_STATES][JOB_EVENTS] = {
	[JOB_WAITING] = { [JOB_COMMIT] = JOB_STARTING, [JOB_END] = JOB_ENDED },
	[JOB_STARTING] = { [JOB_GO] = JOB_RUNNING,
			   [JOB_REQUEUE] = JOB_WAITING,
			   [JOB_END] = JOB_ENDED },
	/* RUNNING is its `go`: without `started` it has not touched the board. */
	[JOB_RUNNING] = { [JOB_REQUEUE] = JOB_WAITING, [JOB_END] = JOB_ENDED },
}; /* everything else is JOB_INVALID */

static const char *const state_names[JOB_STATES] = {
	[JOB_INVALID] = "INVALID", [JOB_WAITING] = "WAITING", [JOB_STARTING] = "STARTING",
	[JOB_RUNNING] = "RUNNING", [JOB_ENDED] = "ENDED",
};

enum job_state job_next(enum job_state state, enum job_event event)
{
	return next[state][event];
}

const char *job_state_name(enum job_state state)
{
	return state_names[state];
}

enum job_state job_told_state(const struct job *job)
{
	return job->untold != JOB_INVALID ? job->untold : job->state;
}

struct job *job_free(struct job *job)
{
	if (job) {
		list_remove(&job->link);
		list_remove(&job->id_link);
		job_client_done(&job->client);
		queue_remove(&job->claim);
		json_decref(job->duts);
		json_decref(job->dut_config);
		free(job->target);
		free(job->name);
		free(job->owner);
		free(job->dut);
		free(job->cancel_by);
		free(job->cancel_why);
		free(job->reason);
		free(job->verdict);
		free(job->message);
		free(job);
	}
	return NULL;
}

CLEANUP_DEFINE(struct job *, job_free)

int job_new(struct job **ret, uint64_t id, const char *name, const char *owner, uid_t owner_uid,
	    const char *dut, struct error *err)
{
	cleanup_(job_freep) struct job *job = calloc(1, sizeof(*job));
	int r;

	if (!job)
		return error_oom(err);
	list_init(&job->link);
	list_init(&job->id_link);
	job->id = id;
	job->owner_uid = owner_uid;
	job->state = JOB_WAITING;
	job->status = JOB_UNKNOWN;
	job->queued = moment_now();
	job->submitted_us = job->queued.realtime_us;
	job->wait_us = job->deadline_realtime_us = UINT64_MAX;
	viewers_init(&job->viewers, MAX_VIEWERS);
	job->name = strdup(name);
	job->owner = strdup(owner);
	if (!job->name || !job->owner)
		return error_oom(err);
	r = dut ? job_set_dut(job, dut, err) : 0;
	if (r < 0)
		return r;
	*ret = take_ptr(job);
	return 0;
}

int job_set_dut(struct job *job, const char *dut, struct error *err)
{
	char *copy = strdup(dut);

	if (!copy)
		return error_oom(err);
	free(job->dut);
	job->dut = copy;
	return 0;
}

uint64_t job_expected_end(const struct job *job)
{
	bool has_board = job->board && job->state != JOB_ENDED;

	if (!has_board || job->overall_us == 0)
		return 0;
	return (job->started_us ? job->started_us : clock_realtime_us()) + job->overall_us;
}

bool job_is_closed(const struct job *job)
{
	return job->state == JOB_ENDED && !job->off_pending && !job->user.uid;
}

/* The members that record and API share. */
static json_t *common_members(const struct job *job)
{
	bool ended = job->state == JOB_ENDED;

	return json_pack(
		"{s:s, s:o, s:i, s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o}", "name", job->name, "dut",
		jsontext_new(job->dut), "priority", job->priority, "owner", job->owner, "state",
		state_names[job->state], "attempt", (json_int_t)job->attempt, "status",
		ended ? json_string(job_status_name(job->status)) : json_null(), "reason",
		jsontext_new(job->reason), "verdict", jsontext_new(job->verdict), "message",
		jsontext_new(job->message), "console_base",
		job->has_console ? json_integer((json_int_t)job->console_base) : json_null());
}

/* The DUTs that it waits for, when they are several. */
static json_t *waited_for(const struct job *job)
{
	const char *const *names;
	json_t *duts;
	size_t count;

	if (job->dut)
		return NULL;
	if (!queue_waits(&job->claim))
		return json_incref(job->duts);
	duts = json_array();
	names = queue_duts(&job->claim, &count);
	for (size_t i = 0; i < count; i++)
		(void)json_array_append_new(duts, json_string(names[i]));
	return duts;
}

static json_t *us_or_null(uint64_t us)
{
	return us == UINT64_MAX ? json_null() : json_integer((json_int_t)us);
}

/* What it waits for, and since when. */
static void add_wait(json_t *record, const struct job *job)
{
	json_t *duts = waited_for(job);

	if (duts)
		(void)json_object_set_new(record, "duts", duts);
	(void)json_object_set_new(record, "target", jsontext_new(job->target));
	(void)json_object_set_new(record, "queued", moment_to_json(&job->queued));
	(void)json_object_set_new(record, "wait_us", us_or_null(job->wait_us));
	(void)json_object_set_new(record, "deadline_us", us_or_null(job->deadline_realtime_us));
	(void)json_object_set_new(record, "overall_us", json_integer((json_int_t)job->overall_us));
}

json_t *job_to_record(const struct job *job)
{
	json_t *record = common_members(job), *earlier = json_array();
	json_t *more = json_pack(
		"{s:i, s:I, s:I, s:s, s:b, s:s, s:I, s:I, s:I, s:o}", "v", RECORD_VERSION, "id",
		(json_int_t)job->id, "uid", (json_int_t)job->owner_uid, "nonce", job->nonce,
		"off_pending", job->off_pending, "boot_id", job->boot_id, "submitted_us",
		(json_int_t)job->submitted_us, "started_us", (json_int_t)job->started_us,
		"ended_us", (json_int_t)job->ended_us, "cancel",
		job->cancelled ? json_pack("{s:o, s:o, s:s}", "by", jsontext_new(job->cancel_by),
					   "why", jsontext_new(job->cancel_why), "reason",
					   job_client_cancel_reason(&job->client))
			       : json_null());

	for (unsigned i = 0; i + 1 < job->attempt && i < JOB_MAX_ATTEMPTS; i++)
		(void)json_array_append_new(
			earlier, job->earlier[i].has_console
					 ? json_integer((json_int_t)job->earlier[i].console_base)
					 : json_null());
	(void)json_object_set_new(more, "earlier_bases", earlier);
	add_wait(more, job);
	/* For the next dutd, which may find other files. */
	if (job->dut_config && (job->state != JOB_ENDED || job->off_pending))
		(void)json_object_set(more, "dut_config", job->dut_config);
	if (job->user.uid)
		(void)json_object_set_new(more, "user",
					  json_pack("{s:I, s:I}", "uid", (json_int_t)job->user.uid,
						    "gid", (json_int_t)job->user.gid));
	if (!record || !more || job_client_add_to_record(&job->client, more) < 0 ||
	    json_object_update(record, more) < 0) {
		json_decref(record);
		record = NULL;
	}
	json_decref(more);
	return record;
}

static json_t *time_or_null(uint64_t realtime_us)
{
	char text[CLOCK_ISO_SIZE];

	return realtime_us ? json_string(clock_format_iso(text, realtime_us)) : json_null();
}

/* Of a job that has ended nothing is said before its end is on disk. */
static void hide_end(json_t *object, const struct job *job)
{
	static const char *const of_the_end[] = { "status", "reason", "verdict", "message",
						  "ended" };

	if (job->untold == JOB_INVALID)
		return;
	(void)json_object_set_new(object, "state", json_string(state_names[job->untold]));
	for (size_t i = 0; i < ARRAY_SIZE(of_the_end); i++)
		(void)json_object_set_new(object, of_the_end[i], json_null());
}

static json_t *shown_target(const struct job *job)
{
	json_t *target = job->target ? json_loads(job->target, 0, NULL) : NULL;

	return target ? target : json_null();
}

/* As a submission says it: seconds, or "forever". */
static json_t *shown_wait(const struct job *job)
{
	if (job->wait_us == UINT64_MAX)
		return json_string("forever");
	if (job->wait_us % US_PER_S == 0)
		return json_integer((json_int_t)(job->wait_us / US_PER_S));
	return json_real((double)job->wait_us / US_PER_S);
}

static void add_place(json_t *object, const struct job *job)
{
	bool waits = job_told_state(job) == JOB_WAITING && queue_waits(&job->claim);

	(void)json_object_set_new(object, "target", shown_target(job));
	(void)json_object_set_new(object, "wait", shown_wait(job));
	(void)json_object_set_new(object, "place",
				  waits ? json_integer(queue_place(job->claim.queue, &job->claim))
					: json_null());
	(void)json_object_set_new(
		object, "effective_priority",
		waits ? json_integer(queue_effective_priority(&job->claim, clock_now_us()))
		      : json_null());
	(void)json_object_set_new(object, "expected_end", time_or_null(job_expected_end(job)));
}

json_t *job_to_json(const struct job *job)
{
	json_t *object = common_members(job);
	enum job_state state = job_told_state(job);
	bool lives = state == JOB_STARTING || state == JOB_RUNNING;
	char id[24];

	(void)snprintf(id, sizeof(id), "%" PRIu64, job->id);
	(void)json_object_set_new(object, "id", json_string(id));
	(void)json_object_set_new(object, "phase",
				  lives ? json_string(job_phase_name(job->phase)) : json_null());
	(void)json_object_set_new(object, "submitted", time_or_null(job->submitted_us));
	(void)json_object_set_new(object, "started", time_or_null(job->started_us));
	(void)json_object_set_new(object, "ended", time_or_null(job->ended_us));
	(void)json_object_set_new(object, "pruned", time_or_null(job->pruned_us));
	(void)json_object_set_new(object, "cancel",
				  job->cancelled ? json_pack("{s:o, s:o}", "by",
							     jsontext_new(job->cancel_by), "why",
							     jsontext_new(job->cancel_why))
						 : json_null());
	(void)json_object_set_new(object, "on_disconnect",
				  json_string(job->client.bound ? "cancel" : "continue"));
	add_place(object, job);
	hide_end(object, job);
	return object;
}

static int set_text(char **target, const json_t *value)
{
	char *copy = NULL;

	if (json_is_string(value)) {
		copy = strdup(json_string_value(value));
		if (!copy)
			return -ENOMEM;
	}
	free(*target);
	*target = copy;
	return 0;
}

static enum job_state state_from_name(const char *name)
{
	for (unsigned i = JOB_WAITING; name && i < JOB_STATES; i++)
		if (strcmp(name, state_names[i]) == 0)
			return (enum job_state)i;
	return JOB_INVALID;
}

/* Where the consoles of attempts before the present one began. */
static void fill_earlier(struct job *job, const json_t *bases)
{
	for (size_t i = 0; i < JOB_MAX_ATTEMPTS; i++) {
		const json_t *base = json_array_get(bases, i);

		job->earlier[i].has_console = json_is_integer(base);
		job->earlier[i].console_base = (uint64_t)json_integer_value(base);
	}
}

static uint64_t us_of(const json_t *value, uint64_t otherwise)
{
	json_int_t us = json_integer_value(value);

	return json_is_integer(value) && us >= 0 && us <= MAX_US ? (uint64_t)us : otherwise;
}

static bool is_list_of_names(const json_t *value)
{
	const json_t *name;
	size_t i;

	json_array_foreach(value, i, name)
		if (!json_is_string(name))
			return false;
	return json_array_size(value) > 0;
}

static int fill_wait(struct job *job, const json_t *record, struct error *err)
{
	const json_t *duts = json_object_get(record, "duts");
	json_int_t priority = json_integer_value(json_object_get(record, "priority"));

	if (priority < CLAIM_PRIORITY_MIN || priority > CLAIM_PRIORITY_MAX)
		return error_set(err, -EBADMSG, "its priority is none");
	job->priority = (int)priority;
	moment_from_json(&job->queued, json_object_get(record, "queued"), job->submitted_us);
	job->wait_us = us_of(json_object_get(record, "wait_us"), UINT64_MAX);
	job->deadline_realtime_us = us_of(json_object_get(record, "deadline_us"), UINT64_MAX);
	job->overall_us = us_of(json_object_get(record, "overall_us"), 0);
	if (!job->dut && job->state != JOB_ENDED) {
		if (!is_list_of_names(duts) || job->state != JOB_WAITING)
			return error_set(err, -EBADMSG, "it names no DUT");
		job->duts = json_deep_copy(duts);
	}
	return set_text(&job->target, json_object_get(record, "target")) < 0 ? error_oom(err) : 0;
}

static int fill_from_record(struct job *job, const json_t *record, struct error *err)
{
	const json_t *cancel = json_object_get(record, "cancel");
	const char *nonce = json_string_value(json_object_get(record, "nonce"));
	const char *boot_id = json_string_value(json_object_get(record, "boot_id"));
	const char *status = json_string_value(json_object_get(record, "status"));
	const json_t *base = json_object_get(record, "console_base");
	const json_t *user = json_object_get(record, "user");
	int r = status ? job_status_from_name(status) : (int)JOB_UNKNOWN;

	job->state = state_from_name(json_string_value(json_object_get(record, "state")));
	if (job->state == JOB_INVALID || !nonce || !boot_id || r < 0)
		return error_set(err, -EBADMSG, "its state is not one of ours");
	job->status = (enum job_status)r;
	job->attempt = (unsigned)json_integer_value(json_object_get(record, "attempt"));
	job->off_pending = json_is_true(json_object_get(record, "off_pending"));
	job->submitted_us = (uint64_t)json_integer_value(json_object_get(record, "submitted_us"));
	job->started_us = (uint64_t)json_integer_value(json_object_get(record, "started_us"));
	job->ended_us = (uint64_t)json_integer_value(json_object_get(record, "ended_us"));
	job->has_console = json_is_integer(base);
	job->console_base = (uint64_t)json_integer_value(base);
	job->cancelled = json_is_object(cancel);
	job->user.uid = (uid_t)json_integer_value(json_object_get(user, "uid"));
	job->user.gid = (gid_t)json_integer_value(json_object_get(user, "gid"));
	fill_earlier(job, json_object_get(record, "earlier_bases"));
	(void)snprintf(job->nonce, sizeof(job->nonce), "%s", nonce);
	(void)snprintf(job->boot_id, sizeof(job->boot_id), "%s", boot_id);
	if (set_text(&job->reason, json_object_get(record, "reason")) < 0 ||
	    set_text(&job->verdict, json_object_get(record, "verdict")) < 0 ||
	    set_text(&job->message, json_object_get(record, "message")) < 0 ||
	    set_text(&job->cancel_by, json_object_get(cancel, "by")) < 0 ||
	    set_text(&job->cancel_why, json_object_get(cancel, "why")) < 0)
		return error_oom(err);
	job->dut_config = json_incref(json_object_get(record, "dut_config"));
	r = job_client_from_record(&job->client, record, err);
	return r < 0 ? r : fill_wait(job, record, err);
}

int job_from_record(struct job **ret, const json_t *record, struct error *err)
{
	cleanup_(job_freep) struct job *job = NULL;
	const char *name = json_string_value(json_object_get(record, "name"));
	const char *owner = json_string_value(json_object_get(record, "owner"));
	const char *dut = json_string_value(json_object_get(record, "dut"));
	json_int_t id = json_integer_value(json_object_get(record, "id"));
	json_int_t uid = json_integer_value(json_object_get(record, "uid"));
	int r;

	if (json_integer_value(json_object_get(record, "v")) != RECORD_VERSION || id <= 0 ||
	    !name || !owner)
		return error_set(err, -EBADMSG, "it is no job record of version %d",
				 RECORD_VERSION);
	r = job_new(&job, (uint64_t)id, name, owner, (uid_t)uid, dut, err);
	if (r < 0 || !job)
		return r;
	r = fill_from_record(job, record, err);
	if (r < 0)
		return r;
	*ret = take_ptr(job);
	return 0;
}

char *job_copy_text(const char *text)
{
	return text ? strndup(text, text_whole_utf8(text, strnlen(text, JOB_MAX_TEXT))) : NULL;
}

bool job_set_end(struct job *job, enum job_status status, const char *reason, const char *verdict,
		 const char *message)
{
	if (job_next(job->state, JOB_END) == JOB_INVALID)
		return false;
	binding_end(&job->client.binding);
	queue_remove(&job->claim);
	job->untold = job->state;
	job->state = JOB_ENDED;
	job->status = status;
	job->ended_us = clock_realtime_us();
	free(job->reason);
	free(job->verdict);
	free(job->message);
	job->reason = job_copy_text(reason);
	job->verdict = job_copy_text(verdict);
	job->message = job_copy_text(message);
	return true;
}

int job_begin_attempt(struct job *job, struct error *err)
{
	unsigned char random[(JOB_NONCE_SIZE - 1) / 2];

	if (job_next(job->state, JOB_COMMIT) == JOB_INVALID)
		return error_set(err, -EINVAL, "job %" PRIu64 " is %s", job->id,
				 state_names[job->state]);
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return error_errno(err, "getrandom");
	for (size_t i = 0; i < sizeof(random); i++)
		(void)snprintf(job->nonce + 2 * i, 3, "%02x", random[i]);
	(void)snprintf(job->boot_id, sizeof(job->boot_id), "%s", clock_boot_id());
	if (job->attempt > 0 && job->attempt <= JOB_MAX_ATTEMPTS) {
		job->earlier[job->attempt - 1].has_console = job->has_console;
		job->earlier[job->attempt - 1].console_base = job->console_base;
	}
	job->has_console = false;
	job->console_base = 0;
	job->state = JOB_STARTING;
	job->phase = PHASE_SETUP;
	job->attempt++;
	return 0;
}

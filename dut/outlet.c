/* SPDX-License-Identifier: MIT */
#include "dut/outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

enum { MAX_WAITING = 16 };

struct request {
	struct list link; /* outlet.waiting, or none when it is the present one */
	enum outlet_verb verb;
	bool has_deploy;
	struct power_deploy deploy; /* fds and cmdline are ours */
	outlet_done_fn done;
	void *data;
	bool abandoned; /* an `on` that must not happen any more */
};

/* Where the present request is. */
enum step {
	STEP_NONE,
	STEP_PREPARE,	/* the driver makes the console exist */
	STEP_BEFORE_ON, /* the console is opened and lent */
	STEP_MIN_OFF,	/* the board has not been off for long enough */
	STEP_SWITCH,	/* the driver switches, or reads */
	STEP_SETTLE,
};

struct outlet {
	struct outlet_config config;
	struct outlet_status status;
	uint64_t off_since_us; /* CLOCK_BOOTTIME; 0: not known */
	struct list waiting;   /* request.link */
	unsigned n_waiting;
	struct request *current;
	enum step step;
	struct power_result result; /* of the present request */
	sd_event_source *timer, *defer;
};

static void advance(struct outlet *outlet);

static void deploy_done(struct power_deploy *deploy)
{
	deploy->kernel_fd = close_fd(deploy->kernel_fd);
	deploy->initramfs_fd = close_fd(deploy->initramfs_fd);
	deploy->dtb_fd = close_fd(deploy->dtb_fd);
	free((void *)(uintptr_t)deploy->cmdline);
	deploy->cmdline = NULL;
}

static struct request *request_free(struct request *request)
{
	if (request) {
		list_remove(&request->link);
		if (request->has_deploy)
			deploy_done(&request->deploy);
		free(request);
	}
	return NULL;
}

struct outlet *outlet_free(struct outlet *outlet)
{
	if (!outlet)
		return NULL;
	LIST_FOREACH_SAFE(link, after, &outlet->waiting)
		request_free(CONTAINER_OF(link, struct request, link));
	outlet->config.power = power_close(outlet->config.power);
	request_free(outlet->current);
	sd_event_source_disable_unref(outlet->timer);
	sd_event_source_disable_unref(outlet->defer);
	free(outlet);
	return NULL;
}

static void note_state(struct outlet *outlet, const struct power_result *result)
{
	struct outlet_status *status = &outlet->status;

	if (result->state != status->state || !status->since_realtime_us) {
		status->since_realtime_us = clock_realtime_us();
		if (result->state == POWER_OFF)
			outlet->off_since_us = clock_now_us();
	}
	status->state = result->state;
	status->verified = result->verified;
	status->text[0] = '\0';
	if (result->error < 0)
		memcpy(status->text, result->text.text, sizeof(status->text));
}

static void finish(struct outlet *outlet)
{
	struct request *request = outlet->current;
	enum outlet_verb verb = request->verb;

	outlet->current = NULL;
	outlet->step = STEP_NONE;
	outlet->config.after(verb, outlet->config.data);
	if (request->done)
		request->done(&outlet->result, request->data);
	request_free(request);
	if (!list_empty(&outlet->waiting))
		(void)sd_event_source_set_enabled(outlet->defer, SD_EVENT_ONESHOT);
}

/* The `on` was given up before the switch: the power is as it was. */
static void give_up(struct outlet *outlet, int r, const struct error *err)
{
	outlet->result = (struct power_result){ .error = r,
						.state = outlet->status.state,
						.verified = outlet->status.verified };
	if (err)
		outlet->result.text = *err;
	note_state(outlet, &outlet->result);
	finish(outlet);
}

/* The driver could not do its part. */
static void fail(struct outlet *outlet, const struct power_result *result)
{
	outlet->result = *result;
	note_state(outlet, result);
	finish(outlet);
}

/* It could not even begin: nobody knows what the power is. */
static void fail_to_begin(struct outlet *outlet, int r, const struct error *err)
{
	fail(outlet, &(struct power_result){ .error = r, .text = *err });
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	advance(data);
	return 0;
}

static void wait_until(struct outlet *outlet, uint64_t at_us)
{
	(void)sd_event_source_set_time(outlet->timer, at_us);
	(void)sd_event_source_set_enabled(outlet->timer, SD_EVENT_ONESHOT);
}

static bool is_switch(enum outlet_verb verb)
{
	return verb == OUTLET_ON || verb == OUTLET_OFF;
}

/* What the driver says at the end of an operation. */
static void on_power_done(struct power *power, const struct power_result *result, void *data)
{
	struct outlet *outlet = data;
	enum power_state wanted = outlet->current->verb == OUTLET_ON ? POWER_ON : POWER_OFF;
	bool changed;

	(void)power;
	if (outlet->step == STEP_PREPARE) {
		if (result->error < 0)
			fail(outlet, result);
		else
			advance(outlet);
		return;
	}
	changed = result->state != outlet->status.state;
	note_state(outlet, result);
	outlet->result = *result;
	if (result->error >= 0 && is_switch(outlet->current->verb) && result->state != wanted) {
		outlet->result.error = error_set(
			&outlet->result.text, -EIO, "switched %s, but the power reads back %s",
			wanted == POWER_ON ? "on" : "off", power_state_name(result->state));
		memcpy(outlet->status.text, outlet->result.text.text, sizeof(outlet->status.text));
	}
	if (outlet->result.error < 0 || !is_switch(outlet->current->verb) || !changed ||
	    outlet->config.settle_us == 0) {
		finish(outlet);
		return;
	}
	outlet->step = STEP_SETTLE;
	wait_until(outlet, clock_now_us() + outlet->config.settle_us);
}

static void begin_switch(struct outlet *outlet)
{
	struct error err;
	int r;

	outlet->step = STEP_SWITCH;
	if (outlet->current->verb == OUTLET_READ)
		r = power_read(outlet->config.power, on_power_done, outlet, &err);
	else if (outlet->current->verb == OUTLET_END)
		r = power_end(outlet->config.power, on_power_done, outlet, &err);
	else
		r = power_switch(outlet->config.power, outlet->current->verb == OUTLET_ON,
				 on_power_done, outlet, &err);
	if (r < 0)
		fail_to_begin(outlet, r, &err);
}

static void begin(struct outlet *outlet)
{
	struct request *request = outlet->current;
	struct error err;
	int r;

	if (request->verb != OUTLET_ON) {
		begin_switch(outlet);
		return;
	}
	outlet->step = STEP_PREPARE;
	r = power_prepare(outlet->config.power, request->has_deploy ? &request->deploy : NULL,
			  on_power_done, outlet, &err);
	if (r < 0)
		fail_to_begin(outlet, r, &err);
}

/* The next step of the present request. */
static void advance(struct outlet *outlet)
{
	uint64_t ready_us = outlet->off_since_us + outlet->config.min_off_us;

	switch (outlet->step) {
	case STEP_NONE:
		begin(outlet);
		break;
	case STEP_PREPARE:
		if (outlet->current->abandoned) {
			give_up(outlet, -ECANCELED, NULL);
			break;
		}
		outlet->step = STEP_BEFORE_ON;
		outlet->config.before_on(outlet->config.data);
		break;
	case STEP_BEFORE_ON:
		if (outlet->status.state == POWER_OFF && outlet->off_since_us &&
		    clock_now_us() < ready_us) {
			outlet->step = STEP_MIN_OFF;
			wait_until(outlet, ready_us);
			break;
		}
		begin_switch(outlet);
		break;
	case STEP_MIN_OFF:
		begin_switch(outlet);
		break;
	case STEP_SETTLE:
		finish(outlet);
		break;
	case STEP_SWITCH:
		break; /* on_power_done() leads on */
	}
}

void outlet_continue(struct outlet *outlet, int r, const struct error *err)
{
	if (outlet->step != STEP_BEFORE_ON)
		return;
	if (r < 0)
		give_up(outlet, r, err);
	else
		advance(outlet);
}

bool outlet_waits(const struct outlet *outlet)
{
	return outlet->step == STEP_BEFORE_ON;
}

bool outlet_busy(const struct outlet *outlet)
{
	return outlet->current || !list_empty(&outlet->waiting);
}

unsigned outlet_waiting(const struct outlet *outlet)
{
	return outlet->n_waiting;
}

bool outlet_switches(const struct outlet *outlet)
{
	if (outlet->current && outlet->current->verb != OUTLET_READ)
		return true;
	LIST_FOREACH(link, &outlet->waiting)
		if (CONTAINER_OF(link, struct request, link)->verb != OUTLET_READ)
			return true;
	return false;
}

/* Begins the next request, from the loop. */
static int on_defer(sd_event_source *source, void *data)
{
	struct outlet *outlet = data;

	(void)source;
	if (outlet->current || list_empty(&outlet->waiting))
		return 0;
	outlet->current = CONTAINER_OF(outlet->waiting.next, struct request, link);
	list_remove(&outlet->current->link);
	outlet->n_waiting--;
	advance(outlet);
	return 0;
}

/* The state has changed by itself. An operation that is under way will tell it. */
static void on_power_changed(void *data)
{
	struct outlet *outlet = data;

	if (!outlet_busy(outlet))
		(void)outlet_request(outlet, OUTLET_READ, NULL, NULL, NULL, NULL);
}

CLEANUP_DEFINE(struct outlet *, outlet_free)

int outlet_new(struct outlet **ret, const struct outlet_config *config, struct error *err)
{
	cleanup_(outlet_freep) struct outlet *outlet = calloc(1, sizeof(*outlet));
	int r;

	if (!outlet)
		return error_oom(err);
	outlet->config = *config;
	outlet->config.power = NULL; /* ours only on success */
	list_init(&outlet->waiting);
	r = sd_event_add_time(config->event, &outlet->timer, CLOCK_BOOTTIME, 0, 1, on_timer,
			      outlet);
	if (r >= 0)
		r = sd_event_source_set_enabled(outlet->timer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_defer(config->event, &outlet->defer, on_defer, outlet);
	if (r >= 0)
		r = sd_event_source_set_enabled(outlet->defer, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "cannot add the outlet's timer");
	(void)sd_event_source_set_description(outlet->timer, "outlet");
	(void)sd_event_source_set_description(outlet->defer, "outlet-next");
	outlet->config.power = config->power;
	power_watch(config->power, on_power_changed, outlet);
	*ret = take_ptr(outlet);
	return 0;
}

void outlet_set_times(struct outlet *outlet, uint64_t min_off_us, uint64_t settle_us)
{
	outlet->config.min_off_us = min_off_us;
	outlet->config.settle_us = settle_us;
}

bool outlet_has_times(const struct outlet *outlet, uint64_t min_off_us, uint64_t settle_us)
{
	return outlet->config.min_off_us == min_off_us && outlet->config.settle_us == settle_us;
}

int outlet_request(struct outlet *outlet, enum outlet_verb verb, struct power_deploy *deploy,
		   outlet_done_fn done, void *data, struct error *err)
{
	struct request *request = calloc(1, sizeof(*request));
	int r;

	if (!request || outlet->n_waiting >= MAX_WAITING) {
		r = request ? error_set(err, -EAGAIN, "%d power operations wait already",
					MAX_WAITING)
			    : error_oom(err);
		free(request);
		if (deploy)
			deploy_done(deploy);
		return r;
	}
	list_init(&request->link);
	request->verb = verb;
	request->done = done;
	request->data = data;
	if (deploy) {
		request->deploy = *deploy;
		request->has_deploy = true;
	}
	list_append(&outlet->waiting, &request->link);
	outlet->n_waiting++;
	(void)sd_event_source_set_enabled(outlet->defer, SD_EVENT_ONESHOT);
	return 0;
}

void outlet_forget(struct outlet *outlet, void *data)
{
	if (outlet->current && outlet->current->data == data)
		outlet->current->done = NULL;
	LIST_FOREACH(link, &outlet->waiting) {
		struct request *request = CONTAINER_OF(link, struct request, link);

		if (request->data == data)
			request->done = NULL;
	}
}

void outlet_abandon(struct outlet *outlet, void *data)
{
	struct request *current = outlet->current;

	outlet_forget(outlet, data);
	LIST_FOREACH_SAFE(link, after, &outlet->waiting) {
		struct request *request = CONTAINER_OF(link, struct request, link);

		if (request->data == data && request->verb == OUTLET_ON) {
			request_free(request);
			outlet->n_waiting--;
		}
	}
	if (!current || current->data != data || current->verb != OUTLET_ON)
		return;
	current->abandoned = true;
	if (outlet->step == STEP_BEFORE_ON || outlet->step == STEP_MIN_OFF) {
		(void)sd_event_source_set_enabled(outlet->timer, SD_EVENT_OFF);
		give_up(outlet, -ECANCELED, NULL);
	}
}

const struct outlet_status *outlet_status(const struct outlet *outlet)
{
	return &outlet->status;
}

struct power *outlet_power(const struct outlet *outlet)
{
	return outlet->config.power;
}

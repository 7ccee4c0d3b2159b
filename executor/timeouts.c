/* SPDX-License-Identifier: MIT */
#include "executor/timeouts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char watchdog_prefix[] = "watchdogs.";

static const double usec_per_sec = 1e6;

static struct timeout make_timeout(const char *name, const struct timeout_spec *spec, bool pauses)
{
	return (struct timeout){
		.name = name,
		.limit_us = spec->limit_us,
		.retries = spec->retries,
		.pauses = pauses,
	};
}

static bool is_boot_timeout(size_t index)
{
	return index >= TIMEOUT_WATCHDOGS || index == TIMEOUT_BOOT_CYCLE ||
	       index == TIMEOUT_FIRST_CONSOLE_ACTIVITY || index == TIMEOUT_CONSOLE_ACTIVITY;
}

/* Writes "watchdogs.NAME" for each watchdog into one piece of memory, one after the other. */
static char *make_names(const struct description *description)
{
	size_t size = 1;
	char *names, *end;

	for (size_t i = 0; i < description->n_watchdogs; i++)
		size += sizeof(watchdog_prefix) + strlen(description->watchdogs[i].name);
	names = malloc(size);
	if (!names)
		return NULL;
	end = names;
	for (size_t i = 0; i < description->n_watchdogs; i++) {
		end = stpcpy(end, watchdog_prefix);
		end = stpcpy(end, description->watchdogs[i].name) + 1;
	}
	return names;
}

int timeouts_init(struct timeouts *timeouts, const struct description *description,
		  uint64_t daemon_us)
{
	const struct timeout_spec daemon = { .limit_us = daemon_us };
	size_t count = TIMEOUT_WATCHDOGS + description->n_watchdogs;
	const char *name;

	*timeouts = (struct timeouts){
		.items = calloc(count, sizeof(*timeouts->items)),
		.names = make_names(description),
		.count = count,
	};
	if (!timeouts->items || !timeouts->names) {
		timeouts_done(timeouts);
		return -ENOMEM;
	}
	for (size_t i = 0; i < TIMEOUT_NAMES; i++)
		timeouts->items[i] = make_timeout(timeout_name_text((enum timeout_name)i),
						  &description->timeouts[i], is_boot_timeout(i));
	timeouts->items[TIMEOUT_DAEMON] = make_timeout("daemon", &daemon, false);
	name = timeouts->names;
	for (size_t i = 0; i < description->n_watchdogs; i++) {
		timeouts->items[TIMEOUT_WATCHDOGS + i] =
			make_timeout(name, &description->watchdogs[i].timeout, true);
		name += strlen(name) + 1;
	}
	return 0;
}

void timeouts_done(struct timeouts *timeouts)
{
	free(timeouts->items);
	free(timeouts->names);
	*timeouts = (struct timeouts){ 0 };
}

void timeouts_start(struct timeouts *timeouts, size_t index, uint64_t now_us)
{
	struct timeout *timeout = &timeouts->items[index];

	if (timeout->limit_us == DURATION_INFINITE)
		return;
	timeout->running = true;
	timeout->left_us = timeout->limit_us;
	timeout->deadline_us =
		timeout->limit_us < UINT64_MAX - now_us ? now_us + timeout->limit_us : UINT64_MAX;
}

void timeouts_stop(struct timeouts *timeouts, size_t index)
{
	timeouts->items[index].running = false;
}

void timeouts_stop_boot(struct timeouts *timeouts)
{
	for (size_t i = 0; i < timeouts->count; i++)
		if (is_boot_timeout(i))
			timeouts_stop(timeouts, i);
}

static bool stands_still(const struct timeouts *timeouts, const struct timeout *timeout)
{
	return timeouts->paused && timeout->pauses;
}

static uint64_t left_us(const struct timeout *timeout, uint64_t now_us)
{
	return timeout->deadline_us > now_us ? timeout->deadline_us - now_us : 0;
}

void timeouts_pause(struct timeouts *timeouts, uint64_t now_us)
{
	if (timeouts->paused)
		return;
	timeouts->paused = true;
	for (size_t i = 0; i < timeouts->count; i++) {
		struct timeout *timeout = &timeouts->items[i];

		if (timeout->running && timeout->pauses)
			timeout->left_us = left_us(timeout, now_us);
	}
}

void timeouts_resume(struct timeouts *timeouts, uint64_t now_us)
{
	if (!timeouts->paused)
		return;
	timeouts->paused = false;
	for (size_t i = 0; i < timeouts->count; i++) {
		struct timeout *timeout = &timeouts->items[i];

		if (timeout->running && timeout->pauses)
			timeout->deadline_us = now_us + timeout->left_us;
	}
}

uint64_t timeouts_next_us(const struct timeouts *timeouts)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < timeouts->count; i++) {
		const struct timeout *timeout = &timeouts->items[i];

		if (timeout->running && !stands_still(timeouts, timeout) &&
		    timeout->deadline_us < next)
			next = timeout->deadline_us;
	}
	return next;
}

bool timeouts_expired(struct timeouts *timeouts, uint64_t now_us, size_t *ret_index)
{
	for (size_t i = 0; i < timeouts->count; i++) {
		struct timeout *timeout = &timeouts->items[i];

		if (timeout->running && !stands_still(timeouts, timeout) &&
		    timeout->deadline_us < now_us) {
			timeout->running = false;
			*ret_index = i;
			return true;
		}
	}
	return false;
}

enum timeout_verdict timeouts_spend(struct timeouts *timeouts, size_t index)
{
	struct timeout *timeout = &timeouts->items[index];

	if (timeout->retried >= timeout->retries)
		return TIMEOUT_ABORT;
	timeout->retried++;
	return TIMEOUT_RETRY;
}

uint64_t timeouts_left_us(const struct timeouts *timeouts, size_t index, uint64_t now_us)
{
	const struct timeout *timeout = &timeouts->items[index];

	if (!timeout->running)
		return UINT64_MAX;
	return stands_still(timeouts, timeout) ? timeout->left_us : left_us(timeout, now_us);
}

static json_t *seconds(uint64_t duration_us)
{
	if (duration_us == UINT64_MAX)
		return json_null();
	if (duration_us % (uint64_t)usec_per_sec == 0)
		return json_integer((json_int_t)(duration_us / (uint64_t)usec_per_sec));
	return json_real((double)duration_us / usec_per_sec);
}

static json_t *describe(const struct timeout *timeout)
{
	return json_pack("{s:o, s:i, s:i}", "limit", seconds(timeout->limit_us), "retries",
			 (int)timeout->retries, "retried", (int)timeout->retried);
}

json_t *timeouts_result(const struct timeouts *timeouts)
{
	json_t *result = json_object();

	for (size_t i = 0; i < timeouts->count; i++)
		(void)json_object_set_new(result, timeouts->items[i].name,
					  describe(&timeouts->items[i]));
	return result;
}

static void write_seconds(struct jsontext *json, const char *key, uint64_t duration_us)
{
	if (duration_us == UINT64_MAX)
		jsontext_text(json, key, NULL);
	else if (duration_us % (uint64_t)usec_per_sec == 0)
		jsontext_integer(json, key, (int64_t)(duration_us / (uint64_t)usec_per_sec));
	else
		jsontext_real(json, key, (double)duration_us / usec_per_sec);
}

void timeouts_write_state(const struct timeouts *timeouts, uint64_t now_us, struct jsontext *json)
{
	jsontext_open_object(json, "timeouts");
	for (size_t i = 0; i < timeouts->count; i++) {
		const struct timeout *timeout = &timeouts->items[i];

		if (!timeout->running)
			continue;
		jsontext_open_object(json, timeout->name);
		write_seconds(json, "limit", timeout->limit_us);
		jsontext_integer(json, "retries", timeout->retries);
		jsontext_integer(json, "retried", timeout->retried);
		write_seconds(json, "remaining", timeouts_left_us(timeouts, i, now_us));
		jsontext_close_object(json);
	}
	jsontext_close_object(json);
}

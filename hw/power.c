/* SPDX-License-Identifier: MIT */
#include "hw/power.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "hw/drivers.h"

static const struct power_driver *const drivers[] = { &power_qemu, &power_sim };

/* Drivers that people will ask for, and that are not written yet. */
static const char *const later[] = { "gpio", "serial-relay", "usb-relay", "usb-hub", "command",
				     "http", "snmp",	     "pdudaemon", NULL };

struct power_core {
	struct power_config config;
	sd_event_source *defer; /* runs done, so that it never runs inside the call that asked */
	bool busy;
	struct power_result result;
	power_done_fn done;
	void *data;
	void (*changed)(void *data);
	void *changed_data;
};

const char *power_state_name(enum power_state state)
{
	static const char *const names[] = {
		[POWER_UNKNOWN] = "UNKNOWN",
		[POWER_OFF] = "OFF",
		[POWER_ON] = "ON",
	};

	return names[state];
}

static const struct power_driver *find_driver(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (strcmp(name, drivers[i]->name) == 0)
			return drivers[i];
	return NULL;
}

static bool is_one_of(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (strcmp(name, *names) == 0)
			return true;
	return false;
}

int power_check(const char *driver, const struct yaml_node *keys, struct problems *problems)
{
	const struct power_driver *found = find_driver(driver);
	const char *names[ARRAY_SIZE(drivers) + 1] = { NULL };
	const char *nearest;

	if (found) {
		found->check(keys, problems);
		return 0;
	}
	if (is_one_of(driver, later)) {
		problems_add_at(problems, keys, NULL, "not yet: driver '%s'", driver);
		return -ENOENT;
	}
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		names[i] = drivers[i]->name;
	nearest = text_nearest(driver, names);
	problems_add_at(problems, keys, NULL, "there is no power driver '%s'%s%s%s", driver,
			nearest ? "; did you mean '" : "", nearest ? nearest : "",
			nearest ? "'?" : "");
	return -ENOENT;
}

bool power_driver_has_deploy(const char *driver)
{
	const struct power_driver *found = find_driver(driver);

	return found && found->has_deploy;
}

bool power_key_is_path(const char *driver, const char *key)
{
	const struct power_driver *found = find_driver(driver);

	return found && found->paths && is_one_of(key, found->paths);
}

bool power_driver_is_virtual(const char *driver)
{
	const struct power_driver *found = find_driver(driver);

	return found && found->is_virtual;
}

static int on_defer(sd_event_source *source, void *data)
{
	struct power *power = data;
	struct power_core *core = power->core;
	/* done may begin the next operation, and even close us. */
	const struct power_result result = core->result;
	power_done_fn done = core->done;

	(void)source;
	core->busy = false;
	core->done = NULL;
	done(power, &result, core->data);
	return 0;
}

static void core_free(struct power_core *core)
{
	sd_event_source_disable_unref(core->defer);
	free(core);
}

static void core_freep(struct power_core **core)
{
	if (*core)
		core_free(*core);
}

int power_open(struct power **ret, const struct power_config *config, struct error *err)
{
	const struct power_driver *driver = find_driver(config->driver);
	cleanup_(core_freep) struct power_core *core = calloc(1, sizeof(*core));
	struct power *power = NULL;
	int r;

	if (!core)
		return error_oom(err);
	if (!driver)
		return error_set(err, -ENOENT, "there is no power driver '%s'", config->driver);
	core->config = *config;
	r = driver->open(&power, &core->config, err);
	if (r < 0)
		return r;
	power->driver = driver;
	power->config = &core->config;
	power->core = take_ptr(core);
	r = sd_event_add_defer(config->event, &power->core->defer, on_defer, power);
	if (r >= 0)
		r = sd_event_source_set_enabled(power->core->defer, SD_EVENT_OFF);
	if (r < 0) {
		power_close(power);
		return error_code(err, r, "cannot add an event source");
	}
	(void)sd_event_source_set_description(power->core->defer, "power-done");
	*ret = power;
	return 0;
}

struct power *power_close(struct power *power)
{
	struct power_core *core;

	if (!power)
		return NULL;
	core = power->core;
	power->driver->close(power);
	core_free(core);
	return NULL;
}

static int start(struct power *power, enum power_operation operation,
		 const struct power_deploy *deploy, power_done_fn done, void *data,
		 struct error *err)
{
	struct power_core *core = power->core;
	int r;

	if (core->busy)
		return error_set(err, -EBUSY, "a power operation is under way already");
	core->busy = true;
	core->done = done;
	core->data = data;
	r = power->driver->start(power, operation, deploy, err);
	if (r < 0) {
		core->busy = false;
		core->done = NULL;
	}
	return r;
}

void power_finish(struct power *power, const struct power_result *result)
{
	struct power_core *core = power->core;

	core->result = *result;
	(void)sd_event_source_set_enabled(core->defer, SD_EVENT_ONESHOT);
}

void power_watch(struct power *power, void (*changed)(void *data), void *data)
{
	power->core->changed = changed;
	power->core->changed_data = data;
}

void power_changed(struct power *power)
{
	struct power_core *core = power->core;

	if (!core->busy && core->changed)
		core->changed(core->changed_data);
}

int power_prepare(struct power *power, const struct power_deploy *deploy, power_done_fn done,
		  void *data, struct error *err)
{
	return start(power, POWER_OP_PREPARE, deploy, done, data, err);
}

int power_switch(struct power *power, bool on, power_done_fn done, void *data, struct error *err)
{
	return start(power, on ? POWER_OP_ON : POWER_OP_OFF, NULL, done, data, err);
}

int power_read(struct power *power, power_done_fn done, void *data, struct error *err)
{
	return start(power, POWER_OP_READ, NULL, done, data, err);
}

int power_end(struct power *power, power_done_fn done, void *data, struct error *err)
{
	bool is_virtual = power->driver->is_virtual;

	return start(power, is_virtual ? POWER_OP_END : POWER_OP_READ, NULL, done, data, err);
}

void power_release(struct power *power)
{
	if (power->driver->release)
		power->driver->release(power);
}

/* SPDX-License-Identifier: MIT */
#include "hw/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "hw/drivers.h"

static const struct console_driver *const drivers[] = { &console_qemu, &console_sim };

/* Drivers that people will ask for, and that are not written yet. */
static const char *const later[] = {
	"serial", "tcp", "telnet", "rfc2217", "unix", "pty", "command"
};

static const struct console_driver *find_driver(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (strcmp(name, drivers[i]->name) == 0)
			return drivers[i];
	return NULL;
}

int console_check(const char *driver, const struct yaml_node *keys, struct problems *problems)
{
	const struct console_driver *found = find_driver(driver);
	const char *names[ARRAY_SIZE(drivers) + 1] = { NULL };
	const char *nearest;

	if (found) {
		found->check(keys, problems);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(later); i++) {
		if (strcmp(driver, later[i]) == 0) {
			problems_add_at(problems, keys, NULL, "not yet: driver '%s'", driver);
			return -ENOENT;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		names[i] = drivers[i]->name;
	nearest = text_nearest(driver, names);
	problems_add_at(problems, keys, NULL, "there is no console driver '%s'%s%s%s", driver,
			nearest ? "; did you mean '" : "", nearest ? nearest : "",
			nearest ? "'?" : "");
	return -ENOENT;
}

int console_open(struct console **ret, const struct console_config *config, struct error *err)
{
	const struct console_driver *driver = find_driver(config->driver);
	free_ struct console_config *copy = malloc(sizeof(*copy));
	struct console *console = NULL;
	int r;

	if (!copy)
		return error_oom(err);
	if (!driver)
		return error_set(err, -ENOENT, "there is no console driver '%s'", config->driver);
	*copy = *config;
	r = driver->open(&console, copy, err);
	if (r < 0)
		return r;
	console->driver = driver;
	console->config = take_ptr(copy);
	*ret = console;
	return 0;
}

struct console *console_close(struct console *console)
{
	const struct console_config *config;

	if (!console)
		return NULL;
	config = console->config;
	console->driver->close(console);
	free((void *)(uintptr_t)config);
	return NULL;
}

int console_connect(struct console *console, int *ret_fd, struct error *err)
{
	return console->driver->connect(console, ret_fd, err);
}

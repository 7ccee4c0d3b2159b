/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "executor/description-internal.h"

/* `timeouts:` of a job file. */

static const uint64_t DEFAULT_OVERALL_US = UINT64_C(6) * 3600 * 1000000;
static const uint64_t DEFAULT_TEARDOWN_US = UINT64_C(10) * 60 * 1000000;

static const struct {
	const char *name;
	double us;
} units[] = {
	{ "days", 86400e6 }, { "hours", 3600e6 },     { "minutes", 60e6 },
	{ "seconds", 1e6 },  { "milliseconds", 1e3 },
};

static uint64_t fact_us(const struct reader *reader, const char *group, const char *name,
			uint64_t otherwise)
{
	const json_t *value = json_object_get(json_object_get(reader->facts, group), name);

	return json_is_integer(value) && json_integer_value(value) > 0
		       ? (uint64_t)json_integer_value(value)
		       : otherwise;
}

/* A number of one unit; false after a problem. */
static bool add_unit(const struct reader *reader, const struct yaml_node *node, const char *path,
		     double us, double *sum)
{
	free_ char *text = reader_text(reader, node, path, NULL);
	char *end = NULL;
	double number;

	if (!text)
		return true;
	number = strtod(text, &end);
	if (end == text || *end || !isfinite(number) || number < 0 || number > 1e9) {
		problems_add_at(reader->problems, node, path,
				"%s must be a number that is not negative", path);
		return false;
	}
	*sum += number * us;
	return true;
}

static void read_retries(const struct reader *reader, const struct yaml_node *node,
			 const char *path, unsigned *ret)
{
	free_ char *text = reader_text(reader, node, path, NULL);
	uint64_t number;

	if (!text)
		return;
	if (text_to_uint64(&number, text, 0, 1000000, NULL) < 0)
		problems_add_at(reader->problems, node, path, "%s must be a whole number from 0",
				path);
	else
		*ret = (unsigned)number;
}

static void read_duration(const struct reader *reader, const struct yaml_node *node,
			  const char *path, uint64_t *ret_us)
{
	free_ char *text = reader_text(reader, node, path, NULL);
	struct error err;

	if (!text)
		return;
	if (text_to_duration_us(ret_us, text, &err) < 0)
		problems_add_at(reader->problems, node, path, "%s: %s", path, err.text);
	else if (*ret_us == 0)
		problems_add_at(reader->problems, node, path,
				"%s is 0: it would run out at once; leave it out for no limit",
				path);
}

/* {days, hours ... retries} or {for, retries}. */
static void read_units(const struct reader *reader, const struct yaml_node *node, const char *path,
		       struct timeout_spec *spec)
{
	static const char *const known[] = { "for",	"days",		"hours",   "minutes",
					     "seconds", "milliseconds", "retries", NULL };
	bool any = false, good = true;
	char key[KEY_SIZE];
	double sum = 0;

	yaml_check_keys(node, path, known, reader->problems);
	spec->limit_us = DURATION_INFINITE;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		const struct yaml_node *child = yaml_get(node, units[i].name);

		if (!child || yaml_is_null(child))
			continue;
		any = true;
		reader_join(key, path, units[i].name);
		good = add_unit(reader, child, key, units[i].us, &sum) && good;
	}
	if (yaml_get(node, "for")) {
		if (any)
			problems_add_at(reader->problems, yaml_get(node, "for"), path,
					"%s: 'for' stands beside units; one of them is enough",
					path);
		reader_join(key, path, "for");
		read_duration(reader, yaml_get(node, "for"), key, &spec->limit_us);
	} else if (any && good) {
		spec->limit_us = (uint64_t)sum;
		if (spec->limit_us == 0)
			problems_add_at(
				reader->problems, node, path,
				"%s is 0: it would run out at once; leave it out for no limit",
				path);
	}
	reader_join(key, path, "retries");
	read_retries(reader, yaml_get(node, "retries"), key, &spec->retries);
}

static void read_timeout(const struct reader *reader, const struct yaml_node *node,
			 const char *path, struct timeout_spec *spec)
{
	if (!node || yaml_is_null(node))
		return;
	if (node->kind == YAML_MAPPING)
		read_units(reader, node, path, spec);
	else if (node->kind == YAML_SCALAR)
		read_duration(reader, node, path, &spec->limit_us);
	else
		problems_add_at(reader->problems, node, path,
				"%s must be a duration, or a mapping of units and retries", path);
}

static void refuse_retries(const struct reader *reader, const struct yaml_node *node,
			   enum timeout_name name)
{
	if (reader->description->timeouts[name].retries > 0)
		problems_add_at(reader->problems, yaml_get(node, timeout_name_text(name)),
				timeout_name_text(name), "timeouts.%s cannot be retried",
				timeout_name_text(name));
}

static void cap_overall(const struct reader *reader, const struct yaml_node *node)
{
	struct timeout_spec *overall = &reader->description->timeouts[TIMEOUT_OVERALL];
	uint64_t limit_us = fact_us(reader, "limits", "overall", DURATION_INFINITE);
	char text[48];

	if (overall->limit_us <= limit_us)
		return;
	if (node && !yaml_is_null(node))
		problems_add_at(
			reader->problems, node, "timeouts.overall",
			"timeouts.overall is over the limit of this gateway, limits.overall = %s",
			text_format_duration(text, sizeof(text), limit_us));
	overall->limit_us = limit_us;
}

static void read_watchdogs(const struct reader *reader, const struct yaml_node *node)
{
	char path[KEY_SIZE];

	if (!reader_mapping(reader, node, "timeouts.watchdogs", NULL))
		return;
	YAML_FOREACH(child, node) {
		struct watchdog *watchdog = reader_watchdog(reader, child->key);

		reader_join(path, "timeouts.watchdogs", child->key);
		if (watchdog)
			read_timeout(reader, child, path, &watchdog->timeout);
	}
}

void reader_timeouts(const struct reader *reader, const struct yaml_node *node)
{
	static const char *const known[] = { "overall",
					     "infra_setup",
					     "infra_teardown",
					     "boot_cycle",
					     "first_console_activity",
					     "console_activity",
					     "watchdogs",
					     NULL };
	struct timeout_spec *specs = reader->description->timeouts;
	char path[KEY_SIZE];

	for (size_t i = 0; i < TIMEOUT_NAMES; i++)
		specs[i].limit_us = DURATION_INFINITE;
	specs[TIMEOUT_OVERALL].limit_us =
		fact_us(reader, "timeouts", "overall", DEFAULT_OVERALL_US);
	specs[TIMEOUT_INFRA_TEARDOWN].limit_us =
		fact_us(reader, "timeouts", "infra_teardown", DEFAULT_TEARDOWN_US);
	if (yaml_get(node, "firmware_boot"))
		problems_add_at(reader->problems, yaml_get(node, "firmware_boot"),
				"timeouts.firmware_boot", "not supported: firmware_boot");
	else if (reader_mapping(reader, node, "timeouts", known)) {
		for (size_t i = 0; i < TIMEOUT_NAMES; i++) {
			reader_join(path, "timeouts", timeout_name_text((enum timeout_name)i));
			read_timeout(reader,
				     yaml_get(node, timeout_name_text((enum timeout_name)i)), path,
				     &specs[i]);
		}
		refuse_retries(reader, node, TIMEOUT_OVERALL);
		refuse_retries(reader, node, TIMEOUT_INFRA_TEARDOWN);
		read_watchdogs(reader, yaml_get(node, "watchdogs"));
	}
	cap_overall(reader, yaml_get(node, "overall"));
}

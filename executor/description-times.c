/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/text.h"
#include "executor/description-internal.h"

/* `timeouts:` of a job file. */

enum { RETRIES_MAX = 1000000, DAYS_MAX = 36500 /* as in text_to_duration_us() */ };

static const uint64_t DEFAULT_OVERALL_US = UINT64_C(6) * 3600 * 1000000;
static const uint64_t DEFAULT_TEARDOWN_US = UINT64_C(10) * 60 * 1000000;
static const double US_PER_DAY = 86400e6;

static const struct {
	const char *name;
	double us;
} units[] = {
	{ "days", 86400e6 }, { "hours", 3600e6 },     { "minutes", 60e6 },
	{ "seconds", 1e6 },  { "milliseconds", 1e3 },
};

/* A number without sign, blanks, names and hexadecimal digits, which strtod() would take. */
static bool read_number(const char *text, double *ret)
{
	char *end = NULL;

	if (!*text || text[strspn(text, "0123456789.eE+-")] || *text == '+')
		return false;
	*ret = strtod(text, &end);
	return !*end && isfinite(*ret);
}

/* Adds one unit; false for what is no number. */
static bool add_unit(struct reader *reader, const struct yaml_node *node, const char *path,
		     double us, double *sum)
{
	const char *text = reader_text(reader, node, path);
	double number = 0;

	if (!text)
		return false;
	if (!read_number(text, &number)) {
		reader_fault(reader, node, path, "%s must be a number, '%.32s' is none", path,
			     text);
		return false;
	}
	if (number < 0) {
		reader_fault(reader, node, path, "%s is negative", path);
		return false;
	}
	*sum += number * us;
	return true;
}

static void read_retries(struct reader *reader, const struct yaml_node *node, const char *path,
			 struct timeout_spec *spec)
{
	const char *text = reader_text(reader, node, path);
	uint64_t number;
	struct error err;

	if (!text)
		return;
	if (text_to_uint64(&number, text, 0, RETRIES_MAX, &err) < 0)
		reader_fault(reader, node, path, "%s: %s", path, err.text);
	else
		spec->retries = (unsigned)number;
}

static void refuse_zero(struct reader *reader, const struct yaml_node *node, const char *path)
{
	reader_fault(reader, node, path, "%s is 0 and would run out at once; %s", path,
		     strcmp(path, "timeouts.overall") == 0 ? "give a duration"
							   : "leave it out for no limit");
}

/* "20m" */
static void read_text(struct reader *reader, const struct yaml_node *node, const char *path,
		      uint64_t *ret_us)
{
	const char *text = reader_text(reader, node, path);
	uint64_t us;
	struct error err;

	if (!text)
		return;
	if (text_to_duration_us(&us, text, &err) < 0)
		reader_fault(reader, node, path, "%s: %s", path, err.text);
	else if (us == 0)
		refuse_zero(reader, node, path);
	else
		*ret_us = us;
}

/* The sum of the units; none is no limit. */
static bool read_units(struct reader *reader, const struct yaml_node *node, const char *path,
		       uint64_t *ret_us)
{
	bool any = false, good = true;
	char key[KEY_SIZE];
	double sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		const struct yaml_node *child = yaml_get(node, units[i].name);

		if (!child || yaml_is_null(child))
			continue;
		any = true;
		reader_join(key, path, units[i].name);
		good = add_unit(reader, child, key, units[i].us, &sum) && good;
	}
	*ret_us = DURATION_INFINITE;
	if (!any || !good)
		return any;
	if (sum > DAYS_MAX * US_PER_DAY)
		reader_fault(reader, node, path, "%s is more than %d days", path, DAYS_MAX);
	else if ((uint64_t)(sum + 0.5) == 0)
		refuse_zero(reader, node, path);
	else
		*ret_us = (uint64_t)(sum + 0.5);
	return any;
}

/* {days, hours ... retries} or {for, retries}. */
static void read_mapping(struct reader *reader, const struct yaml_node *node, const char *path,
			 struct timeout_spec *spec)
{
	static const char *const known[] = { "days",	     "hours", "minutes", "seconds",
					     "milliseconds", "for",   "retries", NULL };
	const struct yaml_node *duration = yaml_get(node, "for");
	char key[KEY_SIZE];
	bool any;

	(void)reader_mapping(reader, node, path, known);
	any = read_units(reader, node, path, &spec->limit_us);
	reader_join(key, path, "for");
	if (any && duration && !yaml_is_null(duration))
		reader_fault(reader, duration, key, "%s stands beside units, use one or the other",
			     key);
	else
		read_text(reader, duration, key, &spec->limit_us);
	reader_join(key, path, "retries");
	read_retries(reader, yaml_get(node, "retries"), key, spec);
}

static void read_timeout(struct reader *reader, const struct yaml_node *node, const char *path,
			 struct timeout_spec *spec)
{
	if (!node || yaml_is_null(node))
		return;
	if (node->kind == YAML_MAPPING)
		read_mapping(reader, node, path, spec);
	else if (node->kind == YAML_SCALAR)
		read_text(reader, node, path, &spec->limit_us);
	else
		reader_fault(reader, node, path,
			     "%s must be a duration like 20m, or a mapping like {minutes: 20}",
			     path);
}

static void refuse_retries(struct reader *reader, const struct yaml_node *timeouts,
			   enum timeout_name name)
{
	const struct yaml_node *node = yaml_get(timeouts, timeout_name_text(name));
	char path[KEY_SIZE], key[KEY_SIZE];

	if (reader->description->timeouts[name].retries == 0)
		return;
	reader_join(path, "timeouts", timeout_name_text(name));
	reader_join(key, path, "retries");
	reader_fault(reader, yaml_get(node, "retries"), key, "%s must be 0: it ends the job", key);
}

static void cap_overall(struct reader *reader, const struct yaml_node *node)
{
	struct timeout_spec *overall = &reader->description->timeouts[TIMEOUT_OVERALL];
	uint64_t limit_us = reader_fact_us(reader, "limits", "overall", DURATION_INFINITE);
	char own[48], limit[48];

	if (overall->limit_us <= limit_us)
		return;
	(void)text_format_duration(limit, sizeof(limit), limit_us);
	if (node && !yaml_is_null(node) && overall->limit_us == DURATION_INFINITE)
		reader_fault(reader, node, "timeouts.overall",
			     "timeouts.overall has no limit, this lab's limits.overall is %s",
			     limit);
	else if (node && !yaml_is_null(node))
		reader_fault(reader, node, "timeouts.overall",
			     "timeouts.overall is %s, this lab's limits.overall is %s",
			     text_format_duration(own, sizeof(own), overall->limit_us), limit);
	overall->limit_us = limit_us;
}

static void read_watchdogs(struct reader *reader, const struct yaml_node *node)
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

void reader_timeouts(struct reader *reader, const struct yaml_node *node)
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
		reader_fact_us(reader, "timeouts", "overall", DEFAULT_OVERALL_US);
	specs[TIMEOUT_INFRA_TEARDOWN].limit_us =
		reader_fact_us(reader, "timeouts", "infra_teardown", DEFAULT_TEARDOWN_US);
	if (reader_mapping(reader, node, "timeouts", known)) {
		for (size_t i = 0; i < TIMEOUT_NAMES; i++) {
			const char *name = timeout_name_text((enum timeout_name)i);

			reader_join(path, "timeouts", name);
			read_timeout(reader, yaml_get(node, name), path, &specs[i]);
		}
		refuse_retries(reader, node, TIMEOUT_OVERALL);
		refuse_retries(reader, node, TIMEOUT_INFRA_TEARDOWN);
		read_watchdogs(reader, yaml_get(node, "watchdogs"));
	}
	cap_overall(reader, yaml_get(node, "overall"));
}

/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/description-internal.h"

/* `console_patterns:` of a job file. */

/* A kernel's last line, with a time stamp of any width. */
static const char DEFAULT_SESSION_END[] = "^\\[ *[0-9]+\\.[0-9]+\\] reboot: Power [Dd]own$";

static struct pattern *compile(const struct reader *reader, const struct yaml_node *node,
			       const char *path)
{
	free_ char *regex = NULL;
	struct pattern *pattern = NULL;
	size_t length, offset = 0;
	struct error err;

	if (node->kind != YAML_SCALAR) {
		problems_add_at(reader->problems, node, path, "%s must be a regular expression",
				path);
		return NULL;
	}
	if (node->length == 0) {
		problems_add_at(reader->problems, node, path,
				"%s is empty: it would match every line", path);
		return NULL;
	}
	regex = template_render(&reader->template, node, path, &length);
	if (regex && pattern_new(&pattern, regex, length, &offset, &err) < 0)
		problems_add_at(reader->problems, node, path, "%s, at its byte %zu: %s", path,
				offset, err.text);
	return pattern;
}

/* {regex: R}, or R. */
static struct pattern *read_pattern(const struct reader *reader, const struct yaml_node *node,
				    const char *path)
{
	static const char *const known[] = { "regex", NULL };
	const struct yaml_node *regex;

	if (!node || yaml_is_null(node))
		return NULL;
	if (node->kind != YAML_MAPPING)
		return compile(reader, node, path);
	yaml_check_keys(node, path, known, reader->problems);
	regex = yaml_get(node, "regex");
	if (!regex) {
		problems_add_at(reader->problems, node, path, "%s needs a regex", path);
		return NULL;
	}
	return compile(reader, regex, path);
}

static void read_watchdog(const struct reader *reader, const struct yaml_node *node,
			  const char *path)
{
	static const char *const known[] = { "start", "reset", "stop", NULL };
	struct watchdog *watchdog = reader_watchdog(reader, node->key);
	struct pattern **patterns[3];
	char key[KEY_SIZE];

	if (!watchdog || !reader_mapping(reader, node, path, known))
		return;
	patterns[0] = &watchdog->start;
	patterns[1] = &watchdog->reset;
	patterns[2] = &watchdog->stop;
	for (size_t i = 0; i < 3; i++) {
		const struct yaml_node *child = yaml_get(node, known[i]);

		reader_join(key, path, known[i]);
		if (!child || yaml_is_null(child))
			problems_add_at(reader->problems, node, key,
					"%s is missing: a watchdog needs start, reset and stop",
					key);
		else
			*patterns[i] = read_pattern(reader, child, key);
	}
}

static void read_watchdogs(const struct reader *reader, const struct yaml_node *node)
{
	char path[KEY_SIZE];

	if (!reader_mapping(reader, node, "console_patterns.watchdogs", NULL))
		return;
	YAML_FOREACH(child, node) {
		reader_join(path, "console_patterns.watchdogs", child->key);
		read_watchdog(reader, child, path);
	}
}

void reader_patterns(const struct reader *reader, const struct yaml_node *node)
{
	static const char *const known[] = {
		"session_end",	"session_reboot", "job_success",
		"job_warn",	"job_fail",	  "machine_unfit_for_service",
		"kernel_fault", "watchdogs",	  NULL
	};
	struct pattern **patterns = reader->description->patterns;
	char path[KEY_SIZE];

	if (reader_mapping(reader, node, "console_patterns", known)) {
		for (size_t i = 0; i < PATTERN_NAMES; i++) {
			const char *name = pattern_name_text((enum pattern_name)i);

			reader_join(path, "console_patterns", name);
			patterns[i] = read_pattern(reader, yaml_get(node, name), path);
		}
		read_watchdogs(reader, yaml_get(node, "watchdogs"));
	}
	if (!patterns[PATTERN_SESSION_END])
		(void)pattern_new(&patterns[PATTERN_SESSION_END], DEFAULT_SESSION_END,
				  strlen(DEFAULT_SESSION_END), &(size_t){ 0 }, NULL);
}

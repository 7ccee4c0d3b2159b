/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "executor/description-internal.h"

/* `console_patterns:` of a job file. */

enum {
	WATCHDOG_NAME_MAX = 63, /* bytes; it becomes a part of a reason */
	PATTERN_BYTES_MAX =
		1 << 20, /* of all patterns, compiled; some thousands of ordinary ones */
};

/*
 * A kernel's last words, with a time stamp of any width, with or without the caller behind it
 * (CONFIG_PRINTK_CALLER), or without time stamps at all.
 */
static const char default_session_end[] =
	"^(\\[ *[0-9]+\\.[0-9]+\\](\\[ *[CT][0-9]+\\])? )?reboot: Power [Dd]own$";

static struct pattern *compile(struct reader *reader, const struct yaml_node *node,
			       const char *path)
{
	struct pattern *pattern = NULL;
	size_t offset = 0, size = 0;
	struct error err;
	char shown[96];
	int r;

	if (node->kind != YAML_SCALAR || yaml_is_null(node)) {
		reader_fault(reader, node, path, "%s must be a regular expression", path);
		return NULL;
	}
	/* One problem is enough; the rest would only take time. */
	if (reader->pattern_bytes > PATTERN_BYTES_MAX)
		return NULL;
	if (reader->check_only)
		r = pattern_check(&size, node->text, node->length, &offset, &err);
	else
		r = pattern_new(&pattern, node->text, node->length, &offset, &err);
	if (pattern)
		size = pattern_size(pattern);
	reader->pattern_bytes += size;
	if (reader->pattern_bytes > PATTERN_BYTES_MAX)
		reader_fault(reader, node, path,
			     "%s: the patterns of a job may take %d bytes together when they are "
			     "compiled, and these take more",
			     path, PATTERN_BYTES_MAX);
	else if (r == -ENOMEM)
		reader->r = r;
	else if (r < 0)
		reader_fault(reader, node, path, "%s: %s (at byte %zu of '%s')", path, err.text,
			     offset, text_escape(shown, sizeof(shown), node->text, node->length));
	return pattern;
}

/* {regex: R}, or R. */
static struct pattern *read_pattern(struct reader *reader, const struct yaml_node *node,
				    const char *path)
{
	static const char *const known[] = { "regex", NULL };
	const struct yaml_node *regex;
	char key[KEY_SIZE];

	if (!node || yaml_is_null(node))
		return NULL;
	if (node->kind != YAML_MAPPING)
		return compile(reader, node, path);
	(void)reader_mapping(reader, node, path, known);
	regex = yaml_get(node, "regex");
	reader_join(key, path, "regex");
	if (regex)
		return compile(reader, regex, key);
	reader_fault(reader, node, key, "%s is missing", key);
	return NULL;
}

static void read_watchdog(struct reader *reader, const struct yaml_node *node, const char *path,
			  struct watchdog *watchdog)
{
	static const char *const known[] = { "start", "reset", "stop", NULL };
	struct pattern **const patterns[] = { &watchdog->start, &watchdog->reset, &watchdog->stop };
	char key[KEY_SIZE];

	if (yaml_is_null(node) || !reader_mapping(reader, node, path, known)) {
		if (yaml_is_null(node))
			reader_fault(reader, node, path, "%s needs start, reset and stop", path);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		const struct yaml_node *child = yaml_get(node, known[i]);

		reader_join(key, path, known[i]);
		if (child && !yaml_is_null(child))
			*patterns[i] = read_pattern(reader, child, key);
		else
			reader_fault(reader, node, key,
				     "%s is missing, a watchdog needs start, reset and stop", key);
	}
	if (watchdog->timeout.limit_us == DURATION_INFINITE)
		reader_note(reader, "%s has no timeout of that name, so it never expires", path);
}

static void read_watchdogs(struct reader *reader, const struct yaml_node *node)
{
	char path[KEY_SIZE];

	if (!reader_mapping(reader, node, "console_patterns.watchdogs", NULL))
		return;
	YAML_FOREACH(child, node) {
		struct watchdog *watchdog = reader_watchdog(reader, child->key);

		reader_join(path, "console_patterns.watchdogs", child->key);
		if (!watchdog)
			return;
		if (!*child->key || strlen(child->key) > WATCHDOG_NAME_MAX)
			reader_fault(reader, child, path,
				     "the name of a watchdog has 1 to %d bytes", WATCHDOG_NAME_MAX);
		read_watchdog(reader, child, path, watchdog);
	}
}

void reader_patterns(struct reader *reader, const struct yaml_node *node)
{
	static const char *const known[] = {
		"session_end",	"session_reboot", "job_success",
		"job_warn",	"job_fail",	  "machine_unfit_for_service",
		"kernel_fault", "watchdogs",	  NULL
	};
	struct pattern **patterns = reader->description->patterns;
	char path[KEY_SIZE];
	size_t offset;

	if (reader_mapping(reader, node, "console_patterns", known)) {
		for (size_t i = 0; i < PATTERN_NAMES; i++) {
			const char *name = pattern_name_text((enum pattern_name)i);

			reader_join(path, "console_patterns", name);
			patterns[i] = read_pattern(reader, yaml_get(node, name), path);
		}
		read_watchdogs(reader, yaml_get(node, "watchdogs"));
	}
	if (!patterns[PATTERN_SESSION_END] && !reader->check_only &&
	    pattern_new(&patterns[PATTERN_SESSION_END], default_session_end,
			sizeof(default_session_end) - 1, &offset, NULL) < 0)
		reader->r = -ENOMEM;
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "executor/description-internal.h"

static const char *const timeout_names[TIMEOUT_NAMES] = {
	[TIMEOUT_OVERALL] = "overall",
	[TIMEOUT_INFRA_SETUP] = "infra_setup",
	[TIMEOUT_INFRA_TEARDOWN] = "infra_teardown",
	[TIMEOUT_BOOT_CYCLE] = "boot_cycle",
	[TIMEOUT_FIRST_CONSOLE_ACTIVITY] = "first_console_activity",
	[TIMEOUT_CONSOLE_ACTIVITY] = "console_activity",
};

static const char *const pattern_names[PATTERN_NAMES] = {
	[PATTERN_SESSION_END] = "session_end",
	[PATTERN_SESSION_REBOOT] = "session_reboot",
	[PATTERN_JOB_SUCCESS] = "job_success",
	[PATTERN_JOB_WARN] = "job_warn",
	[PATTERN_JOB_FAIL] = "job_fail",
	[PATTERN_MACHINE_UNFIT] = "machine_unfit_for_service",
};

const char *timeout_name_text(enum timeout_name name)
{
	return timeout_names[name];
}

const char *pattern_name_text(enum pattern_name name)
{
	return pattern_names[name];
}

static void artifact_done(struct artifact *artifact)
{
	free(artifact->url);
	free(artifact->bucket);
	free(artifact->sha256);
}

static void deployment_done(struct deployment *deployment)
{
	artifact_done(&deployment->kernel);
	artifact_done(&deployment->initramfs);
	artifact_done(&deployment->dtb);
	free(deployment->cmdline);
}

struct description *description_free(struct description *description)
{
	if (!description)
		return NULL;
	free(description->name);
	free(description->target_id);
	for (char **tag = description->target_tags; tag && *tag; tag++)
		free(*tag);
	free(description->target_tags);
	for (size_t i = 0; i < description->n_watchdogs; i++) {
		struct watchdog *watchdog = &description->watchdogs[i];

		free(watchdog->name);
		pattern_free(watchdog->start);
		pattern_free(watchdog->reset);
		pattern_free(watchdog->stop);
	}
	free(description->watchdogs);
	for (size_t i = 0; i < PATTERN_NAMES; i++)
		pattern_free(description->patterns[i]);
	deployment_done(&description->start);
	deployment_done(&description->next);
	free(description);
	return NULL;
}

CLEANUP_DEFINE(struct description *, description_free)

/* ---- what all readers use ---- */

void reader_join(char path[static KEY_SIZE], const char *parent, const char *key)
{
	if (parent)
		(void)snprintf(path, KEY_SIZE, "%s.%s", parent, key);
	else
		(void)snprintf(path, KEY_SIZE, "%s", key);
}

char *reader_text(const struct reader *reader, const struct yaml_node *node, const char *path,
		  size_t *ret_length)
{
	if (!node || yaml_is_null(node))
		return NULL;
	if (node->kind != YAML_SCALAR) {
		problems_add_at(reader->problems, node, path, "%s must be a text", path);
		return NULL;
	}
	return template_render(&reader->template, node, path, ret_length);
}

bool reader_mapping(const struct reader *reader, const struct yaml_node *node, const char *path,
		    const char *const *known)
{
	if (!node || yaml_is_null(node))
		return false;
	if (node->kind != YAML_MAPPING) {
		problems_add_at(reader->problems, node, path, "%s must be a mapping", path);
		return false;
	}
	if (known)
		yaml_check_keys(node, path, known, reader->problems);
	return true;
}

struct watchdog *reader_watchdog(const struct reader *reader, const char *name)
{
	struct description *description = reader->description;
	struct watchdog *grown;

	for (size_t i = 0; i < description->n_watchdogs; i++)
		if (strcmp(description->watchdogs[i].name, name) == 0)
			return &description->watchdogs[i];
	grown = reallocarray(description->watchdogs, description->n_watchdogs + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	description->watchdogs = grown;
	grown += description->n_watchdogs;
	*grown = (struct watchdog){ .name = strdup(name), .timeout.limit_us = DURATION_INFINITE };
	if (!grown->name)
		return NULL;
	description->n_watchdogs++;
	return grown;
}

/* ---- the top of the file ---- */

static void read_version(const struct reader *reader, const struct yaml_node *node)
{
	if (!node)
		return;
	if (node->kind != YAML_SCALAR || !node->plain || strcmp(node->text, "1") != 0)
		problems_add_at(reader->problems, node, "version",
				"version must be the number 1: it is the only one that there is");
}

static void read_name(const struct reader *reader, const struct yaml_node *node)
{
	free_ char *name = reader_text(reader, node, "name", NULL);

	if (name && (strlen(name) > 200 || !text_is_printable(name, strlen(name))))
		problems_add_at(reader->problems, node, "name",
				"name must be at most 200 bytes of printable text");
	else
		reader->description->name = take_ptr(name);
}

/* Seconds east of UTC: Z, +HH:MM, +HHMM, +HH, or nothing. */
static bool read_zone(const char *text, long *ret_seconds)
{
	struct tm zone = { 0 };
	const char *rest;

	while (*text == ' ')
		text++;
	*ret_seconds = 0;
	if (!*text)
		return true;
	rest = strptime(text, "%z", &zone);
	*ret_seconds = zone.tm_gmtoff;
	return rest && !*rest;
}

static bool read_date(const char *text, uint64_t *ret_us)
{
	struct tm date = { 0 };
	const char *rest = strptime(text, "%Y-%m-%d", &date);
	long zone = 0;
	time_t seconds;

	if (!rest)
		return false;
	if (*rest == 'T' || *rest == 't' || *rest == ' ') {
		rest = strptime(rest + 1, "%H:%M:%S", &date);
		if (!rest)
			return false;
		if (*rest == '.')
			rest += 1 + strspn(rest + 1, "0123456789");
	}
	if (!read_zone(rest, &zone))
		return false;
	seconds = timegm(&date) - zone;
	if (seconds < 0)
		return false;
	*ret_us = (uint64_t)seconds * 1000000;
	return true;
}

static void read_deadline(const struct reader *reader, const struct yaml_node *node)
{
	free_ char *text = reader_text(reader, node, "deadline", NULL);
	uint64_t *deadline = &reader->description->deadline_realtime_us;

	if (!text)
		return;
	if (!read_date(text, deadline))
		problems_add_at(reader->problems, node, "deadline",
				"deadline must be a date as 2026-12-31T23:59:59Z");
	else if (*deadline <= clock_realtime_us() &&
		 !json_is_true(json_object_get(reader->facts, "ignore_deadline")))
		problems_add_at(
			reader->problems, node, "deadline",
			"deadline is past; run the job all the same with --ignore-deadline");
}

static void add_tag(const struct reader *reader, char *tag)
{
	struct description *description = reader->description;
	size_t count = 0;
	char **grown;

	while (description->target_tags && description->target_tags[count])
		count++;
	grown = reallocarray(description->target_tags, count + 2, sizeof(*grown));
	if (!grown || !tag) {
		free(tag);
		return;
	}
	grown[count] = tag;
	grown[count + 1] = NULL;
	description->target_tags = grown;
}

static void read_tags(const struct reader *reader, const struct yaml_node *node)
{
	const json_t *list, *value;
	size_t i;

	if (!node || yaml_is_null(node))
		return;
	list = template_list(&reader->template, node);
	if (list) {
		json_array_foreach((json_t *)(uintptr_t)list, i, value)
			add_tag(reader, strdup(json_string_value(value)));
		return;
	}
	if (node->kind != YAML_SEQUENCE) {
		problems_add_at(reader->problems, node, "target.tags",
				"target.tags must be a list");
		return;
	}
	YAML_FOREACH(child, node) {
		char *tag = reader_text(reader, child, "target.tags", NULL);

		if (tag)
			add_tag(reader, tag);
	}
}

static void read_target(const struct reader *reader, const struct yaml_node *node)
{
	static const char *const known[] = { "id", "tags", NULL };

	if (!reader_mapping(reader, node, "target", known))
		return;
	if (!yaml_get(node, "id") && !yaml_get(node, "tags"))
		problems_add_at(reader->problems, node, "target", "target needs an id or tags");
	reader->description->target_id =
		reader_text(reader, yaml_get(node, "id"), "target.id", NULL);
	read_tags(reader, yaml_get(node, "tags"));
}

/* Keys that a reader of the manuals, or of the reference system's, may expect here. */
static bool explain_key(const struct reader *reader, const struct yaml_node *child)
{
	static const char *const later[] = { "interact", "command", "collect", "tests" };
	static const char *const elsewhere[] = { "proxy", "imagestore" };

	for (size_t i = 0; i < ARRAY_SIZE(later); i++) {
		if (strcmp(child->key, later[i]) == 0) {
			problems_add(reader->problems, child->file, child->key_line,
				     child->key_column, child->key, "not yet: %s", child->key);
			return true;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(elsewhere); i++) {
		if (strcmp(child->key, elsewhere[i]) == 0) {
			problems_add(reader->problems, child->file, child->key_line,
				     child->key_column, child->key, "not supported: %s",
				     child->key);
			return true;
		}
	}
	return false;
}

static void check_top_keys(const struct reader *reader, const struct yaml_node *root)
{
	static const char *const known[] = { "version",	   "name",	   "deadline",
					     "target",	   "timeouts",	   "console_patterns",
					     "deployment", "kernel_fault", NULL };

	YAML_FOREACH(child, root) {
		bool good = false;

		for (const char *const *key = known; *key; key++)
			good = good || strcmp(*key, child->key) == 0;
		if (!good && !explain_key(reader, child)) {
			const char *nearest = text_nearest(child->key, known);
			char escaped[128];

			problems_add(reader->problems, child->file, child->key_line,
				     child->key_column, child->key, "unknown key '%s'%s%s%s",
				     text_escape(escaped, sizeof(escaped), child->key,
						 strlen(child->key)),
				     nearest ? "; did you mean '" : "", nearest ? nearest : "",
				     nearest ? "'?" : "");
		}
	}
}

static void read_kernel_fault(const struct reader *reader, const struct yaml_node *node)
{
	static const char *const words[] = { "ignore", "warn", "fail" };
	free_ char *text = reader_text(reader, node, "kernel_fault", NULL);

	for (size_t i = 0; text && i < ARRAY_SIZE(words); i++) {
		if (strcmp(text, words[i]) == 0) {
			reader->description->kernel_fault = (enum kernel_fault_policy)i;
			return;
		}
	}
	if (text)
		problems_add_at(reader->problems, node, "kernel_fault",
				"kernel_fault must be fail, warn or ignore");
}

static void read_root(const struct reader *reader, const struct yaml_node *root)
{
	const struct yaml_node *patterns = yaml_get(root, "console_patterns");
	const struct yaml_node *fault = yaml_get(root, "kernel_fault");

	check_top_keys(reader, root);
	read_version(reader, yaml_get(root, "version"));
	read_name(reader, yaml_get(root, "name"));
	read_deadline(reader, yaml_get(root, "deadline"));
	read_target(reader, yaml_get(root, "target"));
	reader_timeouts(reader, yaml_get(root, "timeouts"));
	if (!patterns)
		problems_add_at(
			reader->problems, root, "console_patterns",
			"console_patterns is missing: they decide when a job ends, and how; {} takes the "
			"default session_end");
	reader_patterns(reader, patterns);
	read_kernel_fault(reader, fault ? fault : yaml_get(patterns, "kernel_fault"));
	reader_deployment(reader, yaml_get(root, "deployment"));
}

int description_parse_noting(struct description **ret, const char *text, size_t length,
			     const json_t *facts, struct problems *problems, json_t *notes)
{
	cleanup_(description_freep) struct description *description =
		calloc(1, sizeof(*description));
	struct reader reader = {
		.description = description,
		.facts = facts,
		.template = {
			.facts = facts,
			.lenient = json_is_true(json_object_get(facts, "without_daemon")),
			.problems = problems,
			.notes = notes,
		},
		.problems = problems,
	};
	struct yaml_tree *tree = NULL;
	int r;

	if (!description)
		return -ENOMEM;
	description->deadline_realtime_us = DURATION_INFINITE;
	r = yaml_parse(&tree, NULL, text, length, &yaml_default_limits, problems);
	if (r < 0)
		return r;
	if (yaml_root(tree)->kind == YAML_MAPPING)
		read_root(&reader, yaml_root(tree));
	else
		problems_add_at(problems, yaml_root(tree), NULL, "a job file is a mapping%s",
				yaml_is_null(yaml_root(tree)) ? "; this one is empty" : "");
	yaml_tree_free(tree);
	if (problems_any(problems)) {
		problems_sort(problems);
		return -EBADMSG;
	}
	*ret = take_ptr(description);
	return 0;
}

int description_parse(struct description **ret, const char *text, size_t length,
		      const json_t *facts, struct problems *problems)
{
	return description_parse_noting(ret, text, length, facts, problems, NULL);
}

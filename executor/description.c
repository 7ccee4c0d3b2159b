/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "executor/description-internal.h"

enum { JOB_NAME_MAX = 200 /* bytes, as in the metadata of a submission */ };

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
CLEANUP_DEFINE(struct yaml_tree *, yaml_tree_free)

struct watchdog *reader_watchdog(struct reader *reader, const char *name)
{
	struct description *description = reader->description;
	struct watchdog *grown;
	char *copy;

	for (size_t i = 0; i < description->n_watchdogs; i++)
		if (strcmp(description->watchdogs[i].name, name) == 0)
			return &description->watchdogs[i];
	copy = reader_copy(reader, name);
	grown = reallocarray(description->watchdogs, description->n_watchdogs + 1, sizeof(*grown));
	if (grown)
		description->watchdogs = grown;
	if (!grown || !copy) {
		reader->r = -ENOMEM;
		free(copy);
		return NULL;
	}
	grown += description->n_watchdogs++;
	*grown = (struct watchdog){ .name = copy, .timeout.limit_us = DURATION_INFINITE };
	return grown;
}

/* ---- the top of the file ---- */

static void read_version(struct reader *reader, const struct yaml_node *node)
{
	const char *text = reader_text(reader, node, "version");

	if (text && strcmp(text, "1") != 0)
		reader_fault(reader, node, "version", "version '%.32s' is not known, only 1", text);
}

static void read_name(struct reader *reader, const struct yaml_node *node)
{
	const char *text = reader_text(reader, node, "name");

	if (!text)
		return;
	if (strlen(text) > JOB_NAME_MAX || !text_is_printable(text, strlen(text)))
		reader_fault(reader, node, "name",
			     "name must be one line of printable text, at most %d bytes",
			     JOB_NAME_MAX);
	reader->description->name = reader_copy(reader, text);
}

/* It belongs to the whole job, and reads well among the patterns too. */
static void read_kernel_fault(struct reader *reader, const struct yaml_node *root)
{
	static const char *const words[] = {
		[KERNEL_FAULT_IGNORE] = "ignore",
		[KERNEL_FAULT_WARN] = "warn",
		[KERNEL_FAULT_FAIL] = "fail",
	};
	const struct yaml_node *top = yaml_get(root, "kernel_fault");
	const struct yaml_node *inner =
		yaml_get(yaml_get(root, "console_patterns"), "kernel_fault");
	const struct yaml_node *node = top ? top : inner;
	const char *path = top ? "kernel_fault" : "console_patterns.kernel_fault";
	const char *text = reader_text(reader, node, path);

	if (top && inner)
		reader_fault(reader, inner, "console_patterns.kernel_fault",
			     "kernel_fault stands at the top of the file already");
	for (size_t i = 0; text && i < ARRAY_SIZE(words); i++) {
		if (strcmp(text, words[i]) == 0) {
			reader->description->kernel_fault = (enum kernel_fault_policy)i;
			return;
		}
	}
	if (text)
		reader_fault(reader, node, path, "%s must be fail, warn or ignore", path);
}

/* A timeout whose patterns were forgotten looks like one that guards. */
static void note_idle_watchdogs(struct reader *reader, const struct yaml_node *patterns)
{
	const struct description *description = reader->description;

	for (size_t i = 0; i < description->n_watchdogs; i++)
		if (!yaml_get(yaml_get(patterns, "watchdogs"), description->watchdogs[i].name))
			reader_note(reader,
				    "timeouts.watchdogs.%s has no patterns of that name, so it "
				    "never starts",
				    description->watchdogs[i].name);
}

static void read_root(struct reader *reader, const struct yaml_node *root)
{
	static const char *const known[] = { "version",	   "name",	   "deadline",
					     "target",	   "timeouts",	   "console_patterns",
					     "deployment", "kernel_fault", NULL };

	(void)reader_mapping(reader, root, NULL, known);
	read_version(reader, yaml_get(root, "version"));
	read_name(reader, yaml_get(root, "name"));
	reader_deadline(reader, yaml_get(root, "deadline"));
	reader_target(reader, yaml_get(root, "target"));
	reader_timeouts(reader, yaml_get(root, "timeouts"));
	if (!yaml_get(root, "console_patterns"))
		reader_fault(reader, root, "console_patterns",
			     "console_patterns is missing: it says when the job ends and how; {} "
			     "ends it when the kernel powers off");
	reader_patterns(reader, yaml_get(root, "console_patterns"));
	note_idle_watchdogs(reader, yaml_get(root, "console_patterns"));
	read_kernel_fault(reader, root);
	reader_deployment(reader, yaml_get(root, "deployment"));
}

/* ---- the whole ---- */

/* The byte at a line and column, which counts characters; libyaml's line ends. */
static const char *find_place(const char *text, size_t length, unsigned line, unsigned column)
{
	const char *at = text, *end = text + length;
	uint32_t code;

	for (; line > 1 && at < end; at++)
		if (*at == '\n' || (*at == '\r' && (at + 1 == end || at[1] != '\n')))
			line--;
	for (; column > 1 && at < end; column--) {
		size_t used = text_decode_utf8(&code, at, (size_t)(end - at));

		at += used > 0 ? used : 1;
	}
	return at;
}

/*
 * An unquoted {{ x }} is a mapping in a mapping's key, which is true and helps nobody: says instead
 * what to do.
 */
static void explain_unquoted(const char *text, size_t length, struct problems *problems)
{
	for (size_t i = 0; i < problems->count; i++) {
		struct problem *problem = &problems->items[i];
		const char *at = find_place(text, length, problem->line, problem->column);
		char *better;

		if (problem->column < 2 || at >= text + length || *at != '{' || at[-1] != '{')
			continue;
		better = strdup("{{ ... }} without quotes is a YAML mapping, write "
				"'{{ ... }}' with quotes around the whole value");
		if (!better)
			return;
		free(problem->text);
		problem->text = better;
		problem->column--;
	}
}

int description_parse_yaml(struct yaml_tree **ret, const char *text, size_t length,
			   struct problems *problems)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = NULL;
	const struct yaml_node *root;
	int r;

	r = yaml_parse(&tree, NULL, text, length, &yaml_default_limits, problems);
	if (r == -EBADMSG)
		explain_unquoted(text, length, problems);
	if (r < 0)
		return r;
	root = yaml_root(tree);
	if (root->kind != YAML_MAPPING) {
		problems_add_at(problems, root, NULL,
				yaml_is_null(root)
					? "the job file is empty"
					: "a job file is a mapping of keys, this is a %s",
				root->kind == YAML_SEQUENCE ? "list" : "single value");
		return -EBADMSG;
	}
	*ret = take_ptr(tree);
	return 0;
}

static int read_part(struct description **ret, const struct description_source *source,
		     const struct yaml_node *node, const char *path,
		     void (*read)(struct reader *reader, const struct yaml_node *node))
{
	cleanup_(description_freep) struct description *description =
		calloc(1, sizeof(*description));
	const struct template_config config = {
		.facts = source->facts,
		.guess = json_is_true(json_object_get(source->facts, "without_daemon")),
		.skip = reader_is_refused,
	};
	struct reader reader = {
		.description = description,
		.facts = source->facts,
		.problems = source->problems,
		.notes = source->notes,
		.check_only = source->check_only,
	};
	int r;

	if (!description)
		return -ENOMEM;
	description->deadline_realtime_us = DURATION_INFINITE;
	if (node) {
		r = template_render(&reader.rendering, &config, node, path, source->problems,
				    source->notes);
		if (r < 0)
			return r;
		read(&reader, yaml_root(reader.rendering.tree));
		rendering_done(&reader.rendering);
	}
	if (reader.r < 0)
		return reader.r;
	if (problems_any(source->problems)) {
		problems_sort(source->problems);
		return -EBADMSG;
	}
	*ret = take_ptr(description);
	return 0;
}

int description_read(struct description **ret, const struct description_source *source)
{
	return read_part(ret, source, source->root, NULL, read_root);
}

int description_read_target(struct description **ret, const struct description_source *source)
{
	return read_part(ret, source, yaml_get(source->root, "target"), "target", reader_target);
}

int description_parse(struct description **ret, const char *text, size_t length,
		      const json_t *facts, struct problems *problems)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = NULL;
	int r;

	r = description_parse_yaml(&tree, text, length, problems);
	if (r < 0)
		return r;
	return description_read(ret, &(struct description_source){ .root = yaml_root(tree),
								   .facts = facts,
								   .problems = problems });
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "executor/description-internal.h"

/* What all readers of a job file use. */

/*
 * Keys that have a meaning which this version does not know: those of the next versions, and those
 * of newer releases of the reference system. Anything beneath a parent counts.
 */
static const struct {
	const char *parent, *key, *words;
} refused[] = {
	{ NULL, "interact", "not yet" },
	{ NULL, "command", "not yet" },
	{ NULL, "collect", "not yet" },
	{ NULL, "tests", "not yet" },
	{ NULL, "proxy", "not supported" },
	{ NULL, "storage", "not supported" },
	{ NULL, "fastboot", "not supported" },
	{ NULL, "dhcp", "not supported" },
	{ "timeouts", "firmware_boot", "not supported" },
	{ "deployment", "storage", "not supported" },
	{ "deployment", "fastboot", "not supported" },
	{ "deployment", "dhcp", "not supported" },
	{ "deployment", "data", "not supported" },
	{ "deployment", "archive", "not supported" },
	{ "deployment", "format", "not supported" },
};

static bool is_beneath(const char *path, const char *parent)
{
	size_t length;

	if (!parent || !path)
		return parent == path;
	length = strlen(parent);
	return strncmp(path, parent, length) == 0 && (path[length] == '.' || !path[length]);
}

/* The words for a key that is refused, or NULL. */
static const char *refusal(const char *parent, const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (strcmp(key, refused[i].key) == 0 && is_beneath(parent, refused[i].parent) &&
		    !is_beneath(parent, "timeouts.watchdogs"))
			return refused[i].words;
	return NULL;
}

bool reader_is_refused(const char *parent, const char *key)
{
	return refusal(parent, key);
}

void reader_join(char path[static KEY_SIZE], const char *parent, const char *key)
{
	(void)snprintf(path, KEY_SIZE, "%s%s%s", parent ? parent : "", parent ? "." : "", key);
}

void reader_fault(struct reader *reader, const struct yaml_node *node, const char *path,
		  const char *format, ...)
{
	va_list arguments;
	char *text = NULL;
	int r;

	if (rendering_unsure(&reader->rendering, node))
		return;
	va_start(arguments, format);
	r = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (r < 0) {
		reader->r = -ENOMEM;
		return;
	}
	problems_add_at(reader->problems, node, path, "%s", text);
	free(text);
}

void reader_note(struct reader *reader, const char *format, ...)
{
	va_list arguments;
	char text[256];

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (reader->notes)
		(void)json_array_append_new(reader->notes, json_string(text));
}

char *reader_copy(struct reader *reader, const char *text)
{
	char *copy = text ? strdup(text) : NULL;

	if (text && !copy)
		reader->r = -ENOMEM;
	return copy;
}

const char *reader_text(struct reader *reader, const struct yaml_node *node, const char *path)
{
	if (!node || yaml_is_null(node))
		return NULL;
	if (node->kind != YAML_SCALAR) {
		reader_fault(reader, node, path, "%s is a %s, it must be a single value", path,
			     node->kind == YAML_MAPPING ? "mapping" : "list");
		return NULL;
	}
	if (strlen(node->text) != node->length) {
		reader_fault(reader, node, path, "%s holds a NUL character", path);
		return NULL;
	}
	return node->text;
}

static bool is_known(const char *key, const char *const *known)
{
	for (; *known; known++)
		if (strcmp(key, *known) == 0)
			return true;
	return false;
}

static void check_key(struct reader *reader, const struct yaml_node *child, const char *parent,
		      const char *const *known)
{
	const char *words = refusal(parent, child->key);
	const char *nearest = words ? NULL : text_nearest(child->key, known);
	char path[KEY_SIZE];

	reader_join(path, parent, child->key);
	if (words)
		problems_add(reader->problems, child->file, child->key_line, child->key_column,
			     path, "%s: %s", words, child->key);
	else
		problems_add(reader->problems, child->file, child->key_line, child->key_column,
			     path,
			     nearest ? "unknown key '%.100s', did you mean '%s'?"
				     : "unknown key '%.100s'",
			     child->key, nearest);
}

bool reader_mapping(struct reader *reader, const struct yaml_node *node, const char *path,
		    const char *const *known)
{
	if (!node || yaml_is_null(node))
		return false;
	if (node->kind != YAML_MAPPING) {
		reader_fault(reader, node, path, "%s must be a mapping of keys", path);
		return false;
	}
	if (!known)
		return true;
	YAML_FOREACH(child, node)
		if (!is_known(child->key, known))
			check_key(reader, child, path, known);
	return true;
}

uint64_t reader_fact_us(const struct reader *reader, const char *group, const char *name,
			uint64_t otherwise)
{
	const json_t *value = json_object_get(json_object_get(reader->facts, group), name);

	return json_is_integer(value) && json_integer_value(value) > 0
		       ? (uint64_t)json_integer_value(value)
		       : otherwise;
}

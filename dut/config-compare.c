/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "dut/config-internal.h"
#include "hw/power.h"

/*
 * What is different in a newer configuration: by value, not by place. A file may be written in
 * another order, a DUT moved into another file, a key moved into a type.
 */

static bool is_absent(const struct yaml_node *node)
{
	return !node || yaml_is_null(node);
}

/* How many keys of a mapping have a value. */
static size_t count_present(const struct yaml_node *mapping)
{
	size_t n = 0;

	YAML_FOREACH(child, mapping)
		n += !is_absent(child);
	return n;
}

static bool same_folder(const char *a, const char *b)
{
	const char *slash_a = a ? strrchr(a, '/') : NULL, *slash_b = b ? strrchr(b, '/') : NULL;

	if (!slash_a || !slash_b)
		return slash_a == slash_b;
	return slash_a - a == slash_b - b && strncmp(a, b, (size_t)(slash_a - a)) == 0;
}

static bool same_scalar(const struct yaml_node *a, const struct yaml_node *b)
{
	return a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
}

/* Recurses as deep as the trees are, which yaml_parse() has bounded. */
static bool same_value(const struct yaml_node *a, const struct yaml_node *b)
{
	const struct yaml_node *other;

	if (is_absent(a) || is_absent(b))
		return is_absent(a) && is_absent(b);
	if (a->kind != b->kind)
		return false;
	if (a->kind == YAML_SCALAR)
		return same_scalar(a, b);
	if (a->kind == YAML_MAPPING) {
		YAML_FOREACH(child, a)
			if (!same_value(child, yaml_get(b, child->key)))
				return false;
		return count_present(a) == count_present(b);
	}
	other = b->first;
	YAML_FOREACH(child, a) {
		if (!other || !same_value(child, other))
			return false;
		other = other->next;
	}
	return !other;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Nothing and an empty mapping are the same to a driver. */
static bool same_keys(const struct yaml_node *a, const struct yaml_node *b)
{
	if (!a || !b)
		return !(a && a->first) && !(b && b->first);
	return same_value(a, b);
}

/* Of two mappings that are the same: a path is meant relative to its file. */
static bool same_paths(const char *driver, const struct yaml_node *a, const struct yaml_node *b)
{
	const struct yaml_node *other;

	if (!driver || !a || !b)
		return true;
	YAML_FOREACH(child, a) {
		other = yaml_get(b, child->key);
		if (other && child->kind == YAML_SCALAR && child->text[0] != '/' &&
		    power_key_is_path(driver, child->key) && !same_folder(child->file, other->file))
			return false;
	}
	return true;
}

bool config_is_hardware_key(const char *key)
{
	static const char *const keys[] = { "power", "console", "consoles", "qemu", "sim" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return false;
}

bool config_same_power(const struct config_dut *a, const struct config_dut *b)
{
	return same_text(a->power_driver, b->power_driver) &&
	       same_keys(a->power_keys, b->power_keys) &&
	       same_paths(a->power_driver, a->power_keys, b->power_keys);
}

bool config_same_console(const struct config_console *a, const struct config_console *b)
{
	return same_text(a->driver, b->driver) && same_keys(a->keys, b->keys);
}

const struct config_console *config_find_console(const struct config_dut *dut, const char *name)
{
	for (size_t i = 0; i < dut->n_consoles; i++)
		if (strcmp(dut->consoles[i].name, name) == 0)
			return &dut->consoles[i];
	return NULL;
}

/* ---- for people ---- */

/* `type` only says where keys come from, and those are compared. */
static bool is_changed_key(const struct config_dut *before, const struct config_dut *after,
			   const char *key)
{
	static const char *const power[] = { "power", "qemu", "sim" };

	if (strcmp(key, "type") == 0)
		return false;
	if (!same_value(yaml_get(before->node, key), yaml_get(after->node, key)))
		return true;
	/* The same words may mean another file. */
	for (size_t i = 0; i < ARRAY_SIZE(power); i++)
		if (strcmp(key, power[i]) == 0)
			return !config_same_power(before, after);
	return false;
}

json_t *config_changed_keys(const struct config_dut *before, const struct config_dut *after)
{
	const struct yaml_node *a = before->node, *b = after->node;
	json_t *keys = json_array();

	if (b->kind == YAML_MAPPING)
		YAML_FOREACH(child, b)
			if (is_changed_key(before, after, child->key))
				(void)json_array_append_new(keys, json_string(child->key));
	if (a->kind == YAML_MAPPING)
		YAML_FOREACH(child, a)
			if (!yaml_get(b, child->key) && is_changed_key(before, after, child->key))
				(void)json_array_append_new(keys, json_string(child->key));
	return keys;
}

/* The keys of a section that differ, as "limits.bucket"; one that is no mapping as a whole. */
static void add_changed(json_t *keys, const char *name, const struct yaml_node *a,
			const struct yaml_node *b)
{
	bool mappings = (is_absent(a) || a->kind == YAML_MAPPING) &&
			(is_absent(b) || b->kind == YAML_MAPPING);

	if (!mappings && !same_value(a, b)) {
		(void)json_array_append_new(keys, json_string(name));
		return;
	}
	if (!mappings)
		return;
	if (!is_absent(b))
		YAML_FOREACH(child, b)
			if (!same_value(yaml_get(a, child->key), child))
				(void)json_array_append_new(
					keys, json_sprintf("%s.%s", name, child->key));
	if (!is_absent(a))
		YAML_FOREACH(child, a)
			if (!yaml_get(b, child->key) && !is_absent(child))
				(void)json_array_append_new(
					keys, json_sprintf("%s.%s", name, child->key));
}

json_t *config_changed_settings(const struct yaml_node *before, const struct yaml_node *after)
{
	json_t *keys = json_array();

	if (after && after->kind == YAML_MAPPING)
		YAML_FOREACH(child, after)
			add_changed(keys, child->key, yaml_get(before, child->key), child);
	if (before && before->kind == YAML_MAPPING)
		YAML_FOREACH(child, before)
			if (!yaml_get(after, child->key))
				add_changed(keys, child->key, child, NULL);
	return keys;
}

bool config_needs_restart(const char *setting)
{
	static const char *const settings[] = {
		"api.socket",
		"api.listen",
		"limits.connections",
		NULL,
	};

	for (size_t i = 0; settings[i]; i++)
		if (strcmp(settings[i], setting) == 0)
			return true;
	return false;
}

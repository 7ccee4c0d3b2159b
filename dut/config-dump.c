/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dut/config-internal.h"
#include "hw/power.h"

/*
 * A DUT's configuration in the record of the job that has it: whatever becomes of the files, the
 * next dutd finds the board as it was. JSON is YAML, so it is read like any other; a path that was
 * relative to its file is absolute here.
 */

CLEANUP_DEFINE(struct config *, config_free)
CLEANUP_DEFINE(struct yaml_tree *, yaml_tree_free)

static const struct yaml_limits record_limits = {
	.max_bytes = 1 << 20,
	.max_nodes = 100000,
	.max_depth = 40,
};

static json_t *scalar_to_json(const struct yaml_node *node, const char *driver)
{
	const char *slash = node->file ? strrchr(node->file, '/') : NULL;

	if (driver && node->key && slash && node->text[0] != '/' &&
	    power_key_is_path(driver, node->key))
		return json_sprintf("%.*s/%s", (int)(slash - node->file), node->file, node->text);
	return json_stringn(node->text, node->length);
}

/* driver: whose keys these are, or NULL. Recurses as deep as the tree is. */
static json_t *node_to_json(const struct yaml_node *node, const char *driver)
{
	json_t *json;

	if (node->kind == YAML_SCALAR)
		return scalar_to_json(node, driver);
	json = node->kind == YAML_MAPPING ? json_object() : json_array();
	YAML_FOREACH(child, node) {
		if (yaml_is_null(child))
			continue;
		if (node->kind == YAML_MAPPING)
			(void)json_object_set_new(json, child->key, node_to_json(child, driver));
		else
			(void)json_array_append_new(json, node_to_json(child, NULL));
	}
	return json;
}

json_t *config_dut_to_json(const struct config_dut *dut)
{
	json_t *keys = json_object();

	if (dut->node->kind == YAML_MAPPING)
		YAML_FOREACH(child, dut->node) {
			bool power = strcmp(child->key, "power") == 0 ||
				     strcmp(child->key, "qemu") == 0 ||
				     strcmp(child->key, "sim") == 0;

			/* Types are merged in; another DUT may have its aliases by then. */
			if (strcmp(child->key, "type") == 0 || strcmp(child->key, "aliases") == 0 ||
			    yaml_is_null(child))
				continue;
			(void)json_object_set_new(
				keys, child->key,
				node_to_json(child, power ? dut->power_driver : NULL));
		}
	return json_pack("{s:o}", dut->id, keys);
}

/* ---- for people ---- */

static void write_value(const struct yaml_node *node, const char *path, struct jsontext *json)
{
	jsontext_open_object(json, NULL);
	jsontext_text(json, "key", path);
	if (node->kind == YAML_SCALAR) {
		jsontext_text(json, "value", node->text);
	} else {
		jsontext_open_array(json, "value");
		YAML_FOREACH(child, node)
			if (child->kind == YAML_SCALAR)
				jsontext_text(json, NULL, child->text);
			else
				jsontext_tree(json, NULL, node_to_json(child, NULL));
		jsontext_close_array(json);
	}
	jsontext_text(json, "file", node->file);
	jsontext_integer(json, "line", node->line);
	jsontext_close_object(json);
}

static void write_mapping(const struct yaml_node *mapping, const char *path, struct jsontext *json)
{
	char dotted[512];

	YAML_FOREACH(child, mapping) {
		(void)snprintf(dotted, sizeof(dotted), "%s%s%s", path, *path ? "." : "",
			       child->key);
		if (child->kind == YAML_MAPPING)
			write_mapping(child, dotted, json);
		else if (!yaml_is_null(child))
			write_value(child, dotted, json);
	}
}

void config_dut_write(const struct config_dut *dut, const char *key, struct jsontext *json)
{
	jsontext_open_array(json, key);
	if (dut->node->kind == YAML_MAPPING)
		write_mapping(dut->node, "", json);
	jsontext_close_array(json);
}

/* ---- back ---- */

static int parse(struct config_loader *loader, const char *text, struct error *err)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = NULL;
	int r = yaml_parse(&tree, "the job's record", text, strlen(text), &record_limits,
			   loader->problems);

	if (r == -ENOMEM)
		return error_oom(err);
	if (r >= 0)
		config_read_duts(loader, yaml_root(tree));
	if (loader->out_of_memory)
		return error_oom(err);
	if (loader->problems->count > 0)
		return error_set(err, -EBADMSG, "%s", loader->problems->items[0].text);
	return 0;
}

int config_dut_from_json(struct config_dut **ret, const json_t *json, struct error *err)
{
	cleanup_(config_freep) struct config *config = calloc(1, sizeof(*config));
	cleanup_(problems_done) struct problems problems = { 0 };
	struct config_loader loader = { .config = config, .problems = &problems };
	free_ char *text = json_is_object(json) ? json_dumps(json, 0) : NULL;
	int r;

	if (config)
		config->variables = json_object();
	if (!config || !config->variables)
		return error_oom(err);
	if (!text)
		return error_set(err, -EBADMSG, "it is no configuration of a DUT");
	r = parse(&loader, text, err);
	if (r < 0)
		return r;
	if (!config->duts || config->n_duts != 1)
		return error_set(err, -EBADMSG, "it is no configuration of a DUT");
	*ret = config_dut_ref(config->duts[0]);
	return 0;
}

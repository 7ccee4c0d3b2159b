/* SPDX-License-Identifier: MIT */
#include "dut/config-internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

enum { ALIAS_MAX = 255 };

static const char *const type_keys[] = {
	"description", "tags",	 "variables", "power",	 "console",  "consoles", "qemu",
	"sim",	       "deploy", "reset",     "buttons", "training", "export",	 NULL,
};
static const char *const dut_keys[] = {
	"type",	 "aliases", "mac",	"description", "tags", "variables",
	"power", "console", "consoles", "qemu",	       "sim",  "deploy",
	"reset", "buttons", "training", "export",      NULL,
};

struct config_dut *config_dut_ref(struct config_dut *dut)
{
	dut->references++;
	return dut;
}

struct config_dut *config_dut_unref(struct config_dut *dut)
{
	if (!dut || --dut->references > 0)
		return NULL;
	free(dut->id);
	free(dut->description);
	for (char **alias = dut->aliases; alias && *alias; alias++)
		free(*alias);
	free(dut->aliases);
	for (char **tag = dut->tags; tag && *tag; tag++)
		free(*tag);
	free(dut->tags);
	free(dut->mac);
	json_decref(dut->variables);
	free(dut->power_driver);
	for (size_t i = 0; i < dut->n_consoles; i++) {
		free(dut->consoles[i].name);
		free(dut->consoles[i].driver);
		free(dut->consoles[i].dut_tty);
	}
	free(dut->consoles);
	free(dut->deploy_driver);
	config_trees_done(&dut->trees);
	free(dut);
	return NULL;
}

/* ---- types ---- */

static const struct yaml_node *find_type(const struct config_loader *loader, const char *name)
{
	for (size_t i = 0; i < loader->n_types; i++)
		if (strcmp(loader->types[i]->key, name) == 0)
			return loader->types[i];
	return NULL;
}

/* Whether a file's root, or an entry of it, is a mapping; nothing at all is well. */
static bool is_mapping(struct config_loader *loader, const struct yaml_node *node, const char *what)
{
	if (node->kind == YAML_MAPPING)
		return true;
	if (!yaml_is_null(node))
		problems_add_at(loader->problems, node, node->key, "%s needs keys with values",
				what);
	return false;
}

bool config_is_name(struct config_loader *loader, const struct yaml_node *node)
{
	if (text_is_name(node->key))
		return true;
	problems_add(loader->problems, node->file, node->key_line, node->key_column, node->key,
		     "'%s' is no name: a letter, then at most 62 letters, digits, '_', '.', '-'",
		     node->key);
	return false;
}

static void add_type(struct config_loader *loader, const struct yaml_node *node)
{
	const struct yaml_node *other = find_type(loader, node->key), **types;

	if (other) {
		problems_add(loader->problems, node->file, node->key_line, node->key_column,
			     node->key, "type '%s' stands already at %s:%u:%u", node->key,
			     other->file, other->key_line, other->key_column);
		return;
	}
	types = reallocarray(loader->types, loader->n_types + 1, sizeof(const struct yaml_node *));
	if (!types) {
		loader->out_of_memory = true;
		return;
	}
	loader->types = types;
	types[loader->n_types++] = node;
}

void config_read_types(struct config_loader *loader, const struct yaml_node *root)
{
	if (!is_mapping(loader, root, root->key ? root->key : "a file of types"))
		return;
	YAML_FOREACH(child, root) {
		if (!config_is_name(loader, child))
			continue;
		if (is_mapping(loader, child, child->key))
			yaml_check_keys(child, child->key, type_keys, loader->problems);
		add_type(loader, child);
	}
}

/* What a DUT's own keys lie over, or NULL. */
static const struct yaml_node *find_type_of(const struct config_loader *loader,
					    const struct yaml_node *node)
{
	const struct yaml_node *type = yaml_get(node, "type");
	const struct yaml_node *below;

	if (!type || yaml_is_null(type))
		return NULL;
	if (type->kind != YAML_SCALAR) {
		problems_add_at(loader->problems, type, "type", "type: needs the name of a type");
		return NULL;
	}
	below = find_type(loader, type->text);
	if (!below)
		problems_add_at(loader->problems, type, "type", "type: there is no type '%s'",
				type->text);
	return below && below->kind == YAML_MAPPING ? below : NULL;
}

/* The DUT's own keys over those of its type, as a copy; NULL when memory ran out. */
static const struct yaml_node *merge_type(struct config_loader *loader,
					  const struct yaml_node *node)
{
	const struct yaml_node *below = find_type_of(loader, node);
	struct yaml_tree *tree = NULL;

	if (yaml_merge(&tree, below, node) < 0 || config_keep_tree(loader->trees, tree) < 0) {
		loader->out_of_memory = true;
		return NULL;
	}
	return yaml_root(tree);
}

/* ---- the DUT ---- */

static void read_aliases(const struct config_section *section, struct config_dut *dut)
{
	const struct yaml_node *node = config_get(section, "aliases");

	config_read_texts(section, "aliases", &dut->aliases);
	if (!node || node->kind != YAML_SEQUENCE)
		return;
	YAML_FOREACH(child, node)
		if (child->kind == YAML_SCALAR && strchr(child->text, '/'))
			problems_add_at(section->loader->problems, child, "aliases",
					"alias '%s' holds a '/'", child->text);
		else if (child->kind == YAML_SCALAR && child->length > ALIAS_MAX)
			problems_add_at(section->loader->problems, child, "aliases",
					"this alias is over %d bytes", ALIAS_MAX);
}

static bool is_mac(const char *text)
{
	for (size_t i = 0; i < 17; i++)
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
			return false;
	return text[17] == '\0';
}

static void read_mac(const struct config_section *section, struct config_dut *dut)
{
	config_read_text(section, "mac", &dut->mac);
	if (!dut->mac)
		return;
	if (!is_mac(dut->mac))
		config_problem(section, config_get(section, "mac"),
			       "needs to be such as 02:00:00:12:34:56");
	for (char *at = dut->mac; *at; at++)
		*at = (char)tolower((unsigned char)*at);
}

static void read_dut(struct config_loader *loader, const struct yaml_node *node,
		     struct config_dut *dut)
{
	struct config_section section;

	loader->trees = &dut->trees;
	dut->id = config_copy(loader, node->key);
	dut->node = merge_type(loader, node);
	if (!dut->node)
		return;
	config_section_init(&section, loader, node->key, dut->node, dut_keys);
	config_read_text(&section, "description", &dut->description);
	read_aliases(&section, dut);
	config_read_texts(&section, "tags", &dut->tags);
	read_mac(&section, dut);
	dut->variables = json_copy(loader->config->variables);
	if (dut->variables)
		config_read_variables(&section, dut->variables);
	else
		loader->out_of_memory = true;
	config_read_hardware(&section, dut);
	config_refuse_not_yet(&section, "reset", "reset");
	config_refuse_not_yet(&section, "buttons", "buttons");
	config_refuse_not_yet(&section, "training", "training");
	config_refuse_not_yet(&section, "export", "export");
}

void config_read_duts(struct config_loader *loader, const struct yaml_node *root)
{
	struct config *config = loader->config;

	if (!is_mapping(loader, root, root->key ? root->key : "a file of DUTs"))
		return;
	YAML_FOREACH(child, root) {
		struct config_dut **duts, *dut;

		if (!config_is_name(loader, child))
			continue;
		duts = reallocarray(config->duts, config->n_duts + 1, sizeof(struct config_dut *));
		dut = calloc(1, sizeof(*dut));
		if (duts)
			config->duts = duts;
		if (!duts || !dut) {
			free(dut);
			loader->out_of_memory = true;
			return;
		}
		duts[config->n_duts++] = config_dut_ref(dut);
		read_dut(loader, child, dut);
	}
}

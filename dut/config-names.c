/* SPDX-License-Identifier: MIT */
#include "dut/config-internal.h"

#include <stdlib.h>
#include <string.h>

static int compare_by_name(const void *left, const void *right)
{
	const struct config_name *a = left, *b = right;
	int order = strcmp(a->name, b->name);

	if (order != 0)
		return order;
	return a->index < b->index ? -1 : 1;
}

static size_t count_names(const struct config *config)
{
	size_t n = config->n_duts;

	for (size_t i = 0; i < config->n_duts; i++)
		for (char **alias = config->duts[i]->aliases; alias && *alias; alias++)
			n++;
	return n;
}

static void add_names(struct config_name *names, size_t *n, struct config_dut *dut)
{
	const struct yaml_node *aliases = yaml_get(dut->node, "aliases");

	names[*n] = (struct config_name){
		.name = dut->id,
		.dut = dut,
		.file = dut->node->file,
		.line = dut->node->key_line,
		.column = dut->node->key_column,
		.index = *n,
	};
	(*n)++;
	for (char **alias = dut->aliases; alias && *alias; alias++) {
		const struct yaml_node *place = aliases ? aliases->first : NULL;

		while (place && (!place->text || strcmp(place->text, *alias) != 0))
			place = place->next;
		names[*n] = (struct config_name){ .name = *alias, .dut = dut, .index = *n };
		if (place) {
			names[*n].file = place->file;
			names[*n].line = place->line;
			names[*n].column = place->column;
		}
		(*n)++;
	}
}

void config_index_names(struct config_loader *loader)
{
	struct config *config = loader->config;
	struct config_private *private = config->private;
	const struct config_name *kept;

	private->names = calloc(count_names(config) + 1, sizeof(*private->names));
	if (!private->names) {
		loader->out_of_memory = true;
		return;
	}
	for (size_t i = 0; i < config->n_duts; i++)
		if (config->duts[i]->id && config->duts[i]->node)
			add_names(private->names, &private->n_names, config->duts[i]);
	qsort(private->names, private->n_names, sizeof(*private->names), compare_by_name);
	kept = private->names;
	for (size_t i = 1; i < private->n_names; i++) {
		const struct config_name *name = &private->names[i];

		if (strcmp(kept->name, name->name) != 0)
			kept = name;
		else
			problems_add(loader->problems, name->file, name->line, name->column,
				     name->dut->id, "the name '%s' stands already at %s:%u:%u",
				     name->name, kept->file, kept->line, kept->column);
	}
}

struct config_dut *config_find_dut(const struct config *config, const char *id)
{
	size_t first = 0, end = config->private->n_names;

	while (first < end) {
		size_t middle = first + (end - first) / 2;
		int order = strcmp(id, config->private->names[middle].name);

		if (order == 0)
			return config->private->names[middle].dut;
		if (order < 0)
			end = middle;
		else
			first = middle + 1;
	}
	return NULL;
}

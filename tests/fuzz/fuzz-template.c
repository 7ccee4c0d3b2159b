/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <jansson.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/template.h"
#include "tests/fuzz/fuzz.h"

CLEANUP_DEFINE(struct yaml_tree *, yaml_tree_free)

static bool skip(const char *parent, const char *key)
{
	return parent && strcmp(parent, "skip") == 0 && strcmp(key, "this") == 0;
}

static size_t count_nodes(const struct rendering *rendering, const struct yaml_node *node)
{
	size_t count = 1;

	(void)rendering_unsure(rendering, node);
	if (node->kind == YAML_SCALAR)
		assert(node->text && !node->text[node->length]);
	YAML_FOREACH(child, node)
		count += count_nodes(rendering, child);
	return count;
}

static void render(const struct yaml_node *root, const json_t *facts, bool guess)
{
	const struct template_config config = { .facts = facts, .guess = guess, .skip = skip };
	struct problems problems = { 0 };
	struct rendering rendering = { 0 };
	json_auto_t *notes = json_array();

	assert(template_render(&rendering, &config, root, NULL, &problems, notes) == 0);
	assert(rendering.tree);
	(void)count_nodes(&rendering, yaml_root(rendering.tree));
	rendering_done(&rendering);
	problems_done(&problems);
}

/* The first part is the facts, a JSON object; the second the YAML. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct yaml_limits limits = {
		.max_bytes = 64 << 10,
		.max_nodes = 500,
		.max_depth = 9,
	};
	struct fuzz_part rest = { data, size }, first = { data, 0 };
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = NULL;
	struct problems problems = { 0 };
	json_auto_t *facts = NULL;

	(void)fuzz_next_part(&rest, &first);
	facts = json_loadb((const char *)first.data, first.size, 0, NULL);
	if (yaml_parse(&tree, NULL, (const char *)rest.data, rest.size, &limits, &problems) == 0) {
		render(yaml_root(tree), facts, false);
		render(yaml_root(tree), facts, true);
	}
	problems_done(&problems);
	return 0;
}

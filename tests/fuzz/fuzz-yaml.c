/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "tests/fuzz/fuzz.h"

CLEANUP_DEFINE(struct yaml_tree *, yaml_tree_free)

static const struct yaml_limits limits = { .max_bytes = 64 << 10,
					   .max_nodes = 500,
					   .max_depth = 9 };

/* Every node, as often as an alias shows it: within the limits there are not many. */
static void walk(const struct yaml_node *node, unsigned depth, size_t *count)
{
	assert(depth <= limits.max_depth);
	assert(++*count <= limits.max_nodes);
	assert(node->line > 0 && node->column > 0);
	if (node->kind == YAML_SCALAR)
		assert(node->text && !node->text[node->length] && !node->first);
	(void)yaml_is_null(node);
	(void)yaml_to_bool(node);
	YAML_FOREACH(child, node) {
		assert(!child->key == (node->kind != YAML_MAPPING));
		walk(child, depth + 1, count);
	}
}

static void check_problems(int r, struct problems *problems)
{
	assert(r == 0 || r == -EBADMSG);
	assert((r == 0) == !problems_any(problems));
	for (size_t i = 0; i < problems->count; i++)
		assert(problems->items[i].text && problems->items[i].line > 0);
	problems_sort(problems);
	problems_done(problems);
}

/* Two documents, the second over the first. */
static void merge(const struct yaml_node *below, const struct yaml_node *over)
{
	static const char *const keys[] = { "a", "b", NULL };
	cleanup_(yaml_tree_freep) struct yaml_tree *merged = NULL, *copy = NULL;
	struct problems problems = { 0 };

	if (below->kind != YAML_MAPPING || over->kind != YAML_MAPPING)
		return;
	assert(yaml_merge(&merged, below, over) == 0);
	YAML_FOREACH(child, over)
		assert(yaml_get(yaml_root(merged), child->key));
	YAML_FOREACH(child, below)
		assert(yaml_get(yaml_root(merged), child->key));
	assert(yaml_copy_without(&copy, yaml_root(merged), keys) == 0);
	assert(!yaml_get(yaml_root(copy), "a"));
	yaml_check_keys(yaml_root(copy), "x", keys, &problems);
	problems_done(&problems);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_part rest = { data, size }, part;
	struct yaml_tree *trees[2] = { NULL, NULL };

	for (unsigned i = 0; i < 2 && fuzz_next_part(&rest, &part); i++) {
		struct problems problems = { 0 };
		size_t count = 0;
		int r = yaml_parse(&trees[i], "f", (const char *)part.data, part.size, &limits,
				   &problems);

		assert((r == 0) == (trees[i] != NULL));
		check_problems(r, &problems);
		if (r == 0)
			walk(yaml_root(trees[i]), 0, &count);
	}
	if (trees[0] && trees[1])
		merge(yaml_root(trees[0]), yaml_root(trees[1]));
	(void)yaml_tree_free(trees[0]);
	(void)yaml_tree_free(trees[1]);
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "base/yaml-tree.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/text.h"

/* Each chunk is twice as large as the one before: most trees are one board's. */
enum { CHUNK_FIRST = 1024, CHUNK_LAST = 65536 };

struct yaml_chunk {
	struct yaml_chunk *next;
	size_t used, size;
	alignas(max_align_t) char bytes[];
};

CLEANUP_DEFINE(struct yaml_tree *, yaml_tree_free)

struct yaml_tree *yaml_tree_new(void)
{
	return calloc(1, sizeof(struct yaml_tree));
}

struct yaml_tree *yaml_tree_free(struct yaml_tree *tree)
{
	struct yaml_chunk *next;

	if (!tree)
		return NULL;
	for (struct yaml_chunk *chunk = tree->chunks; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	free(tree);
	return NULL;
}

void *yaml_tree_alloc(struct yaml_tree *tree, size_t size)
{
	struct yaml_chunk *chunk = tree->chunks;
	void *memory;

	size = (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
	if (!chunk || chunk->size - chunk->used < size) {
		size_t room = chunk ? 2 * chunk->size : CHUNK_FIRST;

		if (room > CHUNK_LAST)
			room = CHUNK_LAST;
		if (room < size)
			room = size;
		chunk = calloc(1, sizeof(*chunk) + room);
		if (!chunk)
			return NULL;
		chunk->size = room;
		chunk->next = tree->chunks;
		tree->chunks = chunk;
	}
	memory = chunk->bytes + chunk->used;
	chunk->used += size;
	return memory;
}

char *yaml_tree_copy_text(struct yaml_tree *tree, const char *text, size_t length)
{
	char *copy = yaml_tree_alloc(tree, length + 1);

	if (copy)
		memcpy(copy, text, length);
	return copy;
}

struct yaml_node *yaml_root(const struct yaml_tree *tree)
{
	return tree->root;
}

struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key)
{
	if (!mapping || mapping->kind != YAML_MAPPING)
		return NULL;
	YAML_FOREACH(child, mapping)
		if (strcmp(child->key, key) == 0)
			return child;
	return NULL;
}

struct entry {
	struct yaml_node *node;
	size_t index;
	bool merged, dropped;
};

static int compare_entries(const void *left, const void *right)
{
	const struct entry *a = *(struct entry *const *)left, *b = *(struct entry *const *)right;
	int order = strcmp(a->node->key, b->node->key);

	if (order != 0)
		return order;
	return a->index < b->index ? -1 : 1;
}

/* Of several entries with one key the first stays; a later one is a fault unless it was merged. */
static int drop_repeated(struct entry *entries, size_t n, struct problems *problems)
{
	free_ struct entry **sorted = NULL;
	const struct entry *kept;

	if (n < 2)
		return 0;
	sorted = calloc(n, sizeof(struct entry *));
	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		sorted[i] = &entries[i];
	qsort(sorted, n, sizeof(struct entry *), compare_entries);
	kept = sorted[0];
	for (size_t i = 1; i < n; i++) {
		const struct yaml_node *node = sorted[i]->node;

		if (strcmp(node->key, kept->node->key) != 0) {
			kept = sorted[i];
			continue;
		}
		sorted[i]->dropped = true;
		if (sorted[i]->merged)
			continue;
		problems_add(problems, node->file, node->key_line, node->key_column, node->key,
			     "key '%s' stands twice, first at line %u, column %u", node->key,
			     kept->node->key_line, kept->node->key_column);
	}
	return 0;
}

static size_t count_children(const struct yaml_node *node)
{
	size_t n = 0;

	YAML_FOREACH(child, node)
		n++;
	return n;
}

/* Copies the children of a merged mapping: the originals stay in a list of their own. */
static int add_merged(struct yaml_tree *tree, const struct yaml_node *mapping,
		      struct entry *entries, size_t *n)
{
	YAML_FOREACH(child, mapping) {
		struct yaml_node *copy = yaml_tree_alloc(tree, sizeof(*copy));

		if (!copy)
			return -ENOMEM;
		*copy = *child;
		entries[*n] = (struct entry){ .node = copy, .index = *n, .merged = true };
		(*n)++;
	}
	return 0;
}

static int add_all_merged(struct yaml_tree *tree, const struct yaml_node *merge,
			  struct entry *entries, size_t *n)
{
	if (merge->kind == YAML_MAPPING)
		return add_merged(tree, merge, entries, n);
	YAML_FOREACH(mapping, merge) {
		int r = add_merged(tree, mapping, entries, n);

		if (r < 0)
			return r;
	}
	return 0;
}

/* The number of children that << brings, or -EBADMSG with a problem. */
static ssize_t count_merged(const struct yaml_node *merge, struct problems *problems)
{
	bool legal = merge->kind != YAML_SCALAR;
	size_t n = 0;

	if (merge->kind == YAML_MAPPING)
		n = count_children(merge);
	if (merge->kind == YAML_SEQUENCE)
		YAML_FOREACH(child, merge) {
			legal = legal && child->kind == YAML_MAPPING;
			n += count_children(child);
		}
	if (legal)
		return (ssize_t)n;
	problems_add(problems, merge->file, merge->key_line, merge->key_column, "<<",
		     "'<<' needs a mapping or a list of mappings");
	return -EBADMSG;
}

int yaml_tree_finish_mapping(struct yaml_tree *tree, struct yaml_node *mapping,
			     const struct yaml_node *merge, struct problems *problems)
{
	struct yaml_node **link = &mapping->first;
	size_t n = 0, n_own = count_children(mapping);
	free_ struct entry *entries = NULL;
	ssize_t n_merged = merge ? count_merged(merge, problems) : 0;
	int r;

	if (n_merged < 0)
		return (int)n_merged;
	if (n_own + (size_t)n_merged == 0)
		return 0;
	entries = calloc(n_own + (size_t)n_merged, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	YAML_FOREACH(child, mapping) {
		entries[n] = (struct entry){ .node = child, .index = n };
		n++;
	}
	if (merge) {
		r = add_all_merged(tree, merge, entries, &n);
		if (r < 0)
			return r;
	}
	r = drop_repeated(entries, n, problems);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (!entries[i].dropped) {
			*link = entries[i].node;
			link = &entries[i].node->next;
		}
	*link = NULL;
	return 0;
}

static bool is_one_of(const char *text, size_t length, const char *const *words)
{
	for (; *words; words++)
		if (strlen(*words) == length && memcmp(*words, text, length) == 0)
			return true;
	return false;
}

bool yaml_is_null(const struct yaml_node *node)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL", NULL };

	return node->kind == YAML_SCALAR && node->plain &&
	       is_one_of(node->text, node->length, words);
}

int yaml_to_bool(const struct yaml_node *node)
{
	static const char *const yes[] = { "y",	 "Y",  "yes",  "Yes",  "YES",  "on",
					   "On", "ON", "true", "True", "TRUE", NULL };
	static const char *const no[] = { "n",	 "N",	"no",	 "No",	  "NO",	   "off",
					  "Off", "OFF", "false", "False", "FALSE", NULL };

	if (node->kind != YAML_SCALAR)
		return -1;
	if (is_one_of(node->text, node->length, yes))
		return 1;
	return is_one_of(node->text, node->length, no) ? 0 : -1;
}

/* Appends a child to a mapping or sequence whose last child is *last. */
static void append(struct yaml_node *parent, struct yaml_node **last, struct yaml_node *child)
{
	if (*last)
		(*last)->next = child;
	else
		parent->first = child;
	*last = child;
}

/* The tree's own copy of a file name; neighbours mostly come from the same file. */
static const char *copy_file(struct yaml_tree *tree, const struct yaml_node *node,
			     const struct yaml_node *neighbour)
{
	if (neighbour && neighbour->file && strcmp(neighbour->file, node->file) == 0)
		return neighbour->file;
	return yaml_tree_copy_text(tree, node->file, strlen(node->file));
}

/* Copies a node without its children. */
static struct yaml_node *copy_node(struct yaml_tree *tree, const struct yaml_node *node,
				   const struct yaml_node *neighbour)
{
	struct yaml_node *copy = yaml_tree_alloc(tree, sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *node;
	copy->first = NULL;
	copy->next = NULL;
	if (node->file)
		copy->file = copy_file(tree, node, neighbour);
	if (node->key)
		copy->key = yaml_tree_copy_text(tree, node->key, strlen(node->key));
	if (node->text)
		copy->text = yaml_tree_copy_text(tree, node->text, node->length);
	if ((node->file && !copy->file) || (node->key && !copy->key) || (node->text && !copy->text))
		return NULL;
	return copy;
}

/*
 * Copies below with over on top of it; one of both may be NULL. Recurses as deep as the trees are,
 * which yaml_parse() has bounded.
 */
static struct yaml_node *merge(struct yaml_tree *tree, const struct yaml_node *below,
			       const struct yaml_node *over, const struct yaml_node *neighbour)
{
	bool both = below && over && below->kind == YAML_MAPPING && over->kind == YAML_MAPPING;
	const struct yaml_node *own = over ? over : below;
	struct yaml_node *copy = copy_node(tree, own, neighbour), *last = NULL;

	if (!copy)
		return NULL;
	if (both)
		YAML_FOREACH(child, below) {
			struct yaml_node *merged =
				merge(tree, child, yaml_get(over, child->key), copy);

			if (!merged)
				return NULL;
			append(copy, &last, merged);
		}
	YAML_FOREACH(child, own) {
		struct yaml_node *copied;

		if (both && yaml_get(below, child->key))
			continue;
		copied = merge(tree, NULL, child, copy);
		if (!copied)
			return NULL;
		append(copy, &last, copied);
	}
	return copy;
}

int yaml_merge(struct yaml_tree **ret, const struct yaml_node *below, const struct yaml_node *over)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = yaml_tree_new();

	if (!tree)
		return -ENOMEM;
	if (!below && !over)
		tree->root = yaml_tree_alloc(tree, sizeof(*tree->root));
	else
		tree->root = merge(tree, below, over, NULL);
	if (!tree->root)
		return -ENOMEM;
	if (!below && !over)
		tree->root->kind = YAML_MAPPING;
	*ret = take_ptr(tree);
	return 0;
}

int yaml_copy_without(struct yaml_tree **ret, const struct yaml_node *node, const char *const *keys)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = NULL;
	struct yaml_node **link;
	int r = yaml_merge(&tree, NULL, node);

	if (r < 0)
		return r;
	link = &tree->root->first;
	while (tree->root->kind == YAML_MAPPING && *link) {
		if (yaml_is_null(*link) || is_one_of((*link)->key, strlen((*link)->key), keys))
			*link = (*link)->next;
		else
			link = &(*link)->next;
	}
	*ret = take_ptr(tree);
	return 0;
}

void yaml_check_keys(const struct yaml_node *mapping, const char *path, const char *const *known,
		     struct problems *problems)
{
	if (mapping->kind != YAML_MAPPING) {
		problems_add_at(problems, mapping, path, "%s%sneeds keys with values",
				path ? path : "", path ? " " : "this ");
		return;
	}
	YAML_FOREACH(child, mapping) {
		const char *nearest;
		char dotted[256];

		if (is_one_of(child->key, strlen(child->key), known))
			continue;
		nearest = text_nearest(child->key, known);
		(void)snprintf(dotted, sizeof(dotted), "%s%s%s", path ? path : "", path ? "." : "",
			       child->key);
		problems_add(problems, child->file, child->key_line, child->key_column, dotted,
			     nearest ? "unknown key '%.100s', did you mean '%s'?"
				     : "unknown key '%.100s'",
			     child->key, nearest);
	}
}

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

#include "base/yaml.h"

/* What yaml.c (libyaml) and yaml-tree.c (the tree) share. Everything in a tree lies in its chunks
 * and is freed at once. */

struct yaml_chunk;

struct yaml_tree {
	struct yaml_chunk *chunks;
	struct yaml_node *root;
};

/* NULL when memory ran out. */
struct yaml_tree *yaml_tree_new(void);

/* Zeroed memory that lives as long as the tree, or NULL. */
void *yaml_tree_alloc(struct yaml_tree *tree, size_t size);

/* A terminated copy that lives as long as the tree, or NULL. */
char *yaml_tree_copy_text(struct yaml_tree *tree, const char *text, size_t length);

/*
 * Completes a mapping that has all its own children: takes up the children of merge (the value of
 * <<, or NULL; its key's place is set) behind them, and notes keys that stand twice.
 *
 * Errors: -EBADMSG with a problem when merge has no children; -ENOMEM. A repeated key is a problem
 * but no error, so that all of them are found.
 */
int yaml_tree_finish_mapping(struct yaml_tree *tree, struct yaml_node *mapping,
			     const struct yaml_node *merge, struct problems *problems);

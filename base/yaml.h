/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/problem.h"

/*
 * YAML 1.1 as a tree that remembers where everything stood. The input is not trusted: bytes, nodes
 * (aliases count each time they are used) and depth are bounded. Merge keys (<<) are resolved. A
 * key that stands twice in a mapping, a key that is no scalar, and a second document are problems.
 */

enum yaml_kind { YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };

struct yaml_node {
	enum yaml_kind kind;
	bool plain;	       /* a scalar without quotes: may be null, a number or a boolean */
	const char *file;      /* owned by the tree, or NULL */
	unsigned line, column; /* from 1 */
	char *key;	       /* its key, when the parent is a mapping */
	unsigned key_line, key_column;
	char *text; /* a scalar's value, terminated; may hold NULs up to length */
	size_t length;
	struct yaml_node *first; /* of the children, in order */
	struct yaml_node *next;	 /* sibling */
};

#define YAML_FOREACH(child, parent) \
	for (struct yaml_node *child = (parent)->first; child; child = child->next)

struct yaml_limits {
	size_t max_bytes; /* of the text */
	size_t max_nodes; /* after aliases */
	unsigned max_depth;
};

extern const struct yaml_limits yaml_default_limits; /* 1 MiB, 20,000 nodes, 32 deep */

struct yaml_tree;

/*
 * Parses one document. An empty one has a root that is an empty plain scalar.
 *
 * Errors: -EBADMSG with one or more problems added (file, line, column); -ENOMEM.
 * Owns:   *ret and every node in it live until yaml_tree_free().
 */
int yaml_parse(struct yaml_tree **ret, const char *file, const char *text, size_t length,
	       const struct yaml_limits *limits, struct problems *problems);
struct yaml_tree *yaml_tree_free(struct yaml_tree *tree);

/* The root. The tree stays as it is: what an alias stands for shares its children. */
struct yaml_node *yaml_root(const struct yaml_tree *tree);

/* The child with this key, or NULL; NULL and non-mappings have no children. */
struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key);

/* A plain scalar that is empty, "~" or "null". */
bool yaml_is_null(const struct yaml_node *node);

/* 1 or 0 for YAML 1.1's booleans (y/yes/on/true, n/no/off/false, any of the usual cases), plain or
 * quoted; else -1. */
int yaml_to_bool(const struct yaml_node *node);

/*
 * Copies below into a new tree that holds over's keys on top: mappings merge deeply, scalars and
 * sequences are replaced. Each node keeps the place that it came from. Either may be NULL.
 */
int yaml_merge(struct yaml_tree **ret, const struct yaml_node *below, const struct yaml_node *over);

/* Copies a mapping into a new tree, except these of its keys (ends with NULL) and those whose value
 * is null. */
int yaml_copy_without(struct yaml_tree **ret, const struct yaml_node *node,
		      const char *const *keys);

/*
 * Adds a problem for each key of mapping that is not in known (ends with NULL), with the nearest
 * known key; path is the mapping's own dotted path or NULL. A node that is no mapping is a problem
 * too.
 */
void yaml_check_keys(const struct yaml_node *mapping, const char *path, const char *const *known,
		     struct problems *problems);

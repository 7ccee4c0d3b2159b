/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/problem.h"
#include "base/yaml.h"

/*
 * {{ dotted.name }} inside the scalars of a job file. Names are replaced after the YAML was parsed,
 * so that a value never changes the structure; a value is not rendered again; {{{{ stands for {{.
 * See "TEMPLATES" in dut-job(5).
 */

struct template_config {
	const json_t *facts; /* see description.h */
	bool guess; /* without a daemon: what only it knows gets a placeholder and a note */
	/* Whether to leave the value of a key as it is, because nobody will read it; may be NULL.
	 */
	bool (*skip)(const char *parent, const char *key);
};

/* A tree with every name replaced; it lives as long as the one that it was made from. */
struct rendering {
	struct yaml_tree *tree;
	struct unsure_node {
		const struct yaml_node *node;
	} * unsure; /* those that hold a placeholder, or had a problem */
	size_t n_unsure;
};

/*
 * Renders a node with all beneath it. path is its own dotted path, or NULL for the root. A list
 * that is the whole value of a scalar takes its place; as an item of a list its items do.
 * A name without a value, or a result that is too large, is a problem; *ret is filled nevertheless,
 * so that what else is wrong is found as well.
 *
 * Errors: -ENOMEM.
 */
int template_render(struct rendering *ret, const struct template_config *config,
		    const struct yaml_node *node, const char *path, struct problems *problems,
		    json_t *notes);
void rendering_done(struct rendering *rendering);

/* Whether the value of a node is not what it will be, so that nothing can be said about it. */
bool rendering_unsure(const struct rendering *rendering, const struct yaml_node *node);

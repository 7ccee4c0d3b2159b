/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/problem.h"
#include "base/yaml.h"

/*
 * {{ dotted.name }} inside the scalars of a job file. It is replaced after the YAML was parsed, so
 * that a value never changes the structure; a value is not rendered again; {{{{ stands for {{. See
 * "TEMPLATES" in dut-job(5).
 */

struct template
{
	const json_t *facts; /* see description.h */
	bool lenient;	     /* without a daemon: bare names are not known here, and DUTs neither */
	struct problems *problems;
	json_t *notes; /* array of texts, or NULL: what a lenient rendering took on trust */
};

/*
 * Renders a scalar into a text of its own (terminated), or NULL after problems. key is its dotted
 * path.
 */
char *template_render(const struct template *template, const struct yaml_node *node,
		      const char *key, size_t *ret_length);

/* The list (an array of texts, borrowed) if the scalar is exactly one list name, else NULL. */
const json_t *template_list(const struct template *template, const struct yaml_node *node);

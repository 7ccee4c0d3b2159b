/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/yaml.h"
#include "executor/description.h"
#include "executor/template.h"

/* What the files that read a job file share. */

enum { KEY_SIZE = 256 };

struct reader {
	struct description *description;
	const json_t *facts;
	struct template template;
	struct problems *problems;
};

/* "PARENT.KEY", or KEY. */
void reader_join(char path[static KEY_SIZE], const char *parent, const char *key);

/* The rendered text of a scalar, to be freed; NULL (after a problem) for what is none, or is null.
 */
char *reader_text(const struct reader *reader, const struct yaml_node *node, const char *path,
		  size_t *ret_length);

/* Whether it is a mapping with only these keys; absent and null nodes are no mapping and no
 * problem. */
bool reader_mapping(const struct reader *reader, const struct yaml_node *node, const char *path,
		    const char *const *known);

void reader_timeouts(const struct reader *reader, const struct yaml_node *node);
void reader_patterns(const struct reader *reader, const struct yaml_node *node);
void reader_deployment(const struct reader *reader, const struct yaml_node *node);

/* The watchdog of that name, made when it is not there yet; NULL when memory ran out. */
struct watchdog *reader_watchdog(const struct reader *reader, const char *name);

/* description_parse(), also noting what it took on trust: an array of texts, or NULL. */
int description_parse_noting(struct description **ret, const char *text, size_t length,
			     const json_t *facts, struct problems *problems, json_t *notes);

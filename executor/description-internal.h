/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/attr.h"
#include "base/yaml.h"
#include "executor/description.h"
#include "executor/template.h"

/* What the files that read a job file share. */

enum { KEY_SIZE = 256 };

struct reader {
	struct description *description;
	const json_t *facts;
	struct rendering rendering;
	struct problems *problems;
	json_t *notes;	 /* array of texts, or NULL: what a person should know, short of a fault */
	bool check_only; /* patterns are checked and not kept */
	size_t pattern_bytes; /* of all that were compiled */
	int r;		      /* -ENOMEM when memory ran out on the way */
};

/* "PARENT.KEY", or KEY. */
void reader_join(char path[static KEY_SIZE], const char *parent, const char *key);

/* Notes what is wrong with the value of a node, unless that value is a placeholder. */
void reader_fault(struct reader *reader, const struct yaml_node *node, const char *path,
		  const char *format, ...) printf_(4, 5);

void reader_note(struct reader *reader, const char *format, ...) printf_(2, 3);

/* Copies a text, or NULL; memory that runs out ends up in reader->r. */
char *reader_copy(struct reader *reader, const char *text);

/* The text of a scalar; NULL for one that is absent or null, and after a problem. */
const char *reader_text(struct reader *reader, const struct yaml_node *node, const char *path);

/*
 * Whether a node is a mapping. Keys that are not in known (ends with NULL; NULL: any) are problems,
 * as is a node of another kind; one that is absent or null is no mapping and no problem.
 */
bool reader_mapping(struct reader *reader, const struct yaml_node *node, const char *path,
		    const char *const *known);

/* Whether this version does not know a key that has a meaning elsewhere: see description-keys.c. */
bool reader_is_refused(const char *parent, const char *key);

/* A member of facts[group], or otherwise. */
uint64_t reader_fact_us(const struct reader *reader, const char *group, const char *name,
			uint64_t otherwise);

void reader_deadline(struct reader *reader, const struct yaml_node *node);
void reader_target(struct reader *reader, const struct yaml_node *node);
void reader_timeouts(struct reader *reader, const struct yaml_node *node);
void reader_patterns(struct reader *reader, const struct yaml_node *node);
void reader_deployment(struct reader *reader, const struct yaml_node *node);
void reader_url(struct reader *reader, const struct yaml_node *node, const char *path,
		struct artifact *artifact);

/* The watchdog of that name, made when it is not there yet; NULL when memory ran out. */
struct watchdog *reader_watchdog(struct reader *reader, const char *name);

/* The tree of a job file, which is a mapping. Errors: -EBADMSG with problems; -ENOMEM. */
int description_parse_yaml(struct yaml_tree **ret, const char *text, size_t length,
			   struct problems *problems);

struct description_source {
	const struct yaml_node *root;
	const json_t *facts;
	bool check_only;
	struct problems *problems;
	json_t *notes;
};

/* description_parse() for a tree that is there. */
int description_read(struct description **ret, const struct description_source *source);

/* Only the target, which is what decides for which DUT the rest is read. */
int description_read_target(struct description **ret, const struct description_source *source);

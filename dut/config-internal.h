/* SPDX-License-Identifier: MIT */
#pragma once

#include "dut/config.h"

/* What the files of the configuration's reader share. */

/* A DUT's name or one of its aliases, and where it stands. */
struct config_name {
	const char *name;
	struct config_dut *dut;
	const char *file;
	unsigned line, column;
	size_t index; /* in the order of the files */
};

struct config_private {
	struct config_name *names; /* sorted */
	size_t n_names;
};

struct config_loader {
	struct config *config;
	struct problems *problems;
	const struct yaml_node **types; /* the mappings of types.d */
	size_t n_types;
	struct config_trees files;  /* what was parsed: gone when all of it is read */
	struct config_trees *trees; /* those of the DUT that is being read */
	bool out_of_memory;	    /* said once, at the end */
};

/* A mapping that is being read; what is wrong in it is noted, what is absent keeps its default. */
struct config_section {
	struct config_loader *loader;
	const struct yaml_node *mapping; /* NULL: absent, or no mapping */
	char path[256];			 /* "vm-1.power"; empty for the root */
};

/* ---- config-read.c ---- */

/* The section of node, which may be NULL or null; known ends with NULL, and is NULL itself where a
 * driver will check the keys. */
void config_section_init(struct config_section *section, struct config_loader *loader,
			 const char *path, const struct yaml_node *node, const char *const *known);

/* The section under this key of another. */
void config_section_at(struct config_section *section, const struct config_section *parent,
		       const char *key, const char *const *known);

/* The value of a key, or NULL when it is absent or null. */
const struct yaml_node *config_get(const struct config_section *section, const char *key);

/* Notes a fault at a value of this section; the text begins with the key. */
void config_problem(const struct config_section *section, const struct yaml_node *node,
		    const char *format, ...) printf_(3, 4);

/* Keys that the manual promises for later are refused, never ignored. */
void config_refuse_not_yet(const struct config_section *section, const char *key,
			   const char *shown);

/* A printable text without control characters. NULL and a problem (or out_of_memory) else. */
const char *config_node_text(const struct config_section *section, const struct yaml_node *node);

void config_read_text(const struct config_section *section, const char *key, char **ret);
void config_read_texts(const struct config_section *section, const char *key, char ***ret);
void config_read_duration(const struct config_section *section, const char *key, uint64_t *ret_us);
void config_read_size(const struct config_section *section, const char *key, uint64_t *ret);
void config_read_count(const struct config_section *section, const char *key, uint64_t *ret);

/* The index of the word in words (ends with NULL); booleans mean "on" and "off". */
void config_read_word(const struct config_section *section, const char *key,
		      const char *const *words, unsigned *ret);

/* Adds to or replaces in variables, a JSON object of texts. */
void config_read_variables(const struct config_section *section, json_t *variables);

char *config_copy(struct config_loader *loader, const char *text);

/* ---- config-api.c ---- */

/* The section api:, and the tokens that it names. */
void config_read_api(const struct config_section *root, struct config *config);

/* ---- config-users.c ---- */

void config_read_job_users(const struct config_section *section, struct config *config);

/* ---- config-names.c ---- */

/* Makes names and aliases findable, and notes those that stand twice. */
void config_index_names(struct config_loader *loader);

/* ---- config-dut.c ---- */

/* Takes the types of one file, or of `types:` in dutd.yaml. */
void config_read_types(struct config_loader *loader, const struct yaml_node *root);

/* Reads the DUTs of one file, or of `duts:` in dutd.yaml. */
void config_read_duts(struct config_loader *loader, const struct yaml_node *root);

/* Whether a node's key is a legal name; notes a problem if not. */
bool config_is_name(struct config_loader *loader, const struct yaml_node *node);

/* ---- config-hardware.c ---- */

/* Power, consoles and deploy of a DUT, and the short forms for all of it. */
void config_read_hardware(const struct config_section *section, struct config_dut *dut);

/* ---- config.c ---- */

/* Keeps a tree with others; frees it when memory runs out. */
int config_keep_tree(struct config_trees *trees, struct yaml_tree *tree);
void config_trees_done(struct config_trees *trees);

/* SPDX-License-Identifier: MIT */
#include "dut/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "dut/config-internal.h"

/*
 * dutd.yaml is read first, then the types, then the DUTs. What is wrong is noted and reading goes
 * on, so that a person sees all of it at once; a configuration with a problem is never returned.
 * Each DUT gets copies of the nodes that are its own; the files' trees go at the end.
 */

enum { USEC_PER_SEC = 1000000, MAX_CONNECTIONS = 100000, MIN_JOB_TASKS = 16 };

/* dutd trusts its configuration; these only catch a wrong file. */
static const struct yaml_limits config_yaml_limits = {
	.max_bytes = 16 << 20,
	.max_nodes = 1000000,
	.max_depth = 32,
};

CLEANUP_DEFINE(struct config *, config_free)
CLEANUP_DEFINE(struct yaml_tree *, yaml_tree_free)

static void free_texts(char **texts)
{
	for (char **text = texts; text && *text; text++)
		free(*text);
	free(texts);
}

struct config *config_free(struct config *config)
{
	if (!config)
		return NULL;
	free(config->job_users);
	free(config->socket_group);
	free_texts(config->admins);
	free_texts(config->host_names);
	free_texts(config->listen);
	free(config->tokens_file);
	tokens_done(&config->tokens);
	free_texts(config->file_roots);
	json_decref(config->variables);
	for (size_t i = 0; i < config->n_duts; i++)
		config_dut_unref(config->duts[i]);
	free(config->duts);
	config_trees_done(&config->trees);
	if (config->private)
		free(config->private->names);
	free(config->private);
	free(config);
	return NULL;
}

int config_keep_tree(struct config_trees *trees, struct yaml_tree *tree)
{
	struct yaml_tree **items =
		reallocarray(trees->items, trees->count + 1, sizeof(struct yaml_tree *));

	if (!items) {
		(void)yaml_tree_free(tree);
		return -ENOMEM;
	}
	trees->items = items;
	items[trees->count++] = tree;
	return 0;
}

void config_trees_done(struct config_trees *trees)
{
	for (size_t i = 0; i < trees->count; i++)
		(void)yaml_tree_free(trees->items[i]);
	free(trees->items);
}

/* ---- dutd.yaml ---- */

static void require_positive(const struct config_section *section, const char *key, uint64_t value)
{
	const struct yaml_node *node = config_get(section, key);

	if (node && value == 0)
		config_problem(section, node, "needs to be more than 0");
}

static void read_positive_duration(const struct config_section *section, const char *key,
				   uint64_t *ret_us)
{
	config_read_duration(section, key, ret_us);
	require_positive(section, key, *ret_us);
}

static void read_positive_size(const struct config_section *section, const char *key, uint64_t *ret)
{
	config_read_size(section, key, ret);
	require_positive(section, key, *ret);
}

static void read_limits(const struct config_section *root, struct config_limits *limits)
{
	static const char *const known[] = { "overall",	     "job_file",    "bucket",
					     "bucket_files", "console_log", "waiting_jobs",
					     "kept_jobs",    "kept_age",    "kept_size",
					     "kept_records", "connections", "free_space",
					     "idle_log",     "job_memory",  "job_tasks",
					     "reservation",  NULL };
	struct config_section section;

	config_section_at(&section, root, "limits", known);
	read_positive_duration(&section, "overall", &limits->overall_us);
	read_positive_duration(&section, "reservation", &limits->reservation_us);
	read_positive_size(&section, "job_file", &limits->job_file);
	read_positive_size(&section, "bucket", &limits->bucket);
	read_positive_size(&section, "console_log", &limits->console_log);
	config_read_size(&section, "free_space", &limits->free_space);
	read_positive_size(&section, "idle_log", &limits->idle_log);
	config_read_count(&section, "bucket_files", &limits->bucket_files);
	config_read_count(&section, "waiting_jobs", &limits->waiting_jobs);
	config_read_count(&section, "kept_jobs", &limits->kept_jobs);
	config_read_duration(&section, "kept_age", &limits->kept_age_us);
	config_read_size(&section, "kept_size", &limits->kept_size);
	config_read_count(&section, "kept_records", &limits->kept_records);
	config_read_count(&section, "connections", &limits->connections);
	read_positive_size(&section, "job_memory", &limits->job_memory);
	config_read_count(&section, "job_tasks", &limits->job_tasks);
	/* dut-executor, dut-helper and a few of what that starts. */
	if (limits->job_tasks < MIN_JOB_TASKS)
		config_problem(&section, config_get(&section, "job_tasks"),
			       "needs to be at least %d", MIN_JOB_TASKS);
	/* Two: one user gets half of them. */
	if (limits->connections < 2 || limits->connections > MAX_CONNECTIONS)
		config_problem(&section, config_get(&section, "connections"),
			       "needs to be from 2 to %d", MAX_CONNECTIONS);
}

static void read_timeouts(const struct config_section *root, struct config *config)
{
	static const char *const known[] = { "overall",	 "infra_teardown", "daemon",
					     "executor", "client",	   NULL };
	struct config_section section;
	const struct yaml_node *overall;

	config_section_at(&section, root, "timeouts", known);
	read_positive_duration(&section, "overall", &config->overall_us);
	read_positive_duration(&section, "infra_teardown", &config->infra_teardown_us);
	read_positive_duration(&section, "daemon", &config->daemon_us);
	read_positive_duration(&section, "executor", &config->executor_us);
	read_positive_duration(&section, "client", &config->client_us);
	overall = config_get(&section, "overall");
	if (config->overall_us <= config->limits.overall_us)
		return;
	if (overall)
		config_problem(&section, overall, "is more than limits.overall");
	else
		config->overall_us = config->limits.overall_us;
}

/* To compare a newer configuration with. */
static void keep_settings(struct config_loader *loader, const struct yaml_node *node)
{
	static const char *const others[] = { "duts", "types", "pdus", NULL };
	struct yaml_tree *tree = NULL;

	if (yaml_copy_without(&tree, node, others) < 0 ||
	    config_keep_tree(&loader->config->trees, tree) < 0)
		loader->out_of_memory = true;
	else
		loader->config->settings = yaml_root(tree);
}

static void read_root(struct config_loader *loader, const struct yaml_node *node)
{
	static const char *const known[] = { "api",  "variables", "timeouts", "job_users", "limits",
					     "duts", "types",	  "pdus",     NULL };
	struct config *config = loader->config;
	struct config_section root;

	config_section_init(&root, loader, "", node, known);
	config_read_api(&root, config);
	config_read_variables(&root, config->variables);
	read_limits(&root, &config->limits);
	read_timeouts(&root, config);
	config_read_job_users(&root, config);
	config_refuse_not_yet(&root, "pdus", "pdus");
	keep_settings(loader, node);
}

/* ---- files ---- */

/* Parses one file; *ret_root stays NULL when it has a problem. A negative code: not read. */
static int read_file(struct config_loader *loader, const char *path,
		     const struct yaml_node **ret_root, struct error *err)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = NULL;
	close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	free_ char *text = NULL;
	size_t length;
	int r;

	if (fd < 0)
		return error_errno(err, "%s", path);
	r = file_read_fd(&text, &length, fd, config_yaml_limits.max_bytes, err);
	if (r < 0)
		return error_prefix(err, r, "%s", path);
	r = yaml_parse(&tree, path, text, length, &config_yaml_limits, loader->problems);
	if (r == -EBADMSG)
		return 0;
	if (r < 0 || config_keep_tree(&loader->files, take_ptr(tree)) < 0) {
		loader->out_of_memory = true;
		return 0;
	}
	*ret_root = yaml_root(loader->files.items[loader->files.count - 1]);
	return 0;
}

typedef void (*file_fn)(struct config_loader *loader, const struct yaml_node *root);

static bool ends_in(const char *name, const char *end)
{
	size_t length = strlen(name), end_length = strlen(end);

	return length > end_length && strcmp(name + length - end_length, end) == 0;
}

static void read_folder_entry(struct config_loader *loader, const char *folder, const char *name,
			      file_fn fn)
{
	const struct yaml_node *root = NULL;
	free_ char *path = NULL;
	struct error err;
	int r;

	if (asprintf(&path, "%s/%s", folder, name) < 0) {
		path = NULL;
		loader->out_of_memory = true;
		return;
	}
	if (ends_in(name, ".yml")) {
		problems_add(loader->problems, path, 0, 0, NULL, "rename to .yaml");
		return;
	}
	r = read_file(loader, path, &root, &err);
	if (r < 0)
		problems_add(loader->problems, path, 0, 0, NULL, "%s", err.text);
	else if (root)
		fn(loader, root);
}

/* Files that an editor or a package manager leaves behind are neither. */
static int is_configuration(const struct dirent *entry)
{
	return entry->d_name[0] != '.' &&
	       (ends_in(entry->d_name, ".yaml") || ends_in(entry->d_name, ".yml"));
}

/* The order of bytes, whatever the locale. */
static int compare_names(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_folder(struct config_loader *loader, const char *beside, const char *name,
			file_fn fn)
{
	struct dirent **entries = NULL;
	free_ char *folder = NULL;
	int n;

	if (asprintf(&folder, "%s/%s", beside, name) < 0) {
		folder = NULL;
		loader->out_of_memory = true;
		return;
	}
	n = scandir(folder, &entries, is_configuration, compare_names);
	if (n < 0 && errno == ENOMEM)
		loader->out_of_memory = true;
	else if (n < 0 && errno != ENOENT)
		problems_add(loader->problems, folder, 0, 0, NULL, "%s", strerror(errno));
	for (int i = 0; i < n; i++) {
		read_folder_entry(loader, folder, entries[i]->d_name, fn);
		free(entries[i]);
	}
	free(entries);
}

static void refuse_pdus(struct config_loader *loader, const struct yaml_node *root)
{
	if (root->kind != YAML_MAPPING && !yaml_is_null(root))
		problems_add_at(loader->problems, root, NULL, "not yet: pdus.d");
	if (root->kind != YAML_MAPPING)
		return;
	YAML_FOREACH(child, root)
		problems_add(loader->problems, child->file, child->key_line, child->key_column,
			     child->key, "not yet: pdus.d");
}

/* ---- all of it ---- */

static struct config *new_config(void)
{
	struct config *config = calloc(1, sizeof(*config));

	if (!config)
		return NULL;
	config->socket_mode = 0660;
	config->overall_us = UINT64_C(6) * 3600 * USEC_PER_SEC;
	config->infra_teardown_us = UINT64_C(600) * USEC_PER_SEC;
	config->daemon_us = UINT64_C(600) * USEC_PER_SEC;
	config->executor_us = UINT64_C(600) * USEC_PER_SEC;
	config->client_us = UINT64_C(60) * USEC_PER_SEC;
	config->limits = (struct config_limits){
		.overall_us = UINT64_C(24) * 3600 * USEC_PER_SEC,
		.reservation_us = UINT64_C(24) * 3600 * USEC_PER_SEC,
		.job_file = UINT64_C(1) << 20,
		.bucket = UINT64_C(4) << 30,
		.bucket_files = 100000,
		.console_log = UINT64_C(2) << 30,
		.waiting_jobs = 1000,
		.kept_jobs = 10000,
		.kept_records = 1000000,
		.connections = 2000,
		.free_space = UINT64_C(256) << 20,
		.idle_log = UINT64_C(256) << 20,
		.job_memory = UINT64_C(2) << 30,
		.job_tasks = 256,
	};
	config->private = calloc(1, sizeof(*config->private));
	config->variables = json_object();
	if (!config->private || !config->variables)
		return config_free(config);
	return config;
}

/* The path as an absolute one: messages and relative paths of the files then mean one place. */
static char *absolute_path(const char *path)
{
	free_ char *here = NULL;
	char *absolute = NULL;

	if (path[0] == '/')
		return strdup(path);
	here = getcwd(NULL, 0);
	if (!here || asprintf(&absolute, "%s/%s", here, path) < 0)
		return NULL;
	return absolute;
}

static int load(struct config_loader *loader, const char *path, struct error *err)
{
	const struct yaml_node *root = NULL;
	free_ char *absolute = absolute_path(path), *folder = NULL;
	int r;

	if (!absolute)
		return error_oom(err);
	r = read_file(loader, absolute, &root, err);
	if (r < 0)
		return r;
	folder = strndup(absolute, (size_t)(strrchr(absolute, '/') - absolute));
	if (!folder)
		return error_oom(err);
	if (root)
		read_root(loader, root);
	if (yaml_get(root, "types"))
		config_read_types(loader, yaml_get(root, "types"));
	read_folder(loader, folder, "types.d", config_read_types);
	read_folder(loader, folder, "pdus.d", refuse_pdus);
	if (yaml_get(root, "duts"))
		config_read_duts(loader, yaml_get(root, "duts"));
	read_folder(loader, folder, "duts.d", config_read_duts);
	config_index_names(loader);
	return 0;
}

int config_load(struct config **ret, const char *path, struct problems *problems, struct error *err)
{
	cleanup_(config_freep) struct config *config = new_config();
	struct config_loader loader = { .config = config, .problems = problems };
	size_t count;
	int r;

	if (!config)
		return error_oom(err);
	r = load(&loader, path, err);
	free(loader.types);
	config_trees_done(&loader.files);
	if (r < 0)
		return r;
	if (loader.out_of_memory)
		return error_oom(err);
	if (problems_any(problems)) {
		problems_sort(problems);
		count = problems->count + problems->lost;
		return error_set(err, -EBADMSG, "%s: %zu problem%s", path, count,
				 count == 1 ? "" : "s");
	}
	*ret = take_ptr(config);
	return 0;
}

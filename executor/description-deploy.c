/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "executor/description-internal.h"

/* `deployment:` of a job file. */

enum { SHA256_DIGITS = 64 };

/* Keys of newer releases of the reference system. */
static const char *const newer[] = { "storage", "fastboot", "dhcp", "data", "archive", "format" };

static bool is_newer(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(newer); i++)
		if (strcmp(key, newer[i]) == 0)
			return true;
	return false;
}

/* As reader_mapping(), but a key of a newer format is called by its name. */
static bool check_mapping(const struct reader *reader, const struct yaml_node *node,
			  const char *path, const char *const *known)
{
	bool old = true;

	if (!reader_mapping(reader, node, path, NULL))
		return false;
	YAML_FOREACH(child, node) {
		if (is_newer(child->key)) {
			problems_add(reader->problems, child->file, child->key_line,
				     child->key_column, path, "not supported: %s", child->key);
			old = false;
		}
	}
	if (old)
		yaml_check_keys(node, path, known, reader->problems);
	return true;
}

/* ---- URLs ---- */

static bool leaves_folder(const char *path)
{
	for (const char *at = path; *at;) {
		size_t length = strcspn(at, "/");

		if (length == 2 && strncmp(at, "..", 2) == 0)
			return true;
		at += length + (at[length] == '/');
	}
	return false;
}

static bool lies_beneath(const char *path, const char *root)
{
	size_t length = strlen(root);

	while (length > 0 && root[length - 1] == '/')
		length--;
	return strncmp(path, root, length) == 0 && path[length] == '/';
}

/* The place on disk is checked again, links included, by whoever opens it. */
static void check_file_url(const struct reader *reader, const struct yaml_node *node,
			   const char *path, const char *url)
{
	const json_t *roots = json_object_get(reader->facts, "file_roots"), *root;
	const char *file = url + strlen("file://");
	size_t i;

	if (*file != '/') {
		problems_add_at(reader->problems, node, path, "%s: a file URL is file:///PATH",
				path);
		return;
	}
	if (leaves_folder(file)) {
		problems_add_at(reader->problems, node, path, "%s: a file URL has no '..'", path);
		return;
	}
	if (!roots || reader->template.lenient)
		return;
	json_array_foreach((json_t *)(uintptr_t)roots, i, root)
		if (lies_beneath(file, json_string_value(root)))
			return;
	problems_add_at(
		reader->problems, node, path,
		"%s: the file lies outside of the folders that jobs may read (api.file_roots)",
		path);
}

static void read_url(const struct reader *reader, const struct yaml_node *node, const char *path,
		     struct artifact *artifact)
{
	char *url = reader_text(reader, node, path, NULL);

	if (!url)
		return;
	free(artifact->url);
	free(artifact->bucket);
	artifact->url = artifact->bucket = NULL;
	artifact->line = node->line;
	artifact->column = node->column;
	if (strncmp(url, "bucket:", 7) == 0) {
		artifact->bucket = strdup(url + 7);
		if (!url[7] || url[7] == '/' || leaves_folder(url + 7))
			problems_add_at(
				reader->problems, node, path,
				"%s: 'bucket:' is followed by a path in the bucket, without '..'",
				path);
		free(url);
		return;
	}
	artifact->url = url;
	if (strncmp(url, "file://", 7) == 0)
		check_file_url(reader, node, path, url);
	else if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		problems_add_at(reader->problems, node, path,
				"%s must begin with http://, https://, file:/// or bucket:", path);
}

static void read_sha256(const struct reader *reader, const struct yaml_node *node, const char *path,
			struct artifact *artifact)
{
	char *text = reader_text(reader, node, path, NULL);

	if (!text)
		return;
	for (char *c = text; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (strlen(text) != SHA256_DIGITS || strspn(text, "0123456789abcdef") != SHA256_DIGITS)
		problems_add_at(reader->problems, node, path, "%s must be 64 hex digits", path);
	free(artifact->sha256);
	artifact->sha256 = text;
}

/* ---- the deployments ---- */

static void read_artifact(const struct reader *reader, const struct yaml_node *node,
			  const char *path, struct artifact *artifact)
{
	char key[KEY_SIZE];

	/* Another file has another sum. */
	if (yaml_get(node, "url")) {
		free(artifact->sha256);
		artifact->sha256 = NULL;
	}
	reader_join(key, path, "url");
	read_url(reader, yaml_get(node, "url"), key, artifact);
	reader_join(key, path, "sha256");
	read_sha256(reader, yaml_get(node, "sha256"), key, artifact);
	if (artifact->sha256 && !artifact->url && !artifact->bucket)
		problems_add_at(reader->problems, node, path, "%s has a sha256, but no url", path);
}

static void append_word(char **text, const char *word)
{
	char *longer;

	if (asprintf(&longer, "%s%s%s", *text ? *text : "", *text ? " " : "", word) < 0)
		return;
	free(*text);
	*text = longer;
}

/* A text, or a list that is joined by blanks; a list name among them counts as its texts. */
static void read_cmdline(const struct reader *reader, const struct yaml_node *node,
			 const char *path, char **ret)
{
	char *joined = NULL;

	if (!node || yaml_is_null(node))
		return;
	if (node->kind == YAML_MAPPING) {
		problems_add_at(reader->problems, node, path,
				"%s must be a text or a list; not supported: categories", path);
		return;
	}
	if (node->kind == YAML_SCALAR) {
		joined = reader_text(reader, node, path, NULL);
	} else {
		joined = strdup("");
		YAML_FOREACH(child, node) {
			const json_t *list = template_list(&reader->template, child), *value;
			free_ char *word = list ? NULL : reader_text(reader, child, path, NULL);
			size_t i;

			json_array_foreach((json_t *)(uintptr_t)list, i, value)
				append_word(&joined, json_string_value(value));
			if (word && *word)
				append_word(&joined, word);
		}
	}
	if (joined && *joined == ' ')
		memmove(joined, joined + 1, strlen(joined));
	free(*ret);
	*ret = joined;
}

static void read_deployment(const struct reader *reader, const struct yaml_node *node,
			    const char *path, struct deployment *deployment)
{
	static const char *const known[] = { "kernel", "initramfs", "dtb", NULL };
	static const char *const kernel_keys[] = { "url", "sha256", "cmdline", NULL };
	static const char *const file_keys[] = { "url", "sha256", NULL };
	struct artifact *files[] = { &deployment->kernel, &deployment->initramfs,
				     &deployment->dtb };
	char key[KEY_SIZE], cmdline[KEY_SIZE];

	if (!check_mapping(reader, node, path, known))
		return;
	for (size_t i = 0; known[i]; i++) {
		const struct yaml_node *child = yaml_get(node, known[i]);

		reader_join(key, path, known[i]);
		if (check_mapping(reader, child, key, i == 0 ? kernel_keys : file_keys))
			read_artifact(reader, child, key, files[i]);
	}
	reader_join(cmdline, path, "kernel.cmdline");
	read_cmdline(reader, yaml_get(yaml_get(node, "kernel"), "cmdline"), cmdline,
		     &deployment->cmdline);
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static void copy_artifact(struct artifact *to, const struct artifact *from)
{
	*to = (struct artifact){
		.url = copy(from->url),
		.bucket = copy(from->bucket),
		.sha256 = copy(from->sha256),
		.line = from->line,
		.column = from->column,
	};
}

static bool delivers_anything(const struct deployment *deployment)
{
	const struct artifact *files[] = { &deployment->kernel, &deployment->initramfs,
					   &deployment->dtb };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (files[i]->url || files[i]->bucket)
			return true;
	return deployment->cmdline;
}

static void check_driver(const struct reader *reader, const struct yaml_node *node)
{
	const json_t *dut = json_object_get(reader->facts, "dut");
	const char *id = json_string_value(json_object_get(dut, "id"));

	if (reader->template.lenient || json_is_string(json_object_get(dut, "deploy")))
		return;
	problems_add_at(
		reader->problems, node, "deployment",
		"%s boots what it has: it has no deploy driver that could deliver a deployment",
		id ? id : "the DUT");
}

void reader_deployment(const struct reader *reader, const struct yaml_node *node)
{
	static const char *const known[] = { "start", "continue", NULL };
	struct description *description = reader->description;
	struct deployment *start = &description->start, *next = &description->next;

	if (!check_mapping(reader, node, "deployment", known))
		return;
	if (yaml_get(node, "continue") && !yaml_get(node, "start"))
		problems_add_at(reader->problems, node, "deployment",
				"deployment needs a start when it has a continue");
	read_deployment(reader, yaml_get(node, "start"), "deployment.start", start);
	copy_artifact(&next->kernel, &start->kernel);
	copy_artifact(&next->initramfs, &start->initramfs);
	copy_artifact(&next->dtb, &start->dtb);
	next->cmdline = copy(start->cmdline);
	read_deployment(reader, yaml_get(node, "continue"), "deployment.continue", next);
	description->has_deployment = delivers_anything(start) || delivers_anything(next);
	if (description->has_deployment)
		check_driver(reader, node);
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "executor/description-internal.h"

/* `deployment:` of a job file. */

enum {
	SHA256_DIGITS = 64,
	CMDLINE_BYTES_MAX = 8192, /* it travels in a control packet, as JSON */
};

/* What a deployment can deliver, as bits. */
enum {
	DELIVERS_KERNEL = 1 << 0,
	DELIVERS_INITRAMFS = 1 << 1,
	DELIVERS_DTB = 1 << 2,
	DELIVERS_CMDLINE = 1 << 3,
};

static const struct {
	const char *driver;
	unsigned delivers;
} deploy_drivers[] = {
	{ "qemu", DELIVERS_KERNEL | DELIVERS_INITRAMFS | DELIVERS_DTB | DELIVERS_CMDLINE },
};

/* ---- the DUT ---- */

/* Notes a problem when the DUT cannot deliver this. Facts without a driver say nothing. */
static void check_driver(struct reader *reader, const struct yaml_node *node, const char *path,
			 unsigned what)
{
	const json_t *dut = json_object_get(reader->facts, "dut");
	const json_t *deploy = json_object_get(dut, "deploy");
	const char *id = json_string_value(json_object_get(dut, "id"));

	if (!deploy)
		return;
	if (!json_is_string(deploy)) {
		reader_fault(reader, node, path,
			     "%s: DUT '%.64s' boots what it has, it is configured without deploy",
			     path, id ? id : "?");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(deploy_drivers); i++)
		if (strcmp(json_string_value(deploy), deploy_drivers[i].driver) == 0 &&
		    !(deploy_drivers[i].delivers & what))
			reader_fault(reader, node, path,
				     "%s: deploy '%s' of DUT '%.64s' cannot deliver it", path,
				     json_string_value(deploy), id ? id : "?");
}

/* ---- files ---- */

static void read_sha256(struct reader *reader, const struct yaml_node *node, const char *path,
			struct artifact *artifact)
{
	const char *text = reader_text(reader, node, path);

	if (!text)
		return;
	if (strlen(text) != SHA256_DIGITS ||
	    strspn(text, "0123456789abcdefABCDEF") != SHA256_DIGITS)
		reader_fault(reader, node, path, "%s must be %d hexadecimal digits", path,
			     SHA256_DIGITS);
	free(artifact->sha256);
	artifact->sha256 = reader_copy(reader, text);
	for (char *digit = artifact->sha256; digit && *digit; digit++)
		if (*digit >= 'A' && *digit <= 'F')
			*digit = (char)(*digit - 'A' + 'a');
}

static void read_artifact(struct reader *reader, const struct yaml_node *node, const char *path,
			  unsigned what, struct artifact *artifact)
{
	const struct yaml_node *url = yaml_get(node, "url"), *sha256 = yaml_get(node, "sha256");
	char key[KEY_SIZE];

	if (url && !yaml_is_null(url)) {
		/* Another file has another sum. */
		free(artifact->sha256);
		artifact->sha256 = NULL;
		reader_join(key, path, "url");
		reader_url(reader, url, key, artifact);
		check_driver(reader, url, key, what);
	}
	reader_join(key, path, "sha256");
	read_sha256(reader, sha256, key, artifact);
	/* `continue` inherits a sum that start was told of. */
	if (sha256 && artifact->sha256 && !artifact->url && !artifact->bucket)
		reader_fault(reader, sha256, key, "%s stands without a url", key);
}

/* ---- the command line ---- */

/* Appends a text, with one blank before it, and one for each line break in it but the last. */
static void append(FILE *file, const char *text, bool first)
{
	size_t length = strlen(text);

	while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r'))
		length--;
	if (!first)
		(void)fputc(' ', file);
	for (size_t i = 0; i < length; i++)
		(void)fputc(text[i] == '\n' || text[i] == '\r' ? ' ' : text[i], file);
}

static void append_all(struct reader *reader, FILE *file, const struct yaml_node *node,
		       const char *path)
{
	bool first = true;

	if (node->kind == YAML_SCALAR) {
		const char *text = reader_text(reader, node, path);

		append(file, text ? text : "", true);
		return;
	}
	YAML_FOREACH(child, node) {
		const char *text = reader_text(reader, child, path);

		if (yaml_is_null(child) || !text)
			continue;
		append(file, text, first);
		first = false;
	}
}

/* A text, or a list that is joined by single blanks. */
static void read_cmdline(struct reader *reader, const struct yaml_node *node, const char *path,
			 char **ret)
{
	char *text = NULL;
	size_t length = 0;
	FILE *file;

	if (!node || yaml_is_null(node))
		return;
	check_driver(reader, node, path, DELIVERS_CMDLINE);
	if (node->kind == YAML_MAPPING) {
		reader_fault(reader, node, path,
			     "not supported: categories in %s, write a text or a list", path);
		return;
	}
	file = open_memstream(&text, &length);
	if (file)
		append_all(reader, file, node, path);
	if (!file || fclose(file) != 0) {
		reader->r = -ENOMEM;
		free(text);
		return;
	}
	if (length > CMDLINE_BYTES_MAX)
		reader_fault(reader, node, path, "%s is longer than %d bytes", path,
			     CMDLINE_BYTES_MAX);
	free(*ret);
	*ret = text;
}

/* ---- the deployments ---- */

static void read_deployment(struct reader *reader, const struct yaml_node *node, const char *path,
			    struct deployment *deployment)
{
	static const char *const known[] = { "kernel", "initramfs", "dtb", NULL };
	static const char *const kernel_keys[] = { "url", "sha256", "cmdline", NULL };
	static const char *const file_keys[] = { "url", "sha256", NULL };
	static const unsigned what[] = { DELIVERS_KERNEL, DELIVERS_INITRAMFS, DELIVERS_DTB };
	struct artifact *files[] = { &deployment->kernel, &deployment->initramfs,
				     &deployment->dtb };
	char key[KEY_SIZE];

	if (!reader_mapping(reader, node, path, known))
		return;
	for (size_t i = 0; known[i]; i++) {
		const struct yaml_node *child = yaml_get(node, known[i]);

		reader_join(key, path, known[i]);
		if (child && child->kind == YAML_SEQUENCE)
			reader_fault(reader, child, key,
				     "not supported: a list in %s, one file each", key);
		else if (reader_mapping(reader, child, key, i == 0 ? kernel_keys : file_keys))
			read_artifact(reader, child, key, what[i], files[i]);
	}
	reader_join(key, path, "kernel.cmdline");
	read_cmdline(reader, yaml_get(yaml_get(node, "kernel"), "cmdline"), key,
		     &deployment->cmdline);
}

static void copy_artifact(struct reader *reader, struct artifact *to, const struct artifact *from)
{
	*to = (struct artifact){
		.url = reader_copy(reader, from->url),
		.bucket = reader_copy(reader, from->bucket),
		.sha256 = reader_copy(reader, from->sha256),
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

void reader_deployment(struct reader *reader, const struct yaml_node *node)
{
	static const char *const known[] = { "start", "continue", NULL };
	struct description *description = reader->description;
	struct deployment *start = &description->start, *next = &description->next;

	if (!reader_mapping(reader, node, "deployment", known))
		return;
	if (yaml_get(node, "continue") && !yaml_get(node, "start"))
		reader_fault(reader, node, "deployment.start",
			     "deployment.start is missing, deployment.continue changes it");
	read_deployment(reader, yaml_get(node, "start"), "deployment.start", start);
	copy_artifact(reader, &next->kernel, &start->kernel);
	copy_artifact(reader, &next->initramfs, &start->initramfs);
	copy_artifact(reader, &next->dtb, &start->dtb);
	next->cmdline = reader_copy(reader, start->cmdline);
	read_deployment(reader, yaml_get(node, "continue"), "deployment.continue", next);
	description->has_deployment = delivers_anything(start) || delivers_anything(next);
}

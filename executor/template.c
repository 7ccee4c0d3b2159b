/* SPDX-License-Identifier: MIT */
#include "executor/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"

enum { NAME_SIZE = 160 };

/* The reference system's names for what has a name of ours. */
static const struct {
	const char *old, *name;
} old_names[] = {
	{ "machine_id", "dut.id" },
	{ "machine_tags", "dut.tags" },
	{ "local_tty_device", "dut.tty" },
};

/* Names of the reference system's object store, which dutd does not have. */
static const char *const bucket_names[] = { "job_bucket", "job_bucket_access_key",
					    "job_bucket_secret_key", "minio_url" };

static const char *const known_names[] = {
	"dut.id",	    "dut.tags",	 "dut.mac",    "dut.tty",
	"dut.variables.X",  "job.id",	 "job.name",   "job.bucket.url",
	"job.bucket.token", "environ.X", "machine_id", "machine_tags",
	"local_tty_device", NULL
};

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '.' || c == '-';
}

/* The name between {{ and }}, without blanks around it; false when it is none. */
static bool read_name(const char *text, size_t length, char name[NAME_SIZE])
{
	while (length > 0 && (*text == ' ' || *text == '\t')) {
		text++;
		length--;
	}
	while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t'))
		length--;
	if (length == 0 || length >= NAME_SIZE)
		return false;
	for (size_t i = 0; i < length; i++)
		if (!is_name_char(text[i]))
			return false;
	memcpy(name, text, length);
	name[length] = '\0';
	return true;
}

static const json_t *get_path(const json_t *object, const char *path)
{
	const char *dot = strchr(path, '.');
	char first[NAME_SIZE];

	if (!dot)
		return json_object_get(object, path);
	(void)snprintf(first, sizeof(first), "%.*s", (int)(dot - path), path);
	return get_path(json_object_get(object, first), dot + 1);
}

/* A variable's own name may hold dots: what follows the prefix is one key. */
static const json_t *look_up(const struct template *template, const char *name)
{
	const json_t *dut = json_object_get(template->facts, "dut");
	const json_t *value;

	for (size_t i = 0; i < ARRAY_SIZE(old_names); i++)
		if (strcmp(name, old_names[i].old) == 0)
			return get_path(template->facts, old_names[i].name);
	if (strncmp(name, "environ.", 8) == 0)
		return json_object_get(json_object_get(template->facts, "environ"), name + 8);
	if (strncmp(name, "dut.variables.", 14) == 0)
		return json_object_get(json_object_get(dut, "variables"), name + 14);
	if (strncmp(name, "dut.", 4) == 0 || strncmp(name, "job.", 4) == 0)
		return get_path(template->facts, name);
	value = json_object_get(json_object_get(dut, "variables"), name);
	return value ? value : json_object_get(json_object_get(template->facts, "variables"), name);
}

/* Why a name has no value; false when a lenient rendering takes it on trust. */
static bool explain(const struct template *template, const struct yaml_node *node, const char *key,
		    const char *name)
{
	const char *nearest;
	char note[NAME_SIZE + 64];

	for (size_t i = 0; i < ARRAY_SIZE(bucket_names); i++) {
		if (strcmp(name, bucket_names[i]) == 0) {
			problems_add_at(
				template->problems, node, key,
				"{{ %s }}: there is no object store; the job's bucket is at "
				"{{ job.bucket.url }}",
				name);
			return true;
		}
	}
	if (strcmp(name, "job.bucket.url") == 0 || strcmp(name, "job.bucket.token") == 0) {
		problems_add_at(template->problems, node, key, "not yet: {{ %s }}", name);
		return true;
	}
	if (template->lenient && (!strchr(name, '.') || strncmp(name, "dut.", 4) == 0)) {
		(void)snprintf(note, sizeof(note), "{{ %s }} is known to the daemon only", name);
		if (template->notes)
			(void)json_array_append_new(template->notes, json_string(note));
		return false;
	}
	if (strncmp(name, "environ.", 8) == 0) {
		problems_add_at(template->problems, node, key,
				"{{ %s }}: no such variable was given; set it with --var %s=VALUE",
				name, name + 8);
		return true;
	}
	for (const char *const *known = known_names; *known; known++) {
		if (strcmp(name, *known) == 0) {
			problems_add_at(template->problems, node, key,
					"{{ %s }}: this DUT's configuration has none", name);
			return true;
		}
	}
	nearest = text_nearest(name, known_names);
	problems_add_at(template->problems, node, key, "{{ %s }} is not known%s%s%s", name,
			nearest ? "; did you mean " : "", nearest ? nearest : "",
			nearest ? "?" : "");
	return true;
}

/* The value as a text, to be freed; NULL after a problem. */
static char *value_text(const struct template *template, const struct yaml_node *node,
			const char *key, const char *name)
{
	const json_t *value = look_up(template, name);
	char *text = NULL;

	if (json_is_string(value))
		return strdup(json_string_value(value));
	if (json_is_integer(value)) {
		if (asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(value)) < 0)
			return NULL;
		return text;
	}
	if (json_is_boolean(value))
		return strdup(json_is_true(value) ? "true" : "false");
	if (json_is_array(value)) {
		problems_add_at(template->problems, node, key,
				"{{ %s }} is a list: it must be the whole of its text, in a list",
				name);
		return NULL;
	}
	if (explain(template, node, key, name))
		return NULL;
	return strdup("X");
}

struct output {
	FILE *file;
	char *text;
	size_t length;
};

/* Renders from *at on, behind a "{{" that is none of the escaped ones. False after a problem. */
static bool render_name(const struct template *template, const struct yaml_node *node,
			const char *key, const char **at, const char *end, struct output *output)
{
	const char *close = memmem(*at, (size_t)(end - *at), "}}", 2);
	free_ char *value = NULL;
	char name[NAME_SIZE];

	if (!close) {
		problems_add_at(template->problems, node, key,
				"'{{' without '}}'; a literal '{{' is written '{{{{'");
		*at = end;
		return false;
	}
	if (!read_name(*at, (size_t)(close - *at), name)) {
		problems_add_at(
			template->problems, node, key,
			"only {{ dotted.name }} can stand in a template, without filters and expressions; a "
			"literal '{{' is written '{{{{'");
		*at = close + 2;
		return false;
	}
	*at = close + 2;
	value = value_text(template, node, key, name);
	if (value)
		(void)fputs(value, output->file);
	return value;
}

char *template_render(const struct template *template, const struct yaml_node *node,
		      const char *key, size_t *ret_length)
{
	const char *at = node->text, *end = node->text + node->length;
	struct output output = { 0 };
	bool good = true;

	output.file = open_memstream(&output.text, &output.length);
	if (!output.file)
		return NULL;
	while (at < end) {
		const char *open = memmem(at, (size_t)(end - at), "{{", 2);

		(void)fwrite(at, 1, (size_t)((open ? open : end) - at), output.file);
		if (!open)
			break;
		at = open + 2;
		if (end - at >= 2 && at[0] == '{' && at[1] == '{') {
			(void)fputs("{{", output.file);
			at += 2;
		} else {
			good = render_name(template, node, key, &at, end, &output) && good;
		}
	}
	if (fclose(output.file) != 0 || !good) {
		free(output.text);
		return NULL;
	}
	if (ret_length)
		*ret_length = output.length;
	return output.text;
}

const json_t *template_list(const struct template *template, const struct yaml_node *node)
{
	const json_t *value;
	char name[NAME_SIZE];

	if (node->kind != YAML_SCALAR || node->length < 5 || strncmp(node->text, "{{", 2) != 0 ||
	    strcmp(node->text + node->length - 2, "}}") != 0 ||
	    !read_name(node->text + 2, node->length - 4, name))
		return NULL;
	value = look_up(template, name);
	return json_is_array(value) ? value : NULL;
}

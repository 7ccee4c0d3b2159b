/* SPDX-License-Identifier: MIT */
#include "dut/config-internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

void config_section_init(struct config_section *section, struct config_loader *loader,
			 const char *path, const struct yaml_node *node, const char *const *known)
{
	section->loader = loader;
	section->mapping = NULL;
	(void)snprintf(section->path, sizeof(section->path), "%s", path);
	if (!node || yaml_is_null(node))
		return;
	if (known)
		yaml_check_keys(node, path[0] ? path : NULL, known, loader->problems);
	else if (node->kind != YAML_MAPPING)
		problems_add_at(loader->problems, node, path, "%s needs keys with values", path);
	if (node->kind == YAML_MAPPING)
		section->mapping = node;
}

void config_section_at(struct config_section *section, const struct config_section *parent,
		       const char *key, const char *const *known)
{
	char path[sizeof(parent->path)];

	(void)snprintf(path, sizeof(path), "%.*s%s%s", (int)(sizeof(path) / 2), parent->path,
		       parent->path[0] ? "." : "", key);
	config_section_init(section, parent->loader, path, config_get(parent, key), known);
}

const struct yaml_node *config_get(const struct config_section *section, const char *key)
{
	const struct yaml_node *node = yaml_get(section->mapping, key);

	return node && !yaml_is_null(node) ? node : NULL;
}

void config_problem(const struct config_section *section, const struct yaml_node *node,
		    const char *format, ...)
{
	char path[2 * sizeof(section->path)];
	free_ char *text = NULL;
	va_list arguments;
	int length;

	(void)snprintf(path, sizeof(path), "%s%s%s", section->path,
		       section->path[0] && node->key ? "." : "", node->key ? node->key : "");
	va_start(arguments, format);
	length = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (length < 0) {
		text = NULL;
		section->loader->out_of_memory = true;
		return;
	}
	problems_add_at(section->loader->problems, node, path, "%s%s%s", node->key ? node->key : "",
			node->key ? ": " : "", text);
}

void config_refuse_not_yet(const struct config_section *section, const char *key, const char *shown)
{
	const struct yaml_node *node = config_get(section, key);
	char path[2 * sizeof(section->path)];

	if (!node)
		return;
	(void)snprintf(path, sizeof(path), "%s%s%s", section->path, section->path[0] ? "." : "",
		       key);
	problems_add(section->loader->problems, node->file, node->key_line, node->key_column, path,
		     "not yet: %s", shown);
}

char *config_copy(struct config_loader *loader, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		loader->out_of_memory = true;
	return copy;
}

const char *config_node_text(const struct config_section *section, const struct yaml_node *node)
{
	if (node->kind == YAML_SCALAR && node->length > 0 && !yaml_is_null(node) &&
	    text_is_printable(node->text, node->length))
		return node->text;
	config_problem(section, node, "needs a text of printable characters");
	return NULL;
}

void config_read_text(const struct config_section *section, const char *key, char **ret)
{
	const struct yaml_node *node = config_get(section, key);
	const char *text = node ? config_node_text(section, node) : NULL;

	if (text && !*ret)
		*ret = config_copy(section->loader, text);
}

static bool holds(char *const *texts, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(texts[i], text) == 0)
			return true;
	return false;
}

void config_read_texts(const struct config_section *section, const char *key, char ***ret)
{
	const struct yaml_node *node = config_get(section, key);
	size_t n = 0, kept = 0;
	char **texts;

	if (node && node->kind != YAML_SEQUENCE) {
		config_problem(section, node, "needs a list, such as [a, b]");
		node = NULL;
	}
	if (node)
		YAML_FOREACH(child, node)
			n++;
	texts = calloc(n + 1, sizeof(*texts));
	if (!texts) {
		section->loader->out_of_memory = true;
		return;
	}
	*ret = texts;
	if (!node)
		return;
	YAML_FOREACH(child, node) {
		const char *text = NULL;

		if (child->kind == YAML_SCALAR && text_is_printable(child->text, child->length) &&
		    child->length > 0)
			text = child->text;
		else
			problems_add_at(section->loader->problems, child, NULL,
					"%s: needs texts of printable characters", key);
		if (text && !holds(texts, kept, text)) {
			texts[kept] = config_copy(section->loader, text);
			if (!texts[kept])
				return;
			kept++;
		}
	}
}

void config_read_duration(const struct config_section *section, const char *key, uint64_t *ret_us)
{
	const struct yaml_node *node = config_get(section, key);
	const char *text = node ? config_node_text(section, node) : NULL;
	struct error err;

	if (text && text_to_duration_us(ret_us, text, &err) < 0)
		config_problem(section, node, "%s", err.text);
}

void config_read_size(const struct config_section *section, const char *key, uint64_t *ret)
{
	const struct yaml_node *node = config_get(section, key);
	const char *text = node ? config_node_text(section, node) : NULL;
	struct error err;

	if (text && text_to_size(ret, text, &err) < 0)
		config_problem(section, node, "%s", err.text);
}

void config_read_count(const struct config_section *section, const char *key, uint64_t *ret)
{
	const struct yaml_node *node = config_get(section, key);
	const char *text = node ? config_node_text(section, node) : NULL;
	struct error err;

	if (text && text_to_uint64(ret, text, 1, 1000000000, &err) < 0)
		config_problem(section, node, "%s", err.text);
}

static void problem_with_words(const struct config_section *section, const struct yaml_node *node,
			       const char *const *words)
{
	char list[128] = "";

	for (size_t used = 0; *words && used < sizeof(list); words++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
					 used == 0 ? "" : (words[1] ? ", " : " or "), *words);
	config_problem(section, node, "needs to be %s", list);
}

void config_read_word(const struct config_section *section, const char *key,
		      const char *const *words, unsigned *ret)
{
	const struct yaml_node *node = config_get(section, key);
	const char *word;
	int truth;

	if (!node)
		return;
	truth = yaml_to_bool(node);
	word = truth == 1 ? "on" : truth == 0 ? "off" : node->text;
	for (unsigned i = 0; words[i]; i++)
		if (node->kind == YAML_SCALAR && strcmp(words[i], word) == 0) {
			*ret = i;
			return;
		}
	problem_with_words(section, node, words);
}

/* A name that a template can hold; see dut-job(5). */
static bool is_variable_name(const char *name)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";

	return name[0] && strlen(name) <= TEXT_NAME_MAX && strchr(first, name[0]) &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-0123456789") ==
		       strlen(name);
}

/* Names that templates have from dutd itself; see dut-job(5). */
static bool is_own_name(const char *name)
{
	static const char *const own[] = { "dut",	 "job",		 "environ",
					   "machine_id", "machine_tags", "local_tty_device",
					   NULL };

	for (size_t i = 0; own[i]; i++)
		if (strcmp(own[i], name) == 0)
			return true;
	return false;
}

static bool check_variable(const struct config_section *section, const struct yaml_node *node)
{
	const char *fault = NULL;

	if (!is_variable_name(node->key))
		fault = "is no name of a variable: letters, digits, _ and -, at most 63";
	else if (is_own_name(node->key))
		fault = "is a name that templates have already";
	if (fault) {
		problems_add(section->loader->problems, node->file, node->key_line,
			     node->key_column, section->path, "variables: '%s' %s", node->key,
			     fault);
		return false;
	}
	if (node->kind != YAML_SCALAR || yaml_is_null(node) || strlen(node->text) != node->length) {
		config_problem(section, node, "needs a text (\"\" for an empty one)");
		return false;
	}
	return true;
}

void config_read_variables(const struct config_section *section, json_t *variables)
{
	const struct yaml_node *mapping = config_get(section, "variables");

	if (!mapping)
		return;
	if (mapping->kind != YAML_MAPPING) {
		config_problem(section, mapping, "needs names with texts");
		return;
	}
	YAML_FOREACH(child, mapping)
		if (check_variable(section, child) &&
		    json_object_set_new(variables, child->key,
					json_stringn(child->text, child->length)) < 0)
			section->loader->out_of_memory = true;
}

/* SPDX-License-Identifier: MIT */
#include "executor/template.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/yaml-tree.h"
#include "executor/template-names.h"

enum {
	NAME_SIZE = 128,
	PATH_SIZE = 256,
	RENDERED_BYTES_MAX = 4 << 20, /* of all values: a short job can name a long one often */
};

struct renderer {
	const struct template_config *config;
	struct rendering *rendering;
	struct problems *problems;
	json_t *notes;
	size_t bytes; /* of values so far */
	bool full;    /* that they were too many has been said */
	/* Of the scalar at hand: */
	const struct yaml_node *node;
	char path[PATH_SIZE];
	bool unsure;
};

#define fault(renderer, ...)        \
	((renderer)->unsure = true, \
	 problems_add_at((renderer)->problems, (renderer)->node, (renderer)->path, __VA_ARGS__))

void rendering_done(struct rendering *rendering)
{
	(void)yaml_tree_free(rendering->tree);
	free(rendering->unsure);
	*rendering = (struct rendering){ 0 };
}

bool rendering_unsure(const struct rendering *rendering, const struct yaml_node *node)
{
	for (size_t i = 0; i < rendering->n_unsure; i++)
		if (rendering->unsure[i].node == node)
			return true;
	return false;
}

static int note_unsure(struct rendering *rendering, const struct yaml_node *node)
{
	struct unsure_node *grown =
		reallocarray(rendering->unsure, rendering->n_unsure + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	rendering->unsure = grown;
	grown[rendering->n_unsure++] = (struct unsure_node){ node };
	return 0;
}

/* ---- names ---- */

static bool is_name_byte(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9') || byte == '_' || byte == '.' || byte == '-';
}

/* Reads " NAME }}" and returns what stands behind it, or NULL. */
static const char *read_name(const char *at, const char *end, char name[static NAME_SIZE])
{
	size_t length = 0;

	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	while (at < end && is_name_byte(*at) && length < NAME_SIZE - 1)
		name[length++] = *at++;
	name[length] = '\0';
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	if (length == 0 || name[0] == '-' || end - at < 2 || memcmp(at, "}}", 2) != 0)
		return NULL;
	return at + 2;
}

static void add_note(struct renderer *renderer, const char *text)
{
	const json_t *note;
	size_t i;

	json_array_foreach(renderer->notes, i, note)
		if (strcmp(json_string_value(note), text) == 0)
			return;
	(void)json_array_append_new(renderer->notes, json_string(text));
}

/* The value of a name; NULL after a problem, and for a placeholder. */
static const json_t *find_value(struct renderer *renderer, const char *name)
{
	const json_t *value = template_names_find(renderer->config->facts, name);
	struct error why;
	bool daemon_knows;

	if (value)
		return value;
	daemon_knows = template_names_explain(name, renderer->config->facts, &why);
	if (daemon_knows && renderer->config->guess) {
		renderer->unsure = true;
		(void)error_set(&why, 0, "{{ %s }} is not known without the daemon", name);
		add_note(renderer, why.text);
		return NULL;
	}
	fault(renderer, "%s: %s", renderer->path, why.text);
	return NULL;
}

static void write_value(struct renderer *renderer, FILE *file, const char *name,
			const json_t *value)
{
	const json_t *item;
	size_t i;

	if (json_is_string(value)) {
		(void)fwrite(json_string_value(value), 1, json_string_length(value), file);
	} else if (json_is_array(value)) {
		json_array_foreach(value, i, item) {
			if (i > 0)
				(void)fputc(',', file);
			write_value(renderer, file, name, item);
		}
	} else if (json_is_object(value)) {
		fault(renderer, "%s: {{ %s }} is a mapping, name one of its members",
		      renderer->path, name);
	} else {
		(void)json_dumpf(value, file, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
	}
}

/* ---- scalars ---- */

/* Blocks and comments of Jinja2: taken as text they would change what a job does without a word. */
static void refuse_blocks(struct renderer *renderer)
{
	const struct yaml_node *node = renderer->node;
	const char *end = node->text + node->length, *at = node->text;
	const char *comment = memmem(at, node->length, "{#", 2);

	while ((at = memmem(at, (size_t)(end - at), "{%", 2))) {
		at += 2;
		while (at < end && strchr("-+ \t\n", *at) && *at)
			at++;
		if (at < end && ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z')) &&
		    memmem(at, (size_t)(end - at), "%}", 2)) {
			fault(renderer, "%s: {%% ... %%} is not supported, only {{ dotted.name }}",
			      renderer->path);
			break;
		}
	}
	if (comment && memmem(comment, (size_t)(end - comment), "#}", 2))
		fault(renderer, "%s: {# ... #} is not supported, only {{ dotted.name }}",
		      renderer->path);
}

/* Renders what stands behind "{{"; returns where to go on. */
static const char *render_name(struct renderer *renderer, const char *at, const char *end,
			       FILE *file)
{
	char name[NAME_SIZE];
	const char *behind = read_name(at, end, name);
	const json_t *value;

	if (!behind) {
		const char *close = memmem(at, (size_t)(end - at), "}}", 2);

		if (close)
			fault(renderer,
			      "%s: only {{ dotted.name }} can stand here, no filter and no "
			      "expression; a literal '{{' is written '{{{{'",
			      renderer->path);
		else
			fault(renderer, "%s: '{{' without '}}'; a literal '{{' is written '{{{{'",
			      renderer->path);
		return close ? close + 2 : end;
	}
	value = find_value(renderer, name);
	if (value)
		write_value(renderer, file, name, value);
	return behind;
}

static void render_text(struct renderer *renderer, FILE *file)
{
	const char *at = renderer->node->text, *end = at + renderer->node->length;

	while (at < end) {
		const char *open = memmem(at, (size_t)(end - at), "{{", 2);

		(void)fwrite(at, 1, (size_t)((open ? open : end) - at), file);
		if (!open)
			return;
		at = open + 2;
		if (end - at >= 2 && memcmp(at, "{{", 2) == 0) {
			(void)fputs("{{", file);
			at += 2;
		} else {
			at = render_name(renderer, at, end, file);
		}
	}
}

static int set_text(struct renderer *renderer, struct yaml_node *node, const char *text,
		    size_t length)
{
	if (length > RENDERED_BYTES_MAX - renderer->bytes) {
		if (!renderer->full)
			fault(renderer, "%s: from here on the values make more than %d bytes",
			      renderer->path, RENDERED_BYTES_MAX);
		renderer->full = renderer->unsure = true;
		length = 0;
	}
	renderer->bytes += length;
	node->text = yaml_tree_copy_text(renderer->rendering->tree, text, length);
	node->length = length;
	node->plain = false; /* a value that reads "null" is a text */
	return node->text ? 0 : -ENOMEM;
}

static int render_scalar(struct renderer *renderer, struct yaml_node *node)
{
	char *text = NULL;
	size_t length = 0;
	FILE *file;
	int r;

	renderer->unsure = false;
	refuse_blocks(renderer);
	if (!memmem(node->text, node->length, "{{", 2))
		return renderer->unsure ? note_unsure(renderer->rendering, node) : 0;
	file = open_memstream(&text, &length);
	if (!file)
		return -ENOMEM;
	render_text(renderer, file);
	r = fclose(file) == 0 ? set_text(renderer, node, text, length) : -ENOMEM;
	free(text);
	if (r == 0 && renderer->unsure)
		r = note_unsure(renderer->rendering, node);
	return r;
}

/* The list that a scalar names and nothing else, or NULL. */
static const json_t *named_list(const struct renderer *renderer, const struct yaml_node *node)
{
	const char *end = node->text ? node->text + node->length : NULL;
	char name[NAME_SIZE];
	const json_t *value;

	if (node->kind != YAML_SCALAR || !node->text || node->length < 4 ||
	    memcmp(node->text, "{{", 2) != 0 || read_name(node->text + 2, end, name) != end)
		return NULL;
	value = template_names_find(renderer->config->facts, name);
	return json_is_array(value) ? value : NULL;
}

/* ---- trees ---- */

static void set_path(struct renderer *renderer, const char *path)
{
	(void)snprintf(renderer->path, sizeof(renderer->path), "%s", path);
}

static struct yaml_node *copy_node(const struct renderer *renderer, const struct yaml_node *node)
{
	struct yaml_node *copy = yaml_tree_alloc(renderer->rendering->tree, sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *node;
	copy->next = NULL;
	return copy;
}

/* Puts an item for each value of a list at *link, and moves link behind the last one. */
static int add_items(struct renderer *renderer, const struct yaml_node *node, const json_t *list,
		     struct yaml_node ***link)
{
	const json_t *value;
	size_t i;

	json_array_foreach(list, i, value) {
		struct yaml_node *item = copy_node(renderer, node);
		const char *text = json_string_value(value);
		free_ char *number = text ? NULL : json_dumps(value, JSON_ENCODE_ANY);
		int r;

		if (!item || (!text && !number))
			return -ENOMEM;
		item->key = NULL;
		r = set_text(renderer, item, text ? text : number, strlen(text ? text : number));
		if (r < 0)
			return r;
		**link = item;
		*link = &item->next;
	}
	return 0;
}

static void join(char path[static PATH_SIZE], const char *parent, const struct yaml_node *child,
		 size_t index)
{
	if (!child->key)
		(void)snprintf(path, PATH_SIZE, "%s[%zu]", parent ? parent : "", index);
	else
		(void)snprintf(path, PATH_SIZE, "%s%s%s", parent ? parent : "", parent ? "." : "",
			       child->key);
}

static int render_node(struct renderer *renderer, struct yaml_node **ret,
		       const struct yaml_node *node, const char *path);

static int render_children(struct renderer *renderer, struct yaml_node *parent,
			   const struct yaml_node *original, const char *path)
{
	struct yaml_node **link = &parent->first;
	size_t index = 0;

	*link = NULL;
	YAML_FOREACH(child, original) {
		const json_t *list =
			original->kind == YAML_SEQUENCE ? named_list(renderer, child) : NULL;
		char child_path[PATH_SIZE];
		int r;

		join(child_path, path, child, index++);
		if (list) {
			renderer->node = child;
			set_path(renderer, child_path);
			r = add_items(renderer, child, list, &link);
		} else if (child->key && renderer->config->skip &&
			   renderer->config->skip(path, child->key)) {
			*link = copy_node(renderer, child);
			r = *link ? 0 : -ENOMEM;
		} else {
			r = render_node(renderer, link, child, child_path);
		}
		if (r < 0)
			return r;
		if (*link)
			link = &(*link)->next;
	}
	return 0;
}

static int render_node(struct renderer *renderer, struct yaml_node **ret,
		       const struct yaml_node *node, const char *path)
{
	struct yaml_node *copy = copy_node(renderer, node);
	const json_t *list = named_list(renderer, node);
	struct yaml_node **link;

	if (!copy)
		return -ENOMEM;
	*ret = copy;
	if (node->kind != YAML_SCALAR)
		return render_children(renderer, copy, node, path);

	renderer->node = node;
	set_path(renderer, path ? path : "this");
	if (!list)
		return render_scalar(renderer, copy);
	copy->kind = YAML_SEQUENCE;
	copy->text = NULL;
	copy->length = 0;
	renderer->unsure = false;
	link = &copy->first;
	return add_items(renderer, node, list, &link);
}

int template_render(struct rendering *ret, const struct template_config *config,
		    const struct yaml_node *node, const char *path, struct problems *problems,
		    json_t *notes)
{
	cleanup_(rendering_done) struct rendering rendering = { .tree = yaml_tree_new() };
	struct renderer renderer = {
		.config = config,
		.rendering = &rendering,
		.problems = problems,
		.notes = notes,
	};
	int r;

	if (!rendering.tree)
		return -ENOMEM;
	r = render_node(&renderer, &rendering.tree->root, node, path);
	if (r < 0)
		return r;
	*ret = rendering;
	rendering = (struct rendering){ 0 };
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "base/yaml.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "base/yaml-tree.h"

/*
 * The tree is built from libyaml's events with a stack of our own, so that depth is a number and
 * not the C stack. An alias becomes a copy of the one node that shares all children with the
 * original: it costs nothing here, and counts with everything beneath it, which is what those who
 * walk the tree will have to pay. So a text that blows up is refused at its first alias too many.
 */

enum {
	MAX_ANCHORS = 1000,
	MAX_DIRECTIVES = 10, /* libyaml compares each %TAG with all before it */
};

const struct yaml_limits yaml_default_limits = {
	.max_bytes = 1 << 20,
	.max_nodes = 20000,
	.max_depth = 32,
};

/* What a node and all beneath it amount to. */
struct weight {
	size_t nodes, bytes;
	unsigned height;
};

struct anchor {
	char *name;
	const struct yaml_node *node;
	struct weight before; /* the parser's own, when the node began */
	struct weight weight;
	bool complete;
};

/* A mapping or sequence that has begun and not ended. */
struct frame {
	struct yaml_node *node, *last;
	unsigned height;
	struct anchor *anchor; /* or NULL */
	/* Of a mapping: */
	char *key; /* NULL: the next node is a key */
	yaml_mark_t key_mark;
	bool key_is_merge;
	const struct yaml_node *merge; /* the value of <<, or NULL */
};

struct parser {
	yaml_parser_t yaml;
	struct yaml_tree *tree;
	const char *file;
	const char *text; /* the whole input, checked */
	size_t length;
	const struct yaml_limits *limits;
	struct problems *problems;
	struct weight sum; /* nodes and bytes after aliases */
	struct frame *stack;
	unsigned depth;
	struct anchor *anchors; /* MAX_ANCHORS of them, as soon as there is one */
	size_t n_anchors;
	bool has_document, done;
};

static void parser_done(struct parser *parser)
{
	yaml_parser_delete(&parser->yaml);
	(void)yaml_tree_free(parser->tree);
	free(parser->stack);
	free(parser->anchors);
}

#define refuse(parser, mark, ...)                                                    \
	(problems_add((parser)->problems, (parser)->file, (unsigned)(mark).line + 1, \
		      (unsigned)(mark).column + 1, NULL, __VA_ARGS__),               \
	 -EBADMSG)

static struct frame *top(struct parser *parser)
{
	return parser->depth > 0 ? &parser->stack[parser->depth - 1] : NULL;
}

static int count(struct parser *parser, yaml_mark_t mark, const struct weight *weight)
{
	const struct yaml_limits *limits = parser->limits;

	parser->sum.nodes += weight->nodes;
	parser->sum.bytes += weight->bytes;
	if (parser->sum.nodes > limits->max_nodes)
		return refuse(parser, mark,
			      "more than %zu values here and before (each use of an "
			      "alias counts)",
			      limits->max_nodes);
	/* Escapes may make a text longer than it was written; only aliases can double it. */
	if (parser->sum.bytes > 2 * limits->max_bytes)
		return refuse(parser, mark,
			      "more than %zu bytes of text here and before (each use "
			      "of an alias counts)",
			      2 * limits->max_bytes);
	if (parser->depth + weight->height > limits->max_depth)
		return refuse(parser, mark, "nested deeper than %u levels", limits->max_depth);
	return 0;
}

/* ---- anchors ---- */

static int add_anchor(struct parser *parser, const yaml_char_t *name, yaml_mark_t mark,
		      const struct yaml_node *node, struct anchor **ret)
{
	struct anchor *anchor;

	*ret = NULL;
	if (!name)
		return 0;
	if (parser->n_anchors == MAX_ANCHORS)
		return refuse(parser, mark, "more than %d anchors", MAX_ANCHORS);
	if (!parser->anchors)
		parser->anchors = calloc(MAX_ANCHORS, sizeof(*parser->anchors));
	if (!parser->anchors)
		return -ENOMEM;
	anchor = &parser->anchors[parser->n_anchors];
	anchor->name =
		yaml_tree_copy_text(parser->tree, (const char *)name, strlen((const char *)name));
	if (!anchor->name)
		return -ENOMEM;
	anchor->node = node;
	anchor->before = parser->sum;
	parser->n_anchors++;
	*ret = anchor;
	return 0;
}

static void complete_anchor(const struct parser *parser, struct anchor *anchor, unsigned height)
{
	if (!anchor)
		return;
	anchor->weight.nodes = parser->sum.nodes - anchor->before.nodes;
	anchor->weight.bytes = parser->sum.bytes - anchor->before.bytes;
	anchor->weight.height = height;
	anchor->complete = true;
}

static const struct anchor *find_anchor(const struct parser *parser, const yaml_char_t *name)
{
	/* The last one holds: YAML allows to give a name again. */
	for (size_t i = parser->n_anchors; i-- > 0;)
		if (strcmp(parser->anchors[i].name, (const char *)name) == 0)
			return &parser->anchors[i];
	return NULL;
}

/* ---- nodes ---- */

static int set_key(struct parser *parser, struct frame *frame, const struct yaml_node *node,
		   yaml_mark_t mark)
{
	if (node->kind != YAML_SCALAR)
		return refuse(parser, mark,
			      "a list or mapping cannot be a key (quote it if this is a text)");
	if (!text_is_printable(node->text, node->length))
		return refuse(parser, mark, "a key holds control characters");
	frame->key = node->text;
	frame->key_mark = mark;
	frame->key_is_merge = node->plain && strcmp(node->text, "<<") == 0;
	return 0;
}

/* Puts a node where the parser stands: as root, as a list's next, as a key or as its value. */
static int put(struct parser *parser, struct yaml_node *node, yaml_mark_t mark)
{
	struct frame *frame = top(parser);

	if (!frame) {
		parser->tree->root = node;
		return 0;
	}
	if (frame->node->kind == YAML_MAPPING) {
		if (!frame->key)
			return set_key(parser, frame, node, mark);
		node->key = frame->key;
		node->key_line = (unsigned)frame->key_mark.line + 1;
		node->key_column = (unsigned)frame->key_mark.column + 1;
		frame->key = NULL;
		if (frame->key_is_merge) {
			if (frame->merge)
				return refuse(parser, frame->key_mark,
					      "'<<' stands twice in this mapping: give it a list");
			frame->merge = node;
			return 0;
		}
	}
	if (frame->last)
		frame->last->next = node;
	else
		frame->node->first = node;
	frame->last = node;
	return 0;
}

static struct yaml_node *new_node(struct parser *parser, enum yaml_kind kind, yaml_mark_t mark)
{
	struct yaml_node *node = yaml_tree_alloc(parser->tree, sizeof(*node));

	if (!node)
		return NULL;
	node->kind = kind;
	node->file = parser->file;
	node->line = (unsigned)mark.line + 1;
	node->column = (unsigned)mark.column + 1;
	return node;
}

/* ---- events ---- */

/* 1 for a tag that makes a scalar a text, 0 for one that leaves it plain; else a problem. */
static int check_tag(struct parser *parser, const yaml_char_t *tag, yaml_mark_t mark,
		     const char *const *plain, const char *text)
{
	static const char prefix[] = "tag:yaml.org,2002:";
	const char *name = (const char *)tag;

	if (strcmp(name, "!") == 0)
		return 1;
	if (strncmp(name, prefix, sizeof(prefix) - 1) == 0) {
		name += sizeof(prefix) - 1;
		if (strcmp(name, text) == 0)
			return 1;
		for (; *plain; plain++)
			if (strcmp(name, *plain) == 0)
				return 0;
	}
	return refuse(parser, mark, "tag '%.100s' is not supported here", (const char *)tag);
}

static int on_scalar(struct parser *parser, const yaml_event_t *event)
{
	static const char *const plain_tags[] = { "null", "bool", "int", "float", NULL };
	const struct weight weight = { .nodes = 1, .bytes = event->data.scalar.length };
	struct anchor *anchor;
	struct yaml_node *node = new_node(parser, YAML_SCALAR, event->start_mark);
	int r;

	if (!node)
		return -ENOMEM;
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	if (event->data.scalar.tag) {
		r = check_tag(parser, event->data.scalar.tag, event->start_mark, plain_tags, "str");
		if (r < 0)
			return r;
		node->plain = r == 0;
	}
	r = add_anchor(parser, event->data.scalar.anchor, event->start_mark, node, &anchor);
	if (r < 0)
		return r;
	r = count(parser, event->start_mark, &weight);
	if (r < 0)
		return r;
	node->length = event->data.scalar.length;
	node->text = yaml_tree_copy_text(parser->tree, (const char *)event->data.scalar.value,
					 node->length);
	if (!node->text)
		return -ENOMEM;
	complete_anchor(parser, anchor, 0);
	return put(parser, node, event->start_mark);
}

static int on_alias(struct parser *parser, const yaml_event_t *event)
{
	const struct anchor *anchor = find_anchor(parser, event->data.alias.anchor);
	const char *name = (const char *)event->data.alias.anchor;
	struct yaml_node *node;
	struct frame *frame = top(parser);
	int r;

	if (!anchor)
		return refuse(parser, event->start_mark, "no anchor '&%.100s' before this alias",
			      name);
	if (!anchor->complete)
		return refuse(parser, event->start_mark, "alias '*%.100s' stands inside its anchor",
			      name);
	r = count(parser, event->start_mark, &anchor->weight);
	if (r < 0)
		return r;
	node = yaml_tree_alloc(parser->tree, sizeof(*node));
	if (!node)
		return -ENOMEM;
	*node = *anchor->node;
	node->next = NULL;
	node->key = NULL;
	if (frame && frame->height < anchor->weight.height)
		frame->height = anchor->weight.height;
	return put(parser, node, event->start_mark);
}

static int on_start(struct parser *parser, enum yaml_kind kind, const yaml_char_t *anchor_name,
		    const yaml_char_t *tag, yaml_mark_t mark)
{
	static const char *const none[] = { NULL };
	const struct weight weight = { .nodes = 1, .height = 1 };
	struct yaml_node *node = new_node(parser, kind, mark);
	struct anchor *anchor;
	int r;

	if (!node)
		return -ENOMEM;
	if (tag) {
		r = check_tag(parser, tag, mark, none, kind == YAML_MAPPING ? "map" : "seq");
		if (r < 0)
			return r;
	}
	r = add_anchor(parser, anchor_name, mark, node, &anchor);
	if (r < 0)
		return r;
	r = count(parser, mark, &weight);
	if (r < 0)
		return r;
	r = put(parser, node, mark);
	if (r < 0)
		return r;
	parser->stack[parser->depth++] = (struct frame){ .node = node, .anchor = anchor };
	return 0;
}

static int on_end(struct parser *parser)
{
	struct frame *frame = &parser->stack[parser->depth - 1];
	unsigned height = frame->height + 1;
	int r = 0;

	if (frame->node->kind == YAML_MAPPING)
		r = yaml_tree_finish_mapping(parser->tree, frame->node, frame->merge,
					     parser->problems);
	if (r < 0)
		return r;
	complete_anchor(parser, frame->anchor, height);
	parser->depth--;
	frame = top(parser);
	if (frame && frame->height < height)
		frame->height = height;
	return 0;
}

static int on_event(struct parser *parser, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		return 0;
	case YAML_STREAM_END_EVENT:
		parser->done = true;
		return 0;
	case YAML_DOCUMENT_START_EVENT:
		if (parser->has_document)
			return refuse(parser, event->start_mark,
				      "a second document begins here, one is allowed");
		parser->has_document = true;
		return 0;
	case YAML_ALIAS_EVENT:
		return on_alias(parser, event);
	case YAML_SCALAR_EVENT:
		return on_scalar(parser, event);
	case YAML_SEQUENCE_START_EVENT:
		return on_start(parser, YAML_SEQUENCE, event->data.sequence_start.anchor,
				event->data.sequence_start.tag, event->start_mark);
	case YAML_MAPPING_START_EVENT:
		return on_start(parser, YAML_MAPPING, event->data.mapping_start.anchor,
				event->data.mapping_start.tag, event->start_mark);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return on_end(parser);
	}
	return 0;
}

/* libyaml's marks count characters. */
static bool stands_at_tab(const struct parser *parser, yaml_mark_t mark)
{
	size_t at = 0;
	uint32_t code;

	for (size_t i = 0; i < mark.index && at < parser->length; i++)
		at += text_decode_utf8(&code, parser->text + at, parser->length - at);
	return at < parser->length && parser->text[at] == '\t';
}

static int add_syntax_problem(const struct parser *parser)
{
	const yaml_parser_t *yaml = &parser->yaml;

	if (yaml->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (yaml->error == YAML_SCANNER_ERROR && stands_at_tab(parser, yaml->problem_mark))
		return refuse(parser, yaml->problem_mark, "a tab cannot indent, use spaces");
	if (yaml->context)
		return refuse(parser, yaml->problem_mark, "%s (%s from line %zu, column %zu)",
			      yaml->problem, yaml->context, yaml->context_mark.line + 1,
			      yaml->context_mark.column + 1);
	return refuse(parser, yaml->problem_mark, "%s",
		      yaml->problem ? yaml->problem : "this is no YAML");
}

static int read_events(struct parser *parser)
{
	while (!parser->done) {
		yaml_event_t event;
		int r;

		if (!yaml_parser_parse(&parser->yaml, &event))
			return add_syntax_problem(parser);
		r = on_event(parser, &event);
		yaml_event_delete(&event);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Whether YAML allows the character as it is; everything else needs an escape. YAML 1.1, 5.1. */
static bool is_allowed(uint32_t code)
{
	return code == '\t' || code == '\n' || code == '\r' || code == 0x85 ||
	       (code >= 0x20 && code < 0x7f) ||
	       (code >= 0xa0 && code != 0xfeff && code != 0xfffe && code != 0xffff);
}

/*
 * Looks at every character before libyaml does: it would not say at which line a byte is wrong, and
 * takes a quadratic time over directives.
 */
static int check_text(const char *file, const char *text, size_t length, struct problems *problems)
{
	unsigned line = 1, column = 1, directives = 0;

	for (size_t i = 0, used; i < length; i += used) {
		uint32_t code = 0;

		used = text_decode_utf8(&code, text + i, length - i);
		if (used == 0) {
			problems_add(problems, file, line, column, NULL,
				     "byte 0x%02x here is not UTF-8", (unsigned char)text[i]);
			return -EBADMSG;
		}
		if (!is_allowed(code)) {
			problems_add(problems, file, line, column, NULL, "control character U+%04X",
				     (unsigned)code);
			return -EBADMSG;
		}
		if (code == '%' && column == 1 && ++directives > MAX_DIRECTIVES) {
			problems_add(problems, file, line, column, NULL,
				     "more than %d lines that begin with '%%'", MAX_DIRECTIVES);
			return -EBADMSG;
		}
		column++;
		if (code == '\n' || (code == '\r' && (i + 1 == length || text[i + 1] != '\n'))) {
			line++;
			column = 1;
		}
	}
	return 0;
}

static int check_size(const char *file, size_t length, const struct yaml_limits *limits,
		      struct problems *problems)
{
	if (length <= limits->max_bytes)
		return 0;
	problems_add(problems, file, 0, 0, NULL, "%zu bytes, more than the %zu that are allowed",
		     length, limits->max_bytes);
	return -EBADMSG;
}

static int prepare(struct parser *parser, const char *file)
{
	if (!yaml_parser_initialize(&parser->yaml))
		return -ENOMEM;
	yaml_parser_set_encoding(&parser->yaml, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser->yaml, (const unsigned char *)parser->text,
				     parser->length);
	parser->stack = calloc(parser->limits->max_depth, sizeof(*parser->stack));
	parser->tree = yaml_tree_new();
	if (!parser->stack || !parser->tree)
		return -ENOMEM;
	if (file) {
		parser->file = yaml_tree_copy_text(parser->tree, file, strlen(file));
		if (!parser->file)
			return -ENOMEM;
	}
	return 0;
}

/* An empty document is an empty plain scalar. */
static int ensure_root(struct parser *parser)
{
	struct yaml_node *node;

	if (parser->tree->root)
		return 0;
	node = new_node(parser, YAML_SCALAR, (yaml_mark_t){ 0 });
	if (!node)
		return -ENOMEM;
	node->plain = true;
	node->text = yaml_tree_copy_text(parser->tree, "", 0);
	if (!node->text)
		return -ENOMEM;
	parser->tree->root = node;
	return 0;
}

int yaml_parse(struct yaml_tree **ret, const char *file, const char *text, size_t length,
	       const struct yaml_limits *limits, struct problems *problems)
{
	static const char byte_order_mark[] = "\xef\xbb\xbf";
	cleanup_(parser_done) struct parser parser = { .limits = limits, .problems = problems };
	size_t before = problems->count + problems->lost;
	int r;

	/* libyaml would count the mark as a column. */
	if (length >= 3 && memcmp(text, byte_order_mark, 3) == 0) {
		text += 3;
		length -= 3;
	}
	r = check_size(file, length, limits, problems);
	if (r < 0)
		return r;
	r = check_text(file, text, length, problems);
	if (r < 0)
		return r;
	parser.text = text;
	parser.length = length;
	r = prepare(&parser, file);
	if (r < 0)
		return r;
	r = read_events(&parser);
	if (r < 0)
		return r;
	r = ensure_root(&parser);
	if (r < 0)
		return r;
	if (problems->count + problems->lost > before)
		return -EBADMSG;
	*ret = take_ptr(parser.tree);
	return 0;
}

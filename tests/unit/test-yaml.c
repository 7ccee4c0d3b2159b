/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/yaml.h"

CLEANUP_DEFINE(struct yaml_tree *, yaml_tree_free)

static struct yaml_tree *parse(const char *text)
{
	cleanup_(problems_done) struct problems problems = { 0 };
	struct yaml_tree *tree = NULL;
	int r = yaml_parse(&tree, "x.yaml", text, strlen(text), &yaml_default_limits, &problems);

	for (size_t i = 0; i < problems.count; i++)
		print_message("%u:%u: %s\n", problems.items[i].line, problems.items[i].column,
			      problems.items[i].text);
	assert_int_equal(r, 0);
	assert_false(problems_any(&problems));
	return tree;
}

/* Expects one problem, "LINE:COLUMN: TEXT". */
static void refuse_bytes(const char *text, size_t length, const char *expected)
{
	cleanup_(problems_done) struct problems problems = { 0 };
	struct yaml_tree *tree = NULL;
	char found[1200];

	assert_int_equal(yaml_parse(&tree, "x.yaml", text, length, &yaml_default_limits, &problems),
			 -EBADMSG);
	assert_null(tree);
	assert_int_equal(problems.count, 1);
	assert_string_equal(problems.items[0].file, "x.yaml");
	(void)snprintf(found, sizeof(found), "%u:%u: %s", problems.items[0].line,
		       problems.items[0].column, problems.items[0].text);
	assert_string_equal(found, expected);
}

static void refuse(const char *text, const char *expected)
{
	refuse_bytes(text, strlen(text), expected);
}

static void a_node_knows_its_place(void **state)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree =
		parse("# c\na: 1\nb:\n  - x\n  - {k: \"v\"}\n");
	const struct yaml_node *root = yaml_root(tree), *b;

	(void)state;
	assert_int_equal(root->kind, YAML_MAPPING);
	assert_string_equal(root->file, "x.yaml");
	assert_int_equal(yaml_get(root, "a")->line, 2);
	assert_int_equal(yaml_get(root, "a")->column, 4);
	assert_int_equal(yaml_get(root, "a")->key_line, 2);
	assert_int_equal(yaml_get(root, "a")->key_column, 1);
	assert_true(yaml_get(root, "a")->plain);
	b = yaml_get(root, "b");
	assert_int_equal(b->kind, YAML_SEQUENCE);
	assert_int_equal(b->first->next->line, 5);
	assert_int_equal(b->first->next->column, 5);
	assert_int_equal(yaml_get(b->first->next, "k")->column, 9);
	assert_false(yaml_get(b->first->next, "k")->plain);
	assert_null(yaml_get(root, "c"));
	assert_null(yaml_get(b, "k"));
	assert_null(yaml_get(NULL, "k"));
}

static void lines_may_end_in_cr_lf(void **state)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = parse("\xef\xbb\xbf"
								 "a: 1\r\nb: |\r\n  x\r\n  y\r\n");

	(void)state;
	assert_int_equal(yaml_root(tree)->column, 1);
	assert_int_equal(yaml_get(yaml_root(tree), "b")->line, 2);
	assert_string_equal(yaml_get(yaml_root(tree), "a")->text, "1");
	assert_string_equal(yaml_get(yaml_root(tree), "b")->text, "x\ny\n");
}

static void an_empty_text_is_null(void **state)
{
	static const char *const texts[] = {
		"", "# only a comment\n", "---\n", "~", "null", "Null"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		cleanup_(yaml_tree_freep) struct yaml_tree *tree = parse(texts[i]);

		assert_true(yaml_is_null(yaml_root(tree)));
	}
}

static void quotes_and_tags_make_texts(void **state)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree =
		parse("[\"\", !!str 5, !!int \"5\", ! 5, off, 'OFF', true, x, \"a\\0b\"]");
	const struct yaml_node *node = yaml_root(tree)->first;

	(void)state;
	assert_false(yaml_is_null(node));
	node = node->next;
	assert_false(node->plain);
	node = node->next;
	assert_true(node->plain);
	node = node->next;
	assert_false(node->plain);
	node = node->next;
	assert_int_equal(yaml_to_bool(node), 0);
	node = node->next;
	assert_int_equal(yaml_to_bool(node), 0);
	node = node->next;
	assert_int_equal(yaml_to_bool(node), 1);
	node = node->next;
	assert_int_equal(yaml_to_bool(node), -1);
	node = node->next;
	assert_int_equal(node->length, 3);
	assert_int_equal(yaml_to_bool(yaml_root(tree)), -1);
}

static void an_alias_stands_for_its_anchor(void **state)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree =
		parse("a: &x {k: 1}\nb: *x\nc: &x 2\nd: [*x, *x]\n*x : e\n");
	const struct yaml_node *root = yaml_root(tree);

	(void)state;
	assert_string_equal(yaml_get(yaml_get(root, "b"), "k")->text, "1");
	assert_string_equal(yaml_get(root, "b")->key, "b");
	assert_int_equal(yaml_get(root, "b")->line, 1);
	assert_int_equal(yaml_get(root, "b")->key_line, 2);
	assert_string_equal(yaml_get(root, "d")->first->next->text, "2");
	assert_null(yaml_get(root, "d")->first->key);
	assert_string_equal(yaml_get(root, "2")->text, "e");
}

static void merge_keys_fill_in_what_is_missing(void **state)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree =
		parse("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\n"
		      "c:\n  <<: [*a, *b]\n  x: 0\nd: {<<: *b}\ne: {\"<<\": 1}\nf: {<<: {q: 1}}\n");
	const struct yaml_node *root = yaml_root(tree), *c = yaml_get(root, "c");

	(void)state;
	assert_string_equal(yaml_get(c, "x")->text, "0");
	assert_string_equal(yaml_get(c, "y")->text, "2");
	assert_string_equal(yaml_get(c, "z")->text, "4");
	assert_int_equal(yaml_get(c, "z")->key_line, 2);
	assert_null(yaml_get(c, "z")->next);
	assert_string_equal(yaml_get(yaml_get(root, "d"), "y")->text, "3");
	assert_string_equal(yaml_get(yaml_get(root, "e"), "<<")->text, "1");
	assert_string_equal(yaml_get(yaml_get(root, "f"), "q")->text, "1");
	/* The originals are as they were. */
	assert_string_equal(yaml_get(yaml_get(root, "a"), "y")->text, "2");
	assert_null(yaml_get(yaml_get(root, "a"), "z"));
}

static void faults_are_named_with_their_place(void **state)
{
	(void)state;
	refuse("a: [1, 2", "2:1: did not find expected ',' or ']' (while parsing a flow sequence "
			   "from line 1, column 4)");
	refuse("a: 1\n b: 2\n", "2:3: mapping values are not allowed in this context");
	refuse("a:\n\t- b\n", "2:1: a tab cannot indent, use spaces");
	refuse("a: 1\n--- \nb: 1\n", "2:1: a second document begins here, one is allowed");
	refuse("[a, b]: 1\n",
	       "1:1: a list or mapping cannot be a key (quote it if this is a text)");
	refuse("a: {{ x }}\n",
	       "1:5: a list or mapping cannot be a key (quote it if this is a text)");
	refuse("\"a\\n\": 1\n", "1:1: a key holds control characters");
	refuse("a: *x\n", "1:4: no anchor '&x' before this alias");
	refuse("a: &x [*x]\n", "1:8: alias '*x' stands inside its anchor");
	refuse("a: !foo b\n", "1:4: tag '!foo' is not supported here");
	refuse("a: !!binary b\n", "1:4: tag 'tag:yaml.org,2002:binary' is not supported here");
	refuse("a: {<<: 1}\n", "1:5: '<<' needs a mapping or a list of mappings");
	refuse("a: {<<: [{b: c}, 1]}\n", "1:5: '<<' needs a mapping or a list of mappings");
	refuse("a: {<<: {x: 1}, <<: {y: 1}}\n",
	       "1:17: '<<' stands twice in this mapping: give it a list");
	refuse("a: {b: 1, b: 2}\n", "1:11: key 'b' stands twice, first at line 1, column 5");
}

static void every_repeated_key_is_found(void **state)
{
	static const char text[] = "b: 1\na: 1\nb: 2\na: 2\nb: 3\n";
	cleanup_(problems_done) struct problems problems = { 0 };
	struct yaml_tree *tree = NULL;

	(void)state;
	assert_int_equal(
		yaml_parse(&tree, NULL, text, strlen(text), &yaml_default_limits, &problems),
		-EBADMSG);
	assert_int_equal(problems.count, 3);
	assert_null(problems.items[0].file);
	assert_string_equal(problems.items[0].text,
			    "key 'a' stands twice, first at line 2, column 1");
	assert_int_equal(problems.items[0].line, 4);
	assert_string_equal(problems.items[0].key, "a");
}

static void bytes_that_are_no_text_are_refused(void **state)
{
	(void)state;
	refuse("a: 1\nb: x\xff\n", "2:5: byte 0xff here is not UTF-8");
	refuse("a: \xc3\xa4\xc3", "1:5: byte 0xc3 here is not UTF-8");
	refuse("a: 1\r\n# \x07\n", "2:3: control character U+0007");
	refuse("a: \x1b[0m\n", "1:4: control character U+001B");
	refuse("\xff\xfe"
	       "a",
	       "1:1: byte 0xff here is not UTF-8");
	refuse_bytes("a: \0b", 5, "1:4: control character U+0000");
}

/* Nine levels of nine aliases each: 3 * 10^8 values. */
static void a_text_that_blows_up_is_refused_at_once(void **state)
{
	char text[1024];
	int used = snprintf(text, sizeof(text), "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");

	(void)state;
	for (int i = 1; i < 9; i++)
		used += snprintf(
			text + used, sizeof(text) - (size_t)used,
			"a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i,
			i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	refuse(text, "5:15: more than 20000 values here and before (each use of an alias counts)");
}

static void long_texts_are_not_multiplied(void **state)
{
	free_ char *text = malloc(600000);
	size_t used;

	(void)state;
	assert_non_null(text);
	(void)strcpy(text, "a: &a ");
	memset(text + 6, 'x', 500000);
	used = 500006;
	for (int i = 0; i < 10; i++)
		used += (size_t)snprintf(text + used, 600000 - used, "\nb%d: *a", i);
	refuse(text, "5:5: more than 2097152 bytes of text here and before (each use of an alias "
		     "counts)");
}

static char *repeat(const char *piece, size_t n)
{
	size_t length = strlen(piece);
	char *text = malloc(n * length + 1);

	assert_non_null(text);
	for (size_t i = 0; i < n; i++)
		memcpy(text + i * length, piece, length);
	text[n * length] = '\0';
	return text;
}

static void depth_is_bounded(void **state)
{
	free_ char *lists = repeat("[", 100000), *mappings = repeat("{a: ", 100000);
	free_ char *dashes = repeat("- ", 100000), *keys = repeat("? ", 100000);
	free_ char *legal = repeat("- ", 32);
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = parse(legal);

	(void)state;
	assert_non_null(tree);
	refuse(lists, "1:33: nested deeper than 32 levels");
	refuse(mappings, "1:129: nested deeper than 32 levels");
	refuse(dashes, "1:65: nested deeper than 32 levels");
	refuse(keys, "1:3: a list or mapping cannot be a key (quote it if this is a text)");
	/* Depth counts through aliases as well. */
	refuse("a: &a [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]\nb: [[[[[[[[[[[[*a]]]]]]]]]]]]\n",
	       "2:16: nested deeper than 32 levels");
}

static void size_is_bounded(void **state)
{
	free_ char *large = repeat("# 456789012345678901234567890123\n", 32000);
	free_ char *many = repeat("- a\n", 20001);
	free_ char *anchors = repeat("- &a\n", 1001);
	free_ char *directives = repeat("%TAG !a! !a\n", 11);

	(void)state;
	refuse(large, "0:0: 1056000 bytes, more than the 1048576 that are allowed");
	refuse(many, "20000:3: more than 20000 values here and before (each use of an alias "
		     "counts)");
	refuse(anchors, "1001:3: more than 1000 anchors");
	refuse(directives, "11:1: more than 10 lines that begin with '%'");
}

static void a_merge_is_deep_and_keeps_origins(void **state)
{
	static const char below_text[] = "a: {x: 1, y: [1, 2]}\nb: 1\nc: {z: 1}\n";
	static const char over_text[] = "\nc: 3\na: {y: [3], w: 4}\nd: 5\n";
	cleanup_(problems_done) struct problems problems = { 0 };
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = NULL;
	const struct yaml_node *root, *a;
	struct yaml_tree *below = NULL, *over = NULL;

	(void)state;
	assert_int_equal(yaml_parse(&below, "below", below_text, strlen(below_text),
				    &yaml_default_limits, &problems),
			 0);
	assert_int_equal(yaml_parse(&over, "over", over_text, strlen(over_text),
				    &yaml_default_limits, &problems),
			 0);
	assert_int_equal(yaml_merge(&tree, yaml_root(below), yaml_root(over)), 0);
	below = yaml_tree_free(below);
	over = yaml_tree_free(over);

	root = yaml_root(tree);
	a = yaml_get(root, "a");
	assert_string_equal(yaml_get(a, "x")->text, "1");
	assert_string_equal(yaml_get(a, "x")->file, "below");
	assert_string_equal(yaml_get(a, "y")->first->text, "3");
	assert_null(yaml_get(a, "y")->first->next);
	assert_string_equal(yaml_get(a, "y")->file, "over");
	assert_int_equal(yaml_get(a, "y")->key_line, 3);
	assert_string_equal(yaml_get(a, "w")->text, "4");
	assert_string_equal(yaml_get(root, "b")->file, "below");
	assert_string_equal(yaml_get(root, "c")->text, "3");
	assert_string_equal(yaml_get(root, "d")->file, "over");
	assert_string_equal(root->first->key, "a");
}

static void a_merge_takes_null_on_either_side(void **state)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *one = parse("a: {b: 1}\n"), *tree = NULL;

	(void)state;
	assert_int_equal(yaml_merge(&tree, yaml_root(one), NULL), 0);
	assert_string_equal(yaml_get(yaml_get(yaml_root(tree), "a"), "b")->text, "1");
	tree = yaml_tree_free(tree);
	assert_int_equal(yaml_merge(&tree, NULL, yaml_root(one)), 0);
	assert_string_equal(yaml_get(yaml_get(yaml_root(tree), "a"), "b")->text, "1");
	tree = yaml_tree_free(tree);
	assert_int_equal(yaml_merge(&tree, NULL, NULL), 0);
	assert_int_equal(yaml_root(tree)->kind, YAML_MAPPING);
	assert_null(yaml_root(tree)->first);
}

static void a_copy_may_leave_keys_out(void **state)
{
	static const char *const keys[] = { "a", "d", NULL };
	cleanup_(yaml_tree_freep) struct yaml_tree *one =
		parse("a: 1\nb: {a: 2, c: ~}\nc: ~\nd: 3\n");
	cleanup_(yaml_tree_freep) struct yaml_tree *copy = NULL;

	(void)state;
	assert_int_equal(yaml_copy_without(&copy, yaml_root(one), keys), 0);
	assert_string_equal(yaml_root(copy)->first->key, "b");
	assert_null(yaml_root(copy)->first->next);
	assert_string_equal(yaml_get(yaml_root(copy)->first, "a")->text, "2");
	assert_non_null(yaml_get(yaml_root(one), "d"));
}

static void unknown_keys_name_the_nearest(void **state)
{
	static const char *const known[] = { "power", "console", NULL };
	cleanup_(problems_done) struct problems problems = { 0 };
	cleanup_(yaml_tree_freep) struct yaml_tree *tree =
		parse("power: 1\nconsle: 2\nxyz: 3\nl: []\n");

	(void)state;
	yaml_check_keys(yaml_root(tree), "vm-1", known, &problems);
	assert_int_equal(problems.count, 3);
	assert_string_equal(problems.items[0].text,
			    "unknown key 'consle', did you mean 'console'?");
	assert_string_equal(problems.items[0].key, "vm-1.consle");
	assert_int_equal(problems.items[0].line, 2);
	assert_int_equal(problems.items[0].column, 1);
	assert_string_equal(problems.items[1].text, "unknown key 'xyz'");
	yaml_check_keys(yaml_get(yaml_root(tree), "l"), "l", known, &problems);
	assert_string_equal(problems.items[3].text, "l needs keys with values");
	yaml_check_keys(yaml_get(yaml_root(tree), "l"), NULL, known, &problems);
	assert_string_equal(problems.items[4].text, "this needs keys with values");
}

static void problems_are_printable_and_bounded(void **state)
{
	cleanup_(problems_done) struct problems problems = { 0 };
	free_ char *text = repeat("x", 5000);

	(void)state;
	problems_add(&problems, NULL, 1, 2, "a\x1b", "escape \x1b[0m");
	assert_string_equal(problems.items[0].text, "escape \\e[0m");
	assert_string_equal(problems.items[0].key, "a\\e");
	problems_add(&problems, NULL, 1, 2, NULL, "%s", text);
	assert_int_equal(strlen(problems.items[1].text), 999);
	for (int i = 2; i < PROBLEMS_MAX + 3; i++)
		problems_add(&problems, "f", 1, 2, NULL, "n");
	assert_int_equal(problems.count, PROBLEMS_MAX);
	assert_int_equal(problems.lost, 3);
}

static void problems_are_sorted_and_said_once(void **state)
{
	static const char *const expected[] = { "first", "second", "third", "fourth", "fifth" };
	cleanup_(problems_done) struct problems problems = { 0 };

	(void)state;
	problems_add(&problems, "b", 1, 1, NULL, "fifth");
	problems_add(&problems, "a", 2, 1, NULL, "third");
	problems_add(&problems, "a", 2, 1, NULL, "fourth");
	problems_add(&problems, "a", 2, 1, NULL, "third");
	problems_add(&problems, "a", 1, 9, NULL, "second");
	problems_add(&problems, "b", 1, 1, NULL, "fifth");
	problems_add(&problems, NULL, 7, 1, NULL, "first");
	problems_sort(&problems);
	assert_int_equal(problems.count, ARRAY_SIZE(expected));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_string_equal(problems.items[i].text, expected[i]);
}

/* Every beginning of a text that uses everything, and every text with one byte less: under the
 * sanitizers. */
static void no_text_is_misread(void **state)
{
	static const char text[] =
		"%YAML 1.1\n---\n# c\na: &a {x: [1, 'q', \"d\\u00e4\"], y: ~}\r\n"
		"b: |\n  l1\n  l2\nc: >-\n  f\n\n  g\nd: {<<: *a, z: !!str 1}\n"
		"e:\n- *a\n- - n\n...\n";
	char cut[sizeof(text)];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		for (int hole = 0; hole < 2; hole++) {
			cleanup_(problems_done) struct problems problems = { 0 };
			cleanup_(yaml_tree_freep) struct yaml_tree *tree = NULL;
			size_t length = hole ? sizeof(text) - 2 : i;
			int r;

			memcpy(cut, text, i);
			if (hole && i + 1 < sizeof(text))
				memcpy(cut + i, text + i + 1, sizeof(text) - i - 1);
			r = yaml_parse(&tree, "t", cut, length, &yaml_default_limits, &problems);
			assert_true(r == (problems_any(&problems) ? -EBADMSG : 0));
			assert_true((r == 0) == (tree != NULL));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_node_knows_its_place),
		cmocka_unit_test(lines_may_end_in_cr_lf),
		cmocka_unit_test(an_empty_text_is_null),
		cmocka_unit_test(quotes_and_tags_make_texts),
		cmocka_unit_test(an_alias_stands_for_its_anchor),
		cmocka_unit_test(merge_keys_fill_in_what_is_missing),
		cmocka_unit_test(faults_are_named_with_their_place),
		cmocka_unit_test(every_repeated_key_is_found),
		cmocka_unit_test(bytes_that_are_no_text_are_refused),
		cmocka_unit_test(a_text_that_blows_up_is_refused_at_once),
		cmocka_unit_test(long_texts_are_not_multiplied),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(size_is_bounded),
		cmocka_unit_test(a_merge_is_deep_and_keeps_origins),
		cmocka_unit_test(a_merge_takes_null_on_either_side),
		cmocka_unit_test(a_copy_may_leave_keys_out),
		cmocka_unit_test(unknown_keys_name_the_nearest),
		cmocka_unit_test(problems_are_printable_and_bounded),
		cmocka_unit_test(problems_are_sorted_and_said_once),
		cmocka_unit_test(no_text_is_misread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

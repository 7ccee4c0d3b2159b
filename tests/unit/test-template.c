/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "executor/template.h"

static const char facts_text[] =
	"{\"dut\": {\"id\": \"bbb-1\", \"tags\": [\"a\", \"b\"], \"mac\": null, \"tty\": \"ttyS0\","
	"          \"variables\": {\"both\": \"dut\", \"x.y\": \"dotted\", \"machine_tags\": \"mine\"}},"
	" \"job\": {\"id\": \"17\", \"name\": \"night\", \"bucket\": {\"url\": \"http://b.example\"}},"
	" \"environ\": {\"A.B\": \"deep\", \"X\": \"{{ job.id }}\"},"
	" \"variables\": {\"both\": \"lab\", \"with-hyphen\": \"h\", \"n\": 7, \"r\": 1.5, \"t\": true,"
	"                 \"none\": [], \"list\": [\"one\", 2], \"map\": {\"k\": \"v\"}}}";

struct outcome {
	char text[512];	   /* the rendered root: texts between |, lists and mappings in brackets */
	char errors[1024]; /* "KEY: TEXT;" */
	char notes[256];
	size_t unsure;
};

static void write_node(char *text, size_t size, const struct yaml_node *node)
{
	size_t used = strlen(text);

	if (node->kind == YAML_SCALAR) {
		(void)snprintf(text + used, size - used, "|%s%.*s",
			       node->plain && yaml_is_null(node) ? "null!" : "", (int)node->length,
			       node->text);
		return;
	}
	(void)snprintf(text + used, size - used, "|%c", node->kind == YAML_MAPPING ? '{' : '[');
	YAML_FOREACH(child, node) {
		used = strlen(text);
		if (child->key)
			(void)snprintf(text + used, size - used, "%s=", child->key);
		write_node(text, size, child);
	}
	used = strlen(text);
	(void)snprintf(text + used, size - used, "%c", node->kind == YAML_MAPPING ? '}' : ']');
}

static bool skip_quiet(const char *parent, const char *key)
{
	return !parent && strcmp(key, "quiet") == 0;
}

static void render(struct outcome *ret, const char *yaml, bool guess)
{
	json_auto_t *facts = json_loads(facts_text, 0, NULL), *notes = json_array();
	const struct template_config config = { .facts = facts,
						.guess = guess,
						.skip = skip_quiet };
	struct problems problems = { 0 };
	struct rendering rendering = { 0 };
	struct yaml_tree *tree = NULL;
	const json_t *note;
	size_t i, used;

	*ret = (struct outcome){ 0 };
	assert_non_null(facts);
	assert_int_equal(
		yaml_parse(&tree, NULL, yaml, strlen(yaml), &yaml_default_limits, &problems), 0);
	assert_int_equal(
		template_render(&rendering, &config, yaml_root(tree), NULL, &problems, notes), 0);
	write_node(ret->text, sizeof(ret->text), yaml_root(rendering.tree));
	for (i = 0; i < problems.count; i++) {
		used = strlen(ret->errors);
		(void)snprintf(ret->errors + used, sizeof(ret->errors) - used, "%s;",
			       problems.items[i].text);
	}
	json_array_foreach(notes, i, note) {
		used = strlen(ret->notes);
		(void)snprintf(ret->notes + used, sizeof(ret->notes) - used, "%s;",
			       json_string_value(note));
	}
	ret->unsure = rendering.n_unsure;
	rendering_done(&rendering);
	yaml_tree_free(tree);
	problems_done(&problems);
}

static void assert_renders(const char *yaml, const char *text)
{
	struct outcome outcome;

	render(&outcome, yaml, false);
	assert_string_equal(outcome.errors, "");
	assert_string_equal(outcome.text, text);
	assert_int_equal(outcome.unsure, 0);
}

static void assert_fails(const char *yaml, const char *errors)
{
	struct outcome outcome;

	render(&outcome, yaml, false);
	assert_string_equal(outcome.errors, errors);
	assert_true(outcome.unsure > 0);
}

static void names_become_their_values(void **state)
{
	(void)state;
	assert_renders("'{{ dut.id }} {{dut.tty}}/{{ job.id }}-{{\tjob.name }}'",
		       "|bbb-1 ttyS0/17-night");
	assert_renders("'{{ machine_id }} {{ local_tty_device }}'", "|bbb-1 ttyS0");
	assert_renders("'{{ job.bucket.url }}'", "|http://b.example");
	assert_renders("'{{ with-hyphen }} {{ n }} {{ r }} {{ t }}'", "|h 7 1.5 true");
	assert_renders("a{{ n }}b", "|a7b");
}

static void one_key_stands_behind_a_prefix(void **state)
{
	(void)state;
	assert_renders("'{{ dut.variables.x.y }} {{ environ.A.B }}'", "|dotted deep");
}

static void variables_of_the_dut_go_before_those_of_the_lab(void **state)
{
	(void)state;
	assert_renders("'{{ both }} {{ dut.variables.both }}'", "|dut dut");
}

static void a_variable_goes_before_an_old_name(void **state)
{
	(void)state;
	assert_renders("'{{ machine_tags }}'", "|mine");
}

static void a_value_is_not_rendered_again(void **state)
{
	(void)state;
	assert_renders("'{{ environ.X }}'", "|{{ job.id }}");
}

static void four_braces_are_two(void **state)
{
	(void)state;
	assert_renders("'{{{{ job.id }}'", "|{{ job.id }}");
	assert_renders("'{{{{{{ job.id }}'", "|{{17");
	assert_renders("'{ { } } }} {'", "|{ { } } }} {");
	assert_renders("'a{2}'", "|a{2}");
}

static void a_list_takes_the_place_of_its_scalar(void **state)
{
	(void)state;
	assert_renders("'{{ dut.tags }}'", "|[|a|b]");
	assert_renders("{tags: '{{ dut.tags }}'}", "|{tags=|[|a|b]}");
	assert_renders("[x, '{{ dut.tags }}', '{{ list }}', '{{ none }}', y]", "|[|x|a|b|one|2|y]");
	assert_renders("['{{ none }}']", "|[]");
	assert_renders("'{{ none }}'", "|[]");
	assert_renders("'tags={{ dut.tags }}'", "|tags=a,b");
}

static void keys_and_structure_stay_as_they_are(void **state)
{
	(void)state;
	assert_renders("{'{{ n }}': 1, b: [~, {c: '{{ n }}'}]}",
		       "|{{{ n }}=|1b=|[|null!~|{c=|7}]}");
}

static void a_value_that_reads_null_is_a_text(void **state)
{
	(void)state;
	assert_renders("[null, '{{ n }}', '']", "|[|null!null|7|]");
}

static void what_nobody_reads_is_left_alone(void **state)
{
	(void)state;
	assert_renders("{quiet: {a: '{{ nothing }}'}, b: '{{ n }}'}",
		       "|{quiet=|{a=|{{ nothing }}}b=|7}");
	assert_fails("{b: {quiet: '{{ nothing }}'}}", "b.quiet: {{ nothing }} is not known;");
}

static void names_without_a_value_are_told_one_by_one(void **state)
{
	(void)state;
	assert_fails("{a: ['{{ bth }} {{ job.nmae }}', '{{ dut.mac }}']}",
		     "a[0]: {{ bth }} is not known;"
		     "a[0]: {{ job.nmae }} is not known, did you mean 'job.name'?;"
		     "a[1]: {{ dut.mac }} is not configured for DUT 'bbb-1';");
	assert_fails(
		"{a: '{{ dut.variables.z }}', b: '{{ environ.Z }}', c: '{{ job.bucket.token }}'}",
		"a: {{ dut.variables.z }} is not configured for DUT 'bbb-1';"
		"b: {{ environ.Z }} was not given, set it with --var Z=VALUE;"
		"c: not yet: job.bucket.token;");
	assert_fails("{a: '{{ job_bucket_secret_key }}', b: '{{ minio_url }}', c: '{{ map }}'}",
		     "a: {{ job_bucket_secret_key }}: there is no object store here, the job's "
		     "files are at job.bucket.url;"
		     "b: {{ minio_url }}: there is no object store here, the job's files are at "
		     "job.bucket.url;"
		     "c: {{ map }} is a mapping, name one of its members;");
}

static void nothing_but_names_is_possible(void **state)
{
	static const char only[] = "a: only {{ dotted.name }} can stand here, no filter and no "
				   "expression; a literal '{{' is written '{{{{';";
	static const char *const forms[] = {
		"{a: '{{ n | int }}'}", "{a: '{{ n + 1 }}'}",	"{a: '{{ }}'}",
		"{a: '{{- n -}}'}",	"{a: '{{ list[0] }}'}", "{a: '{{ f() }}'}",
		"{a: '{{ \"x\" }}'}",	"{a: '{{ n n }}'}",	"{a: '{{\n\nn\n\n}}'}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		assert_fails(forms[i], only);
	assert_fails("{a: '{{ n'}", "a: '{{' without '}}'; a literal '{{' is written '{{{{';");
	assert_fails("{a: 'x {%- if n %} y {% endif %}'}",
		     "a: {% ... %} is not supported, only {{ dotted.name }};");
	assert_fails("{a: '{# why #}'}", "a: {# ... #} is not supported, only {{ dotted.name }};");
	assert_renders("'100{%} {#1 {% 5'", "|100{%} {#1 {% 5");
}

static void without_a_daemon_names_are_noted_once(void **state)
{
	struct outcome outcome;

	(void)state;
	render(&outcome, "['{{ board }} {{ board }}', '{{ dut.mac }}', '{{ environ.Q }}', x]",
	       true);
	assert_string_equal(outcome.errors, "");
	assert_string_equal(outcome.notes, "{{ board }} is not known without the daemon;"
					   "{{ dut.mac }} is not known without the daemon;"
					   "{{ environ.Q }} is not known without the daemon;");
	assert_int_equal(outcome.unsure, 3);
	render(&outcome, "'{{ dut.vraiables.x }}'", true);
	assert_string_equal(outcome.errors,
			    "this: {{ dut.vraiables.x }} is not known, did you mean "
			    "'dut.variables.X'?;");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_become_their_values),
		cmocka_unit_test(one_key_stands_behind_a_prefix),
		cmocka_unit_test(variables_of_the_dut_go_before_those_of_the_lab),
		cmocka_unit_test(a_variable_goes_before_an_old_name),
		cmocka_unit_test(a_value_is_not_rendered_again),
		cmocka_unit_test(four_braces_are_two),
		cmocka_unit_test(a_list_takes_the_place_of_its_scalar),
		cmocka_unit_test(keys_and_structure_stay_as_they_are),
		cmocka_unit_test(a_value_that_reads_null_is_a_text),
		cmocka_unit_test(what_nobody_reads_is_left_alone),
		cmocka_unit_test(names_without_a_value_are_told_one_by_one),
		cmocka_unit_test(nothing_but_names_is_possible),
		cmocka_unit_test(without_a_daemon_names_are_noted_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "base/text.h"
#include "executor/description-internal.h"

/*
 * `dut-executor --validate`: checks one job file against the facts of the DUTs that could take it.
 * It runs for a moment in a process of its own, with limits set by who started it, because dutd
 * does not read what it was not made to trust. The target is read first, without a DUT; then the
 * whole job is read once for each DUT that the target fits, for templates and `deploy` may make a
 * difference.
 */

enum {
	QUESTION_BYTES_MAX = 16 << 20, /* a job of 1 MiB, and the facts of a thousand DUTs */
	EXIT_NO_QUESTION = 65,
	EXCLUDED_MAX = 10, /* DUTs of which is told why they cannot take the job */
};

struct validation {
	const json_t *input;
	const struct yaml_node *root;
	json_t *errors, *notes, *fitting;
	struct description *description; /* as read for the first DUT that can take it */
	unsigned excluded;
};

struct target {
	bool named;	    /* there is one, even if it takes any DUT */
	const char *id;	    /* or NULL */
	const json_t *tags; /* array */
};

CLEANUP_DEFINE(struct description *, description_free)
CLEANUP_DEFINE(struct yaml_tree *, yaml_tree_free)

static void add_error(struct validation *validation, const struct problem *problem)
{
	json_t *line = problem->line ? json_integer(problem->line) : json_null();
	json_t *column = problem->column ? json_integer(problem->column) : json_null();

	(void)json_array_append_new(validation->errors,
				    json_pack("{s:o, s:o, s:o, s:o}", "line", line, "column",
					      column, "text", jsontext_new(problem->text), "key",
					      jsontext_new(problem->key)));
}

static void add_errors(struct validation *validation, const struct problems *problems)
{
	char more[] = "there is more, mend these first";

	for (size_t i = 0; i < problems->count; i++)
		add_error(validation, &problems->items[i]);
	if (problems->lost > 0)
		add_error(validation, &(struct problem){ .text = more });
}

static void add_no_match(struct validation *validation, const char *kind, const char *text)
{
	const struct yaml_node *node = yaml_get(validation->root, "target");
	bool own = node && !json_is_object(json_object_get(validation->input, "target"));
	json_t *line = own ? json_integer(node->line) : json_null();
	json_t *column = own ? json_integer(node->column) : json_null();

	(void)json_array_append_new(validation->errors,
				    json_pack("{s:o, s:o, s:s, s:s, s:s}", "line", line, "column",
					      column, "text", text, "key", "target", "no_match",
					      kind));
}

/* ---- one reading ---- */

/* What is the same for all DUTs, and this one's own. */
static json_t *facts_for(const struct validation *validation, const json_t *dut)
{
	static const char *const common[] = { "environ", "variables",	   "timeouts",
					      "limits",	 "file_roots",	   "without_daemon",
					      "by_tcp",	 "ignore_deadline" };
	json_t *facts = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(common); i++)
		(void)json_object_set(facts, common[i],
				      json_object_get(validation->input, common[i]));
	if (dut)
		(void)json_object_set(facts, "dut", (json_t *)(uintptr_t)dut);
	/* They are given when the job is accepted; for a check any text will do. */
	(void)json_object_set_new(facts, "job", json_pack("{s:s, s:s}", "id", "0", "name", "job"));
	return facts;
}

typedef int read_fn(struct description **ret, const struct description_source *source);

static struct description *read_for(const struct validation *validation, const json_t *dut,
				    read_fn *read, struct problems *problems, json_t *notes)
{
	json_auto_t *facts = facts_for(validation, dut);
	struct description *description = NULL;
	const struct description_source source = {
		.root = validation->root,
		.facts = facts,
		.check_only = true,
		.problems = problems,
		.notes = notes,
	};

	if (read(&description, &source) == -ENOMEM)
		problems_add(problems, NULL, 0, 0, NULL, "out of memory");
	return description;
}

/* ---- which DUTs ---- */

static bool array_has(const json_t *array, const char *text)
{
	const json_t *value;
	size_t i;

	json_array_foreach(array, i, value)
		if (json_is_string(value) && strcmp(json_string_value(value), text) == 0)
			return true;
	return false;
}

static json_t *make_tags(char *const *tags)
{
	json_t *array = json_array();

	for (; tags && *tags; tags++)
		(void)json_array_append_new(array, json_string(*tags));
	return array;
}

static bool has_id(const json_t *dut, const char *id)
{
	const char *own = json_string_value(json_object_get(dut, "id"));

	return (own && strcmp(own, id) == 0) || array_has(json_object_get(dut, "aliases"), id);
}

/* Appends a quoted text to a list of them. */
static void list_text(char *list, size_t size, const char *text)
{
	size_t used = strlen(list);
	char shown[80];

	(void)snprintf(list + used, size - used, "%s'%s'", used > 0 ? ", " : "",
		       text_escape(shown, sizeof(shown), text, strlen(text)));
}

/* The tags that a DUT lacks; for no DUT in particular, those that none of them has. */
static unsigned list_missing(char *list, size_t size, const json_t *tags, const json_t *duts,
			     const json_t *only)
{
	const json_t *tag, *dut;
	unsigned count = 0;
	size_t i, k;

	json_array_foreach(tags, i, tag) {
		const char *text = json_string_value(tag);
		bool found = !text;

		json_array_foreach(duts, k, dut)
			if (text && (!only || dut == only) &&
			    array_has(json_object_get(dut, "tags"), text))
				found = true;
		if (found)
			continue;
		list_text(list, size, text);
		count++;
	}
	return count;
}

static void explain_id(struct validation *validation, const char *id)
{
	const json_t *duts = json_object_get(validation->input, "duts"), *dut;
	free_ const char **names = calloc(json_array_size(duts) + 1, sizeof(*names));
	const char *nearest;
	char text[300], shown[80];
	size_t count = 0, i;

	json_array_foreach(duts, i, dut) {
		const char *name = json_string_value(json_object_get(dut, "id"));

		if (names && name)
			names[count++] = name;
	}
	nearest = names ? text_nearest(id, names) : NULL;
	(void)snprintf(text, sizeof(text), "there is no DUT '%s'%s%s%s",
		       text_escape(shown, sizeof(shown), id, strlen(id)),
		       nearest ? ", did you mean '" : "", nearest ? nearest : "",
		       nearest ? "'?" : "");
	add_no_match(validation, "id", text);
}

static void explain_no_match(struct validation *validation, const struct target *target,
			     const json_t *with_id)
{
	const json_t *duts = json_object_get(validation->input, "duts");
	char missing[160] = "", text[300];
	unsigned count;

	if (target->id && !with_id) {
		explain_id(validation, target->id);
		return;
	}
	count = list_missing(missing, sizeof(missing), target->tags, duts, with_id);
	if (with_id) {
		(void)snprintf(text, sizeof(text), "DUT '%.64s' lacks the tag%s %s", target->id,
			       count > 1 ? "s" : "", missing);
	} else if (count > 0) {
		(void)snprintf(text, sizeof(text), "no DUT has the tag%s %s", count > 1 ? "s" : "",
			       missing);
	} else {
		const json_t *tag;
		size_t i;

		json_array_foreach(target->tags, i, tag)
			if (json_is_string(tag))
				list_text(missing, sizeof(missing), json_string_value(tag));
		(void)snprintf(text, sizeof(text), "no DUT has all of the tags %s", missing);
	}
	add_no_match(validation, "tags", text);
}

/* The DUTs that a target fits, a new array. */
static json_t *match(const struct validation *validation, const struct target *target,
		     const json_t **ret_with_id)
{
	const json_t *duts = json_object_get(validation->input, "duts"), *dut, *tag;
	json_t *matching = json_array();
	size_t i, k;

	*ret_with_id = NULL;
	json_array_foreach(duts, i, dut) {
		bool fits = !target->id || has_id(dut, target->id);

		if (fits && target->id)
			*ret_with_id = dut;
		json_array_foreach(target->tags, k, tag)
			if (json_is_string(tag) &&
			    !array_has(json_object_get(dut, "tags"), json_string_value(tag)))
				fits = false;
		if (fits)
			(void)json_array_append(matching, (json_t *)(uintptr_t)dut);
	}
	return matching;
}

/* ---- the check ---- */

static void exclude(struct validation *validation, const json_t *dut,
		    const struct problems *problems)
{
	const char *id = json_string_value(json_object_get(dut, "id"));
	char note[400];

	if (problems->count == 0 || validation->excluded++ >= EXCLUDED_MAX)
		return;
	(void)snprintf(note, sizeof(note), "DUT '%.64s' cannot take it: line %u: %.256s",
		       id ? id : "?", problems->items[0].line, problems->items[0].text);
	(void)json_array_append_new(validation->notes, jsontext_new(note));
}

/* Reads the job for each DUT. What is wrong for one does not matter while another can take it. */
static void check_all(struct validation *validation, const json_t *duts)
{
	struct problems first = { 0 };
	const json_t *dut;
	size_t i;

	json_array_foreach(duts, i, dut) {
		struct problems problems = { 0 };
		json_auto_t *notes = json_array();
		struct description *description =
			read_for(validation, dut, description_read, &problems, notes);

		if (description) {
			(void)json_array_append(validation->fitting, json_object_get(dut, "id"));
			if (!validation->description)
				(void)json_array_extend(validation->notes, notes);
		} else {
			exclude(validation, dut, &problems);
		}
		if (description && !validation->description)
			validation->description = description;
		else
			(void)description_free(description);
		if (i == 0)
			first = problems;
		else
			problems_done(&problems);
	}
	if (json_array_size(validation->fitting) == 0) {
		(void)json_array_clear(validation->notes);
		add_errors(validation, &first);
	}
	problems_done(&first);
}

static void check_target(struct validation *validation, const struct target *target)
{
	const json_t *duts = json_object_get(validation->input, "duts"), *with_id;
	json_auto_t *matching = match(validation, target, &with_id);

	if (json_array_size(duts) == 0)
		add_no_match(validation, "none", "no DUT is configured");
	else if (!target->named && json_array_size(duts) > 1)
		add_no_match(validation, "none",
			     "no target: name one in the job, or with --dut or --tag");
	else if (json_array_size(matching) == 0)
		explain_no_match(validation, target, with_id);
	else
		check_all(validation, matching);
}

/* The job's own target decides unless one was given. Faults in it come with all others. */
static struct description *read_target(struct validation *validation, struct target *target,
				       json_t **tags)
{
	const json_t *given = json_object_get(validation->input, "target");
	struct problems problems = { 0 };
	struct description *own;

	if (json_is_object(given)) {
		target->named = true;
		target->id = json_string_value(json_object_get(given, "id"));
		target->tags = json_object_get(given, "tags");
		return NULL;
	}
	own = read_for(validation, NULL, description_read_target, &problems, NULL);
	if (own) {
		*tags = make_tags(own->target_tags);
		*target = (struct target){ own->has_target, own->target_id, *tags };
	} else {
		const json_t *first = json_array_get(json_object_get(validation->input, "duts"), 0);
		struct problems all = { 0 };

		(void)description_free(read_for(validation, first, description_read, &all, NULL));
		add_errors(validation, problems_any(&all) ? &all : &problems);
		problems_done(&all);
	}
	problems_done(&problems);
	return own;
}

static void check(struct validation *validation, struct target *target, json_t **tags,
		  struct description **own)
{
	bool alone = json_is_true(json_object_get(validation->input, "without_daemon"));
	struct problems problems = { 0 };

	*own = read_target(validation, target, tags);
	if (json_array_size(validation->errors) > 0)
		return;
	if (!alone || json_array_size(json_object_get(validation->input, "duts")) > 0) {
		check_target(validation, target);
		return;
	}
	validation->description =
		read_for(validation, NULL, description_read, &problems, validation->notes);
	add_errors(validation, &problems);
	problems_done(&problems);
}

/* ---- the answer ---- */

static json_t *list_bucket_paths(const struct description *description)
{
	const struct deployment *both[] = { &description->start, &description->next };
	json_t *paths = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		const struct artifact *files[] = { &both[i]->kernel, &both[i]->initramfs,
						   &both[i]->dtb };

		for (size_t k = 0; k < ARRAY_SIZE(files); k++)
			if (files[k]->bucket && !array_has(paths, files[k]->bucket))
				(void)json_array_append_new(paths, json_string(files[k]->bucket));
	}
	return paths;
}

static int print_answer(const struct validation *validation, const struct target *target)
{
	const struct description *description = validation->description;
	uint64_t overall =
		description ? description->timeouts[TIMEOUT_OVERALL].limit_us : DURATION_INFINITE;
	bool has_deadline = description && description->deadline_realtime_us != DURATION_INFINITE;
	json_auto_t *answer = json_pack(
		"{s:i, s:{s:o, s:o}, s:o, s:o, s:o, s:O, s:O, s:{s:o}, s:O}", "v", 1, "target",
		"id", jsontext_new(target->id), "tags",
		json_is_array(target->tags) ? json_deep_copy(target->tags) : json_array(), "name",
		jsontext_new(description ? description->name : NULL), "deadline",
		has_deadline ? json_integer((json_int_t)description->deadline_realtime_us)
			     : json_null(),
		"overall",
		overall < DURATION_INFINITE ? json_integer((json_int_t)overall) : json_null(),
		"duts", validation->fitting, "notes", validation->notes, "needs", "bucket",
		description ? list_bucket_paths(description) : json_array(), "errors",
		validation->errors);
	free_ char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;

	if (!text || file_write_all(STDOUT_FILENO, text, strlen(text), NULL) < 0)
		return EXIT_FAILURE;
	return EXIT_SUCCESS;
}

static int answer(struct validation *validation, const json_t *job)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = NULL;
	cleanup_(description_freep) struct description *own = NULL;
	json_auto_t *tags = NULL;
	struct problems problems = { 0 };
	struct target target = { 0 };
	int r;

	r = description_parse_yaml(&tree, json_string_value(job), json_string_length(job),
				   &problems);
	if (r == -ENOMEM)
		problems_add(&problems, NULL, 0, 0, NULL, "out of memory");
	if (r < 0) {
		add_errors(validation, &problems);
	} else {
		validation->root = yaml_root(tree);
		check(validation, &target, &tags, &own);
	}
	problems_done(&problems);
	return print_answer(validation, &target);
}

static json_t *read_question(struct error *err)
{
	free_ char *text = NULL;
	json_error_t where;
	json_t *question;
	size_t length;

	if (file_read_fd(&text, &length, STDIN_FILENO, QUESTION_BYTES_MAX, err) < 0)
		return NULL;
	question = json_loadb(text, length, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &where);
	if (!question) {
		(void)error_set(err, -EBADMSG, "%s", where.text);
		return NULL;
	}
	if (json_integer_value(json_object_get(question, "v")) == 1 &&
	    json_is_string(json_object_get(question, "job")))
		return question;
	(void)error_set(err, -EBADMSG, "\"v\": 1 and \"job\" are missing");
	json_decref(question);
	return NULL;
}

int validate_main(void)
{
	struct error err;
	json_auto_t *input = read_question(&err);
	struct validation validation;
	int code;

	if (!input) {
		(void)fprintf(stderr, "dut-executor: --validate reads a question as JSON: %s\n",
			      err.text);
		return EXIT_NO_QUESTION;
	}
	validation = (struct validation){
		.input = input,
		.errors = json_array(),
		.notes = json_array(),
		.fitting = json_array(),
	};
	code = answer(&validation, json_object_get(input, "job"));
	(void)description_free(validation.description);
	json_decref(validation.errors);
	json_decref(validation.notes);
	json_decref(validation.fitting);
	return code;
}

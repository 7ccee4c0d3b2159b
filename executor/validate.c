/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "executor/description-internal.h"

/* `dut-executor --validate`: checks one job file against the facts of the DUTs that could take it.
 */

enum { MAX_QUESTION = 32 << 20 };

struct validation {
	const json_t *input;
	const char *text;
	size_t length;
	json_t *errors, *notes, *fitting;
	struct description *description; /* of the first DUT that can take it */
};

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

static void take_problems(struct validation *validation, const struct problems *problems)
{
	for (size_t i = 0; i < problems->count; i++) {
		const struct problem *problem = &problems->items[i];

		(void)json_array_append_new(
			validation->errors,
			json_pack("{s:i, s:i, s:o, s:o}", "line", (int)problem->line, "column",
				  (int)problem->column, "text", text_or_null(problem->text), "key",
				  text_or_null(problem->key)));
	}
	if (problems->lost)
		(void)json_array_append_new(validation->errors,
					    json_pack("{s:n, s:n, s:s, s:n}", "line", "column",
						      "text", "and more: mend these first", "key"));
}

/* The facts for one DUT: what is the same for all, and its own. */
static json_t *facts_for(const struct validation *validation, const json_t *dut)
{
	static const char *const common[] = { "environ",	"variables",  "timeouts",
					      "limits",		"file_roots", "without_daemon",
					      "ignore_deadline" };
	json_t *facts = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(common); i++)
		(void)json_object_set(facts, common[i],
				      json_object_get(validation->input, common[i]));
	if (dut)
		(void)json_object_set(facts, "dut", (json_t *)(uintptr_t)dut);
	/* Not known before the job is accepted; any text will do for the check. */
	(void)json_object_set_new(facts, "job", json_pack("{s:s, s:s}", "id", "0", "name", "job"));
	return facts;
}

static struct description *parse(struct validation *validation, const json_t *dut,
				 struct problems *problems)
{
	json_auto_t *facts = facts_for(validation, dut);
	struct description *description = NULL;

	if (description_parse_noting(&description, validation->text, validation->length, facts,
				     problems, validation->notes) == -ENOMEM)
		problems_add(problems, NULL, 0, 0, NULL, "out of memory");
	return description;
}

/* ---- the target ---- */

static bool array_has(const json_t *array, const char *text)
{
	const json_t *value;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)array, i, value)
		if (json_is_string(value) && strcmp(json_string_value(value), text) == 0)
			return true;
	return false;
}

struct target {
	const char *id;
	json_t *tags; /* array, owned */
};

static void get_target(const struct validation *validation, const struct description *description,
		       struct target *target)
{
	const json_t *given = json_object_get(validation->input, "target");
	const json_t *tags = json_object_get(given, "tags");

	target->id = NULL;
	if (json_is_object(given)) {
		target->id = json_string_value(json_object_get(given, "id"));
		target->tags = json_is_array(tags) ? json_deep_copy(tags) : json_array();
		return;
	}
	target->tags = json_array();
	if (!description)
		return;
	target->id = description->target_id;
	for (char **tag = description->target_tags; tag && *tag; tag++)
		(void)json_array_append_new(target->tags, json_string(*tag));
}

static bool has_id(const json_t *dut, const char *id)
{
	const char *own = json_string_value(json_object_get(dut, "id"));

	return (own && strcmp(own, id) == 0) || array_has(json_object_get(dut, "aliases"), id);
}

static bool has_tags(const json_t *dut, const json_t *tags)
{
	const json_t *tag;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)tags, i, tag)
		if (!json_is_string(tag) ||
		    !array_has(json_object_get(dut, "tags"), json_string_value(tag)))
			return false;
	return true;
}

/* The DUTs that the target names; with none, why not. */
static json_t *match(const struct validation *validation, const struct target *target,
		     const char **ret_kind, char *why, size_t size)
{
	const json_t *duts = json_object_get(validation->input, "duts"), *dut;
	json_t *matching = json_array();
	free_ char *tags = json_dumps(target->tags, JSON_COMPACT);
	bool id_seen = false;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)duts, i, dut) {
		bool id_fits = !target->id || has_id(dut, target->id);

		id_seen = id_seen || (target->id && id_fits);
		if (id_fits && has_tags(dut, target->tags))
			(void)json_array_append(matching, (json_t *)(uintptr_t)dut);
	}
	*ret_kind = "tags";
	if (target->id && !id_seen) {
		*ret_kind = "id";
		(void)snprintf(why, size, "there is no DUT '%s'", target->id);
	} else if (target->id) {
		(void)snprintf(why, size, "%s does not have all of the tags %s", target->id, tags);
	} else {
		(void)snprintf(why, size, "no DUT has all of the tags %s", tags);
	}
	return matching;
}

static void refuse_match(struct validation *validation, const char *kind, const char *why)
{
	(void)json_array_append_new(validation->errors,
				    json_pack("{s:n, s:n, s:s, s:s, s:s}", "line", "column", "text",
					      why, "key", "target", "no_match", kind));
}

/* ---- the check ---- */

static void check_against(struct validation *validation, const json_t *duts)
{
	struct problems first = { 0 };
	const json_t *dut;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)duts, i, dut) {
		struct problems problems = { 0 };
		struct description *description = parse(validation, dut, &problems);

		if (description)
			(void)json_array_append(validation->fitting, json_object_get(dut, "id"));
		if (description && !validation->description)
			validation->description = description;
		else
			description_free(description);
		if (i == 0)
			first = problems;
		else
			problems_done(&problems);
	}
	/* What is wrong for one DUT does not matter while another can take it. */
	if (json_array_size(validation->fitting) == 0)
		take_problems(validation, &first);
	problems_done(&first);
}

/* With DUTs: the first parse finds the target; each DUT that matches then gets a parse of its own.
 */
static void check_with_duts(struct validation *validation, const json_t *duts)
{
	struct problems problems = { 0 };
	struct description *draft = parse(validation, json_array_get(duts, 0), &problems);
	bool named = json_is_object(json_object_get(validation->input, "target")) ||
		     (draft && (draft->target_id || draft->target_tags));
	json_auto_t *matching = NULL;
	struct target target;
	const char *kind;
	char why[400];

	get_target(validation, draft, &target);
	if (!draft && !json_is_object(json_object_get(validation->input, "target"))) {
		take_problems(validation, &problems);
	} else if (!named && json_array_size(duts) != 1) {
		refuse_match(validation, "none",
			     "the job has no target: name one in the file, or with --dut or --tag");
	} else {
		matching = match(validation, &target, &kind, why, sizeof(why));
		if (json_array_size(matching) > 0)
			check_against(validation, matching);
		else
			refuse_match(validation, kind, why);
	}
	problems_done(&problems);
	json_decref(target.tags);
	description_free(draft);
}

static void check_without_duts(struct validation *validation)
{
	struct problems problems = { 0 };
	bool alone = json_is_true(json_object_get(validation->input, "without_daemon"));

	if (!alone) {
		refuse_match(validation, "none", "no DUT is configured");
		return;
	}
	validation->description = parse(validation, NULL, &problems);
	take_problems(validation, &problems);
	problems_done(&problems);
}

/* ---- the answer ---- */

static void add_bucket_path(json_t *paths, const struct artifact *artifact)
{
	if (artifact->bucket && !array_has(paths, artifact->bucket))
		(void)json_array_append_new(paths, json_string(artifact->bucket));
}

static json_t *make_answer(const struct validation *validation)
{
	const struct description *description = validation->description;
	json_t *paths = json_array();
	struct target target;

	get_target(validation, description, &target);
	if (description) {
		const struct deployment *both[] = { &description->start, &description->next };

		for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
			add_bucket_path(paths, &both[i]->kernel);
			add_bucket_path(paths, &both[i]->initramfs);
			add_bucket_path(paths, &both[i]->dtb);
		}
	}
	return json_pack("{s:i, s:{s:o, s:o}, s:o, s:o, s:O, s:O, s:{s:o}, s:O}", "v", 1, "target",
			 "id", text_or_null(target.id), "tags", target.tags, "name",
			 text_or_null(description ? description->name : NULL), "deadline",
			 description && description->deadline_realtime_us != DURATION_INFINITE
				 ? json_integer((json_int_t)description->deadline_realtime_us)
				 : json_null(),
			 "duts", validation->fitting, "notes", validation->notes, "needs", "bucket",
			 paths, "errors", validation->errors);
}

static int answer(const json_t *object)
{
	free_ char *text = json_dumps(object, JSON_COMPACT);

	return text && file_write_all(STDOUT_FILENO, text, strlen(text), NULL) >= 0 ? 0 : 1;
}

int validate_main(void)
{
	struct validation validation = { .errors = json_array(),
					 .notes = json_array(),
					 .fitting = json_array() };
	json_auto_t *input = NULL, *output = NULL;
	free_ char *text = NULL;
	const json_t *job;
	struct error err;
	size_t length;
	int r;

	r = file_read_fd(&text, &length, STDIN_FILENO, MAX_QUESTION, &err);
	if (r >= 0)
		input = json_loadb(text, length, JSON_ALLOW_NUL, NULL);
	job = json_object_get(input, "job");
	if (!json_is_string(job)) {
		(void)fprintf(
			stderr,
			"dut-executor: --validate reads a question as JSON from its standard input\n");
		return 65;
	}
	validation.input = input;
	validation.text = json_string_value(job);
	validation.length = json_string_length(job);
	if (json_array_size(json_object_get(input, "duts")) > 0)
		check_with_duts(&validation, json_object_get(input, "duts"));
	else
		check_without_duts(&validation);
	output = make_answer(&validation);
	r = answer(output);
	description_free(validation.description);
	json_decref(validation.errors);
	json_decref(validation.notes);
	json_decref(validation.fitting);
	return r;
}

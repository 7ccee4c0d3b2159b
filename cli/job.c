/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "base/text.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "cli/view.h"

/* What it waits for, while that is not one DUT. */
static void show_target(const json_t *job)
{
	const json_t *tags = json_object_get(json_object_get(job, "target"), "tags"), *tag;
	size_t i;

	if (view_text(job, "dut") || json_array_size(tags) == 0)
		return;
	(void)printf("  %-12s", "tags");
	json_array_foreach(tags, i, tag) {
		(void)printf(i > 0 ? ", " : " ");
		say_out(json_string_value(tag));
	}
	(void)printf("\n");
}

static void show_place(const json_t *job)
{
	json_int_t place = json_integer_value(json_object_get(job, "place"));
	json_int_t priority = json_integer_value(json_object_get(job, "priority"));
	const json_t *effective = json_object_get(job, "effective_priority");
	char ordinal[VIEW_ID_SIZE];

	if (place > 0)
		view_field("place", text_format_ordinal(ordinal, sizeof(ordinal), (uint64_t)place));
	if (json_is_integer(effective))
		(void)printf("  %-12s %" JSON_INTEGER_FORMAT ", by waiting %" JSON_INTEGER_FORMAT
			     "\n",
			     "priority", priority, json_integer_value(effective));
	else if (priority != 0)
		(void)printf("  %-12s %" JSON_INTEGER_FORMAT "\n", "priority", priority);
	view_field("waits for", view_text(job, "cause"));
}

static int show_job(const struct cli *cli, const json_t *job)
{
	static const char *const fields[] = { "phase",	      "status",	   "reason",  "verdict",
					      "message",      "submitted", "started", "ended",
					      "expected_end", NULL };
	const char *name = view_text(job, "name");
	char id[VIEW_ID_SIZE];

	if (cli->json) {
		say_json(job);
		return say_finish(0);
	}
	(void)printf("job %s", view_id(id, job));
	if (name) {
		(void)printf(" \"");
		say_out(name);
		(void)printf("\"");
	}
	(void)printf(": ");
	say_out(view_text(job, "state"));
	(void)printf("\n");
	view_field("dut", view_text(job, "dut"));
	show_target(job);
	view_field("owner", view_text(job, "owner"));
	show_place(job);
	for (const char *const *field = fields; *field; field++)
		view_field(*field, view_text(job, *field));
	return say_finish(0);
}

static int ask(struct cli *cli, const char *word)
{
	struct session session;
	char id[VIEW_ID_SIZE];
	json_t *job = NULL;
	int code;

	if (!view_read_id(id, word))
		return say_exit(EXIT_USAGE, "job: '%.60s' is no id of a job", word);
	if (!session_open(&session, cli, &code))
		return code;
	if (session_ask(&session, "GET", client_path("/jobs/%s", id), NULL, CLIENT_ANSWER_TIMEOUT_S,
			&job, &code))
		code = show_job(cli, job);
	json_decref(job);
	session_done(&session);
	return code;
}

static int job(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_job, NULL, cli, 1, 1, &operands, argc, argv, &code))
		code = ask(cli, operands.items[0]);
	option_list_done(&operands);
	return code;
}

const struct verb verb_job = {
	.name = "job",
	.operands = "ID",
	.summary = "shows one job",
	.run = job,
};

/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/view.h"

static const char *const header[] = { "DUT",	     "STATE",	"TAGS", "JOB/HOLDER",
				      "DESCRIPTION", "MESSAGE", NULL };

/* The tags between blanks; the caller frees it. */
static char *join_tags(const json_t *tags)
{
	char *text = NULL;
	size_t length = 0, i;
	const json_t *tag;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return NULL;
	json_array_foreach(tags, i, tag) {
		if (json_is_string(tag))
			(void)fprintf(out, "%s%s", i > 0 ? " " : "", json_string_value(tag));
	}
	return fclose(out) == 0 ? text : NULL;
}

static void add_row(struct table *table, const json_t *dut)
{
	free_ char *tags = join_tags(json_object_get(dut, "tags"));
	free_ char *holder = view_holder(dut);

	table_add(table, view_text(dut, "id"));
	table_add(table, view_text(dut, "state"));
	table_add(table, tags);
	table_add(table, holder);
	table_add(table, view_text(dut, "description"));
	table_add(table, view_text(dut, "message"));
}

static int print_duts(const struct cli *cli, json_t *duts)
{
	struct table table;
	const char *id;
	json_t *dut;
	int r = 0;

	if (!json_is_object(duts))
		return say_exit(EXIT_INTERNAL, "the daemon's answer is not what it should be");
	table_init(&table, header);
	json_object_foreach(duts, id, dut) {
		if (cli->json)
			say_json(dut);
		else
			add_row(&table, dut);
	}
	if (!cli->json)
		r = table_print(&table, stdout, isatty(STDOUT_FILENO));
	table_done(&table);
	return r < 0 ? say_exit(EXIT_INTERNAL, "out of memory") : say_finish(0);
}

static int list(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 };
	struct session session;
	json_t *answer = NULL;
	int code;

	if (options_parse(&verb_list, NULL, cli, 0, 0, &operands, argc, argv, &code) &&
	    session_open(&session, cli, &code)) {
		if (session_ask(&session, "GET", client_path("/duts"), NULL,
				CLIENT_ANSWER_TIMEOUT_S, &answer, &code))
			code = print_duts(cli, json_object_get(answer, "duts"));
		session_done(&session);
	}
	json_decref(answer);
	option_list_done(&operands);
	return code;
}

const struct verb verb_list = {
	.name = "list",
	.operands = "[OPTION...]",
	.summary = "lists the DUTs: state, tags, who has them",
	.run = list,
};

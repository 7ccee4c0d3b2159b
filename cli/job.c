/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "cli/options.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "cli/view.h"

static int show_job(const struct cli *cli, const json_t *job)
{
	static const char *const fields[] = { "dut",	 "owner",   "phase",   "status",
					      "reason",	 "verdict", "message", "submitted",
					      "started", "ended",   NULL };
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

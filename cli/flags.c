/* SPDX-License-Identifier: MIT */
#include "cli/flags.h"

#include "cli/client.h"
#include "cli/session.h"
#include "cli/view.h"

/* A DUT that has a job is retired when that has ended. */
static void say_when(const json_t *dut)
{
	const char *state = view_text(dut, "state"), *id = view_text(dut, "id");
	const json_t *job = json_object_get(dut, "job");
	char number[VIEW_ID_SIZE];

	if (json_is_true(json_object_get(dut, "is_retired")) && json_is_object(job))
		say("%s is %s: it is retired when job %s has ended", id ? id : "it",
		    state ? state : "busy", view_id(number, job));
}

int flags_patch(const struct cli *cli, const char *board, json_t *patch)
{
	json_t *answer = NULL;
	struct session session;
	int code;

	if (!patch)
		return say_exit(EXIT_USAGE, "a text is not UTF-8");
	if (session_open(&session, cli, &code)) {
		if (session_ask(&session, "PATCH", client_path("/dut/%s", board), patch,
				CLIENT_ANSWER_TIMEOUT_S, &answer, &code)) {
			if (cli->json)
				say_json(answer);
			else if (json_object_get(patch, "is_retired"))
				say_when(answer);
			code = say_finish(0);
		}
		session_done(&session);
	}
	json_decref(answer);
	json_decref(patch);
	return code;
}

/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "cli/view.h"
#include "cli/waiter.h"

struct wait {
	struct session session;
	const struct cli *cli;
	char id[VIEW_ID_SIZE];
	const char *limit;
	unsigned ok;
};

static int finish(const struct wait *wait, const json_t *job)
{
	free_ char *line = view_job_line(job);

	if (wait->cli->json)
		say_json(job);
	say("%s", line ? line : "out of memory");
	return say_finish(view_job_exit(job, wait->ok));
}

static void on_end(json_t *job, struct answer *answer, void *data)
{
	struct wait *wait = data;

	session_stop(&wait->session, job ? finish(wait, job) : session_refused(answer));
	if (answer)
		answer_done(answer);
}

static int on_limit(sd_event_source *source, uint64_t usec, void *data)
{
	struct wait *wait = data;

	(void)source;
	(void)usec;
	session_stop(&wait->session, say_exit(EXIT_TIMED_OUT, "job %s has not ended after %s",
					      wait->id, wait->limit));
	return 0;
}

static int wait_for_job(struct wait *wait, uint64_t limit_us)
{
	cleanup_(waiter_freep) struct waiter *waiter = NULL;
	json_t *job = NULL;
	struct error err;
	int r = 0, code;

	/* So that even "--timeout 0" says how a job that is over has ended. */
	if (!session_ask(&wait->session, "GET", client_path("/jobs/%s", wait->id), NULL,
			 CLIENT_ANSWER_TIMEOUT_S, &job, &code))
		return code;
	if (view_job_ended(job))
		code = finish(wait, job);
	else
		code = -1;
	json_decref(job);
	if (code >= 0)
		return code;

	if (wait->limit)
		r = sd_event_add_time_relative(wait->session.loop, NULL, CLOCK_BOOTTIME, limit_us,
					       1, on_limit, wait);
	if (r < 0)
		return say_exit(EXIT_INTERNAL, "timer: %s", strerror(-r));
	r = waiter_new(&waiter, &wait->session, wait->id, on_end, wait, &err);
	if (r < 0)
		return say_exit(EXIT_INTERNAL, "%s", err.text);
	return session_run(&wait->session);
}

static int check_and_wait(struct wait *wait, const char *word, const char *ok)
{
	uint64_t limit_us = 0;
	struct error err;
	int code;

	if (!view_read_id(wait->id, word))
		return say_exit(EXIT_USAGE, "wait: '%.60s' is no id of a job", word);
	if (ok && exit_parse_ok(&wait->ok, ok, &err) < 0)
		return say_exit(EXIT_USAGE, "wait: %s", err.text);
	if (wait->limit && text_to_duration_us(&limit_us, wait->limit, &err) < 0)
		return say_exit(EXIT_USAGE, "wait: --timeout: %s", err.text);
	if (!session_open(&wait->session, wait->cli, &code))
		return code;
	code = wait_for_job(wait, limit_us);
	session_done(&wait->session);
	return code;
}

static int wait_verb(struct cli *cli, int argc, char **argv)
{
	struct wait wait = { .cli = cli };
	const char *ok = NULL;
	const struct option options[] = {
		{ "timeout", "D", OPTION_TEXT, &wait.limit, "no longer than this; then exit 124" },
		{ "ok", "S,...", OPTION_TEXT, &ok, "exit 0 also for these statuses" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_wait, options, cli, 1, 1, &operands, argc, argv, &code))
		code = check_and_wait(&wait, operands.items[0], ok);
	option_list_done(&operands);
	return code;
}

const struct verb verb_wait = {
	.name = "wait",
	.operands = "ID [OPTION...]",
	.summary = "waits for the end of a job, and exits as 'dut run' would",
	.run = wait_verb,
};

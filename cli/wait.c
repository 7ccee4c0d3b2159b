/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/options.h"
#include "cli/retry.h"
#include "cli/verbs.h"
#include "cli/view.h"
#include "cli/waiter.h"

enum { WAIT_MAX = 100 }; /* jobs at a time: each takes a connection */

struct wait;

/* One of the jobs. */
struct waited {
	struct wait *wait;
	char id[VIEW_ID_SIZE];
	bool ended;
	struct waiter *waiter;
};

struct wait {
	struct session session;
	const struct cli *cli;
	struct waited *jobs;
	size_t count;
	const char *limit, *reconnect;
	unsigned ok;
	int code; /* the highest one of the jobs that have ended */
};

static void finish(struct waited *waited, const json_t *job)
{
	struct wait *wait = waited->wait;
	free_ char *line = view_job_line(job);
	int code = view_job_exit(job, wait->ok);

	if (wait->cli->json)
		say_json(job);
	say("%s", line ? line : "out of memory");
	waited->ended = true;
	if (code > wait->code)
		wait->code = code;
}

static bool is_over(const struct wait *wait)
{
	for (size_t i = 0; i < wait->count; i++)
		if (!wait->jobs[i].ended)
			return false;
	return true;
}

static void on_end(json_t *job, struct answer *answer, void *data)
{
	struct waited *waited = data;
	struct wait *wait = waited->wait;

	waited->waiter = waiter_free(waited->waiter);
	if (job)
		finish(waited, job);
	else
		session_stop(&wait->session, session_refused(answer));
	if (answer)
		answer_done(answer);
	if (job && is_over(wait))
		session_stop(&wait->session, wait->code);
}

static int on_limit(sd_event_source *source, uint64_t usec, void *data)
{
	struct wait *wait = data;

	(void)source;
	(void)usec;
	for (size_t i = 0; i < wait->count; i++)
		if (!wait->jobs[i].ended)
			say("job %s has not ended after %s", wait->jobs[i].id, wait->limit);
	session_stop(&wait->session, EXIT_TIMED_OUT);
	return 0;
}

/* So that even "--timeout 0" says how a job that is over has ended; and a job that is not there is
 * told at once. */
static int look_at(struct waited *waited)
{
	json_t *job = NULL;
	int code;

	if (session_ask(&waited->wait->session, "GET", client_path("/jobs/%s", waited->id), NULL,
			CLIENT_ANSWER_TIMEOUT_S, &job, &code) &&
	    view_job_ended(job))
		finish(waited, job);
	json_decref(job);
	return code;
}

static int start_waiters(struct wait *wait, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < wait->count && r >= 0; i++)
		if (!wait->jobs[i].ended)
			r = waiter_new(&wait->jobs[i].waiter, &wait->session, wait->jobs[i].id,
				       on_end, &wait->jobs[i], err);
	return r;
}

static int wait_for_jobs(struct wait *wait, uint64_t limit_us)
{
	struct error err;
	int code, r;

	for (size_t i = 0; i < wait->count; i++) {
		code = look_at(&wait->jobs[i]);
		if (code != 0)
			return code;
	}
	if (is_over(wait))
		return wait->code;
	r = start_waiters(wait, &err);
	if (r >= 0 && wait->limit) {
		r = sd_event_add_time_relative(wait->session.loop, NULL, CLOCK_BOOTTIME, limit_us,
					       1, on_limit, wait);
		if (r < 0)
			(void)error_code(&err, r, "timer");
	}
	if (r < 0)
		return say_exit(EXIT_INTERNAL, "%s", err.text);
	return session_run(&wait->session);
}

static bool read_ids(struct wait *wait, const struct option_list *words)
{
	wait->jobs = calloc(words->count, sizeof(*wait->jobs));
	if (!wait->jobs) {
		say("out of memory");
		return false;
	}
	for (; wait->count < words->count; wait->count++) {
		struct waited *waited = &wait->jobs[wait->count];

		waited->wait = wait;
		if (view_read_id(waited->id, words->items[wait->count]))
			continue;
		say("wait: '%.60s' is no id of a job", words->items[wait->count]);
		return false;
	}
	return true;
}

static int check_and_wait(struct wait *wait, const struct option_list *words, const char *ok)
{
	uint64_t limit_us = 0, reconnect_us;
	struct error err;
	int code;

	if (!read_ids(wait, words) || !retry_read_limit(&reconnect_us, "wait", wait->reconnect))
		return EXIT_USAGE;
	if (ok && exit_parse_ok(&wait->ok, ok, &err) < 0)
		return say_exit(EXIT_USAGE, "wait: %s", err.text);
	if (wait->limit && text_to_duration_us(&limit_us, wait->limit, &err) < 0)
		return say_exit(EXIT_USAGE, "wait: --timeout: %s", err.text);
	if (!session_open(&wait->session, wait->cli, &code))
		return code;
	wait->session.reconnect_us = reconnect_us;
	code = say_finish(wait_for_jobs(wait, limit_us));
	for (size_t i = 0; i < wait->count; i++)
		(void)waiter_free(wait->jobs[i].waiter);
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
		{ "reconnect", "D", OPTION_TEXT, &wait.reconnect,
		  "how long a daemon that went away is waited for (10m)" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_wait, options, cli, 1, WAIT_MAX, &operands, argc, argv, &code))
		code = check_and_wait(&wait, &operands, ok);
	free(wait.jobs);
	option_list_done(&operands);
	return code;
}

const struct verb verb_wait = {
	.name = "wait",
	.operands = "ID... [OPTION...]",
	.summary = "waits for the end of jobs, and exits as 'dut run' would",
	.run = wait_verb,
};

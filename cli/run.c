/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/bucket.h"
#include "cli/follow.h"
#include "cli/jobfile.h"
#include "cli/results.h"
#include "cli/retry.h"
#include "cli/submission.h"
#include "cli/verbs.h"
#include "cli/view.h"

struct run {
	struct cli *cli;
	struct jobfile jobfile;
	struct bucket bucket;
	const char *name, *output, *ok, *wait, *priority_text, *reconnect;
	json_int_t priority;
	bool detach;
	unsigned ok_mask;
	const char *dut; /* of the submission: --dut, or DUT_BOARD for a job without a target */
};

/*
 * What can be known before anything is uploaded. Where dut-executor is not installed, or does not
 * answer, the daemon will say it all.
 */
static int look_ahead(struct run *run)
{
	const struct jobfile *jobfile = &run->jobfile;
	json_t *answer = NULL, *target;
	struct error err;
	int r, code = 0;

	run->dut = jobfile->dut;
	r = jobfile_validate(&answer, jobfile, &err);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		say("%s; the daemon will check the job", err.text);
		return 0;
	}
	target = json_object_get(answer, "target");
	if (validator_print_errors(json_object_get(answer, "errors"), jobfile->path) > 0)
		code = EXIT_DATA;
	else
		code = bucket_check(&run->bucket,
				    json_object_get(json_object_get(answer, "needs"), "bucket"),
				    jobfile->path);
	if (!run->dut && jobfile->tags.count == 0 && !view_text(target, "id") &&
	    json_array_size(json_object_get(target, "tags")) == 0)
		run->dut = run->cli->board;
	json_decref(answer);
	return code;
}

static int finish(struct run *run, struct session *session, const char *id, const json_t *job)
{
	free_ char *line = view_job_line(job);
	int code = view_job_exit(job, run->ok_mask), fetched = 0;

	if (run->output)
		fetched = results_fetch(session, id, run->output);
	say("%s", line ? line : "out of memory");
	/* The job's own bad end says more than that of its files. */
	return code != 0 ? code : fetched;
}

static int submit_and_follow(struct run *run, struct session *session)
{
	const struct submission_request request = {
		.jobfile = &run->jobfile,
		.bucket = &run->bucket,
		.name = run->name,
		.dut = run->dut,
		.wait = run->wait,
		.priority = run->priority,
		.detach = run->detach,
	};
	cleanup_(submission_done) struct submission submission = { 0 };
	json_t *job = NULL;
	int code = submit(session, &request, &submission);

	if (code != 0)
		return code;
	if (run->detach && !submission.interrupted) {
		(void)printf(run->cli->json ? "{\"id\":\"%s\"}\n" : "%s\n", submission.id);
		return say_finish(0);
	}
	code = follow_job(session,
			  &(const struct follow_request){
				  .id = submission.id,
				  .dut = submission.dut,
				  .token = submission.token,
				  .json = run->cli->json,
				  .waits = submission.waits,
				  .cancel_now = submission.interrupted,
			  },
			  &job);
	if (code == 0)
		code = finish(run, session, submission.id, job);
	json_decref(job);
	return code;
}

static int read_queue_options(struct run *run)
{
	uint64_t wait_us, number = 0;
	bool negative = run->priority_text && run->priority_text[0] == '-';
	struct error err;

	if (run->wait && strcmp(run->wait, "forever") != 0 &&
	    text_to_duration_us(&wait_us, run->wait, &err) < 0)
		return say_exit(EXIT_USAGE, "run: --wait: %s, or 'forever'", err.text);
	if (run->priority_text &&
	    text_to_uint64(&number, run->priority_text + negative, 0, 100, NULL) < 0)
		return say_exit(EXIT_USAGE, "run: --priority '%.60s' is no number from -100 to 100",
				run->priority_text);
	run->priority = negative ? -(json_int_t)number : (json_int_t)number;
	return 0;
}

static int check_and_run(struct run *run, const char *path)
{
	struct session session;
	uint64_t reconnect_us;
	struct error err;
	int code;

	if (!retry_read_limit(&reconnect_us, "run", run->reconnect))
		return EXIT_USAGE;
	if (run->ok && exit_parse_ok(&run->ok_mask, run->ok, &err) < 0)
		return say_exit(EXIT_USAGE, "run: %s", err.text);
	code = read_queue_options(run);
	if (code != 0)
		return code;
	if (run->detach && run->output)
		return say_exit(EXIT_USAGE, "run: --detach does not wait for --output; 'dut "
					    "results ID' fetches it later");
	if (run->name && !text_is_printable(run->name, strlen(run->name)))
		return say_exit(EXIT_USAGE, "run: --name is no printable text");
	code = jobfile_load(&run->jobfile, "run", path);
	if (code == 0)
		code = bucket_open(&run->bucket);
	if (code == 0)
		code = look_ahead(run);
	if (code == 0)
		code = bucket_pack(&run->bucket);
	if (code != 0 || !session_open(&session, run->cli, &code))
		return code;
	session.reconnect_us = reconnect_us;
	code = submit_and_follow(run, &session);
	session_done(&session);
	return code;
}

static int run_verb(struct cli *cli, int argc, char **argv)
{
	struct run run = { .cli = cli, .bucket = { .dir_fd = -1, .tar_fd = -1 } };
	const struct option options[] = {
		JOBFILE_OPTIONS(&run.jobfile),
		{ "bucket", "DIR|TAR", OPTION_TEXT, &run.bucket.source, "the job's own files" },
		{ "file", "NAME=PATH", OPTION_LIST, &run.bucket.files, "one file, as bucket:NAME" },
		{ "output", "DIR", OPTION_TEXT, &run.output, "where the results go" },
		{ "name", "N", OPTION_TEXT, &run.name, "what the job is called" },
		{ "ok", "S,...", OPTION_TEXT, &run.ok, "exit 0 also for these statuses" },
		{ "detach", NULL, OPTION_FLAG, &run.detach, "prints the job's id and leaves" },
		{ "priority", "N", OPTION_TEXT, &run.priority_text,
		  "-100 to 100, higher first; above 0 needs the role admin" },
		{ "wait", "D|forever", OPTION_TEXT, &run.wait, "for a DUT, when all are busy" },
		{ "reconnect", "D", OPTION_TEXT, &run.reconnect,
		  "how long a daemon that went away is waited for (10m)" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_run, options, cli, 1, 1, &operands, argc, argv, &code))
		code = check_and_run(&run, operands.items[0]);
	bucket_done(&run.bucket);
	jobfile_done(&run.jobfile);
	option_list_done(&operands);
	return code;
}

const struct verb verb_run = {
	.name = "run",
	.operands = "JOB.yml [OPTION...]",
	.summary = "runs a job: its console live, its status as exit code",
	.run = run_verb,
};

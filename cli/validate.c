/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "cli/jobfile.h"
#include "cli/verbs.h"
#include "cli/view.h"

static int print_verdict(const struct cli *cli, const struct jobfile *jobfile, const json_t *answer)
{
	const json_t *note;
	size_t i;

	if (cli->json)
		say_json(answer);
	if (validator_print_errors(json_object_get(answer, "errors"), jobfile->path) > 0) {
		(void)say_finish(0);
		return EXIT_DATA;
	}
	if (!cli->json) {
		say_out(jobfile->path);
		(void)printf(": ok\n");
	}
	json_array_foreach(json_object_get(answer, "notes"), i, note) {
		free_ char *path = say_safe(jobfile->path);
		const char *text = json_string_value(note);
		free_ char *safe = say_safe(text ? text : "");

		(void)fprintf(stderr, "%s: note: %s\n", path ? path : "?", safe ? safe : "?");
	}
	return say_finish(0);
}

static int ask(const struct cli *cli, const struct jobfile *jobfile)
{
	json_t *answer = NULL;
	struct error err;
	int r, code;

	r = jobfile_validate(&answer, jobfile, &err);
	if (r == -ENOENT)
		return say_exit(EXIT_INTERNAL,
				"%s; name its folder with --libexec-dir or DUT_LIBEXEC_DIR",
				err.text);
	if (r < 0)
		return say_exit(EXIT_INTERNAL, "%s", err.text);
	code = print_verdict(cli, jobfile, answer);
	json_decref(answer);
	return code;
}

static int validate(struct cli *cli, int argc, char **argv)
{
	struct jobfile jobfile = { 0 };
	const struct option options[] = { JOBFILE_OPTIONS(&jobfile), { 0 } };
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_validate, options, cli, 1, 1, &operands, argc, argv, &code)) {
		code = jobfile_load(&jobfile, "validate", operands.items[0]);
		if (code == 0)
			code = ask(cli, &jobfile);
	}
	jobfile_done(&jobfile);
	option_list_done(&operands);
	return code;
}

const struct verb verb_validate = {
	.name = "validate",
	.operands = "JOB.yml [OPTION...]",
	.summary = "checks a job file, without a daemon",
	.run = validate,
};

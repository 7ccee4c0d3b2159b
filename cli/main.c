/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/text.h"
#include "cli/options.h"
#include "cli/verbs.h"

/* In the order of the manual. */
static const struct verb *const verbs[] = {
	&verb_list,    &verb_show,    &verb_run,     &verb_validate, &verb_jobs,    &verb_job,
	&verb_wait,    &verb_cancel,  &verb_results, &verb_log,	     &verb_power,   &verb_reserve,
	&verb_release, &verb_kick,    &verb_console, &verb_reload,   &verb_retire,  &verb_activate,
	&verb_set,     &verb_history, &verb_token,   &verb_proxy,    &verb_version,
};

/* Refused by name. */
static const char *const not_yet[] = {
	"press", "send", "expect",   "boots",  "train",	     "check",
	"pdus",	 "add",	 "identify", "export", "completion",
};

static void print_usage(FILE *out)
{
	(void)fprintf(out, "Usage: dut [--socket PATH] [--json] VERB ...\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		(void)fprintf(out, "  %-9s %s\n", verbs[i]->name, verbs[i]->summary);
	(void)fprintf(out, "\n'dut VERB --help' lists a verb's options; dut(1) says all of it.\n");
}

static int unknown_verb(const char *word)
{
	const char *names[ARRAY_SIZE(verbs) + 1] = { NULL }, *nearest;

	for (size_t i = 0; i < ARRAY_SIZE(not_yet); i++)
		if (strcmp(not_yet[i], word) == 0)
			return say_exit(EXIT_USAGE, "not yet: %s", word);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		names[i] = verbs[i]->name;
	nearest = text_nearest(word, names);
	if (nearest)
		return say_exit(EXIT_USAGE, "unknown verb '%.60s'; did you mean '%s'?", word,
				nearest);
	return say_exit(EXIT_USAGE, "unknown verb '%.60s'; see 'dut --help'", word);
}

static int run_verb(struct cli *cli, int argc, char **argv)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (strcmp(verbs[i]->name, argv[0]) == 0)
			return verbs[i]->run(cli, argc, argv);
	return unknown_verb(argv[0]);
}

/* An empty variable is as good as none. */
static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

int main(int argc, char **argv)
{
	struct option_list operands = { 0 };
	struct cli cli = {
		.socket = environment("DUT_SOCKET"),
		.host = environment("DUT_HOST"),
		.board = environment("DUT_BOARD"),
	};
	struct error err;
	int r;

	(void)setlocale(LC_CTYPE, "");
	/* A reader that leaves is an error of write(2), which each verb takes quietly. */
	(void)signal(SIGPIPE, SIG_IGN);

	r = options_scan(NULL, &cli, true, &operands, argc, argv, &err);
	if (r > 0) {
		print_usage(stdout);
		r = say_finish(0);
	} else if (r < 0) {
		r = say_exit(r == -ENOMEM ? EXIT_INTERNAL : EXIT_USAGE, "%s", err.text);
	} else if (operands.count == 0) {
		print_usage(stderr);
		r = EXIT_USAGE;
	} else {
		/* The first operand ended the scan, so that the rest of argv lies behind it. */
		r = run_verb(&cli, (int)operands.count, argv + argc - (int)operands.count);
	}
	option_list_done(&operands);
	return r;
}

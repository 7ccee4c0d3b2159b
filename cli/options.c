/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/options.h"

enum { OPTIONS_MAX = 32 };

struct scan {
	struct option options[OPTIONS_MAX]; /* the verb's and the common ones; ends with NULL */
	bool help;
	const char *socket, *host;
};

void option_list_done(struct option_list *list)
{
	free((void *)list->items);
	*list = (struct option_list){ 0 };
}

static int list_append(struct option_list *list, const char *item, struct error *err)
{
	const char **items;

	if (list->count >= OPTION_LIST_MAX)
		return error_set(err, -EINVAL, "more than %d arguments", OPTION_LIST_MAX);
	items = reallocarray((void *)list->items, list->count + 1, sizeof(*items));
	if (!items)
		return error_oom(err);
	items[list->count++] = item;
	list->items = items;
	return 0;
}

static const struct option common[] = {
	{ "socket", "PATH", OPTION_TEXT, NULL, "the daemon's socket (DUT_SOCKET)" },
	{ "host", "URL", OPTION_TEXT, NULL,
	  "a daemon elsewhere: http://, https://, ssh:// (DUT_HOST)" },
	{ "json", NULL, OPTION_FLAG, NULL, "one JSON object a line" },
	{ "help", NULL, OPTION_FLAG, NULL, "this text" },
	{ 0 },
};

/* Puts the common options behind the verb's own. */
static void scan_init(struct scan *scan, const struct option *options, struct cli *cli)
{
	void *values[] = { &scan->socket, &scan->host, &cli->json, &scan->help };
	size_t n = 0;

	*scan = (struct scan){ 0 };
	for (; options && options->name; options++)
		scan->options[n++] = *options;
	for (size_t i = 0; common[i].name && n < OPTIONS_MAX - 1; i++, n++) {
		scan->options[n] = common[i];
		scan->options[n].value = values[i];
	}
}

static int unknown(const struct scan *scan, const char *name, size_t length, struct error *err)
{
	const char *names[OPTIONS_MAX], *nearest;
	char word[64];
	size_t n = 0;

	for (const struct option *option = scan->options; option->name; option++)
		names[n++] = option->name;
	names[n] = NULL;
	(void)text_escape(word, sizeof(word), name, length);
	nearest = text_nearest(word, names);
	if (nearest)
		return error_set(err, -EINVAL, "unknown option '--%s'; did you mean '--%s'?", word,
				 nearest);
	return error_set(err, -EINVAL, "unknown option '--%s'", word);
}

static int store(const struct option *option, const char *value, struct error *err)
{
	switch (option->kind) {
	case OPTION_FLAG:
		*(bool *)option->value = true;
		return 0;
	case OPTION_TEXT:
		if (*(const char **)option->value)
			return error_set(err, -EINVAL, "--%s is given twice", option->name);
		if (!*value)
			return error_set(err, -EINVAL, "--%s is empty", option->name);
		*(const char **)option->value = value;
		return 0;
	case OPTION_LIST:
		if (!*value)
			return error_set(err, -EINVAL, "--%s is empty", option->name);
		return list_append(option->value, value, err);
	case OPTION_NOT_YET:
	case OPTION_NOT_YET_VALUE:
	default:
		return error_set(err, -ENOTSUP, "not yet: --%s", option->name);
	}
}

/* One argument that starts with "--"; *at is its place, which moves over a value of its own. */
static int take_option(const struct scan *scan, int argc, char **argv, int *at, struct error *err)
{
	const char *name = argv[*at] + 2, *value = NULL;
	size_t length = strcspn(name, "=");
	const struct option *option = scan->options;
	bool takes_value;

	while (option->name &&
	       (strncmp(option->name, name, length) != 0 || option->name[length] != '\0'))
		option++;
	if (!option->name || length == 0)
		return unknown(scan, name, length, err);
	if (name[length] == '=')
		value = name + length + 1;

	takes_value = option->kind == OPTION_TEXT || option->kind == OPTION_LIST;
	if (takes_value && !value) {
		value = *at + 1 < argc ? argv[++*at] : NULL;
		if (!value)
			return error_set(err, -EINVAL, "--%s needs %s", option->name,
					 option->argument);
	}
	if (value && option->kind == OPTION_FLAG)
		return error_set(err, -EINVAL, "--%s takes no value", option->name);
	return store(option, value, err);
}

int options_scan(const struct option *options, struct cli *cli, bool stop_at_operand,
		 struct option_list *operands, int argc, char **argv, struct error *err)
{
	bool only_operands = false;
	struct scan scan;
	int r = 0;

	scan_init(&scan, options, cli);
	for (int i = 1; i < argc && r >= 0; i++) {
		const char *word = argv[i];

		if (only_operands || word[0] != '-' || word[1] == '\0') {
			r = list_append(operands, word, err);
			only_operands = only_operands || stop_at_operand;
		} else if (strcmp(word, "--") == 0) {
			only_operands = true;
		} else if (strcmp(word, "-h") == 0) {
			scan.help = true;
		} else if (word[1] != '-') {
			char shown[32];

			r = error_set(err, -EINVAL, "unknown option '%s'",
				      text_escape(shown, sizeof(shown), word, strlen(word)));
		} else {
			r = take_option(&scan, argc, argv, &i, err);
		}
	}
	if (scan.socket && scan.host && r >= 0)
		r = error_set(err, -EINVAL, "--socket or --host, not both");
	/* An option counts more than a variable of the environment. */
	if (scan.socket || scan.host) {
		cli->socket = scan.socket;
		cli->host = scan.host;
	}
	return scan.help ? 1 : r;
}

static void print_help(const struct verb *verb, const struct option *options)
{
	const struct option *lists[] = { options, common };
	char left[64];

	(void)printf("Usage: dut %s%s%s\n\n%s\n\n", verb->name, *verb->operands ? " " : "",
		     verb->operands, verb->summary);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		for (const struct option *option = lists[i]; option && option->name; option++) {
			if (!option->help)
				continue;
			(void)snprintf(left, sizeof(left), "--%s%s%s", option->name,
				       option->argument ? " " : "",
				       option->argument ? option->argument : "");
			(void)printf("  %-22s %s\n", left, option->help);
		}
	(void)printf("\nSee dut(1).\n");
}

bool options_parse(const struct verb *verb, const struct option *options, struct cli *cli,
		   size_t min, size_t max, struct option_list *operands, int argc, char **argv,
		   int *ret_exit)
{
	struct error err;
	int r = options_scan(options, cli, false, operands, argc, argv, &err);

	if (r > 0) {
		print_help(verb, options);
		*ret_exit = say_finish(0);
		return false;
	}
	if (r == -ENOMEM) {
		*ret_exit = say_exit(EXIT_INTERNAL, "%s", err.text);
		return false;
	}
	if (r == -ENOTSUP) {
		*ret_exit = say_exit(EXIT_USAGE, "%s", err.text);
		return false;
	}
	if (r >= 0 && operands->count > max)
		r = error_set(&err, -EINVAL, "'%.60s' is one argument too many",
			      operands->items[max]);
	else if (r >= 0 && operands->count < min)
		r = error_set(&err, -EINVAL, "too few arguments, it needs %s", verb->operands);
	if (r < 0) {
		*ret_exit = say_exit(EXIT_USAGE, "%s: %s; see 'dut %s --help'", verb->name,
				     err.text, verb->name);
		return false;
	}
	return true;
}

const char *options_board(const struct cli *cli, const struct option_list *operands)
{
	const char *board = operands->count > 0 ? operands->items[0] : cli->board;

	if (!board) {
		say("which DUT? Name one, or set DUT_BOARD");
		return NULL;
	}
	if (!*board || strlen(board) > 255) {
		say("'%.60s' is no name of a DUT", board);
		return NULL;
	}
	return board;
}

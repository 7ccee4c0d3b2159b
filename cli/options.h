/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "cli/cli.h"

/*
 * The options of a verb: "--name VALUE" or "--name=VALUE", anywhere between the operands, until
 * "--". No short forms but -h, no abbreviations: scripts are written once and read for years.
 */

enum option_kind {
	OPTION_FLAG,	      /* value: bool * */
	OPTION_TEXT,	      /* value: const char **; given twice is an error */
	OPTION_LIST,	      /* value: struct option_list *; may be given often */
	OPTION_NOT_YET,	      /* refused by name */
	OPTION_NOT_YET_VALUE, /* the same, for one that takes a value */
};

struct option {
	const char *name;     /* without the "--" */
	const char *argument; /* what the help calls its value; NULL for a flag */
	enum option_kind kind;
	void *value;
	const char *help;
};

enum { OPTION_LIST_MAX = 1000 };

/* Values point into argv. */
struct option_list {
	const char **items;
	size_t count;
};

void option_list_done(struct option_list *list);

/*
 * Parses argv[1...] against options (ends with a name of NULL) and the common ones: --socket,
 * --json, --help. stop_at_operand: what follows the first operand is left alone, as an operand.
 *
 * Errors: -EINVAL for what is wrong, -ENOTSUP for what is not there yet (err is then "not yet:
 * --NAME"); 1 when --help was given, 0 to go on.
 * Owns:   operands is the caller's, also after a failure.
 */
int options_scan(const struct option *options, struct cli *cli, bool stop_at_operand,
		 struct option_list *operands, int argc, char **argv, struct error *err);

/*
 * The same for a verb, with everything said that is to be said: true to go on, with min to max
 * operands; false when *ret_exit is the verb's exit code.
 */
bool options_parse(const struct verb *verb, const struct option *options, struct cli *cli,
		   size_t min, size_t max, struct option_list *operands, int argc, char **argv,
		   int *ret_exit);

/* The operand, else DUT_BOARD; NULL (said) when there is neither, or it cannot be a DUT's name. */
const char *options_board(const struct cli *cli, const struct option_list *operands);

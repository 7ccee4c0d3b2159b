/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/attr.h"

/* What the verbs of dut share: the exit codes, who is asked, and how things are said. See dut(1).
 */

/* Exit codes beside those of a job's status, which are enum job_status. */
enum cli_exit {
	EXIT_USAGE = 64,
	EXIT_DATA = 65, /* a bad job or configuration */
	EXIT_NOT_FOUND = 68,
	EXIT_UNREACHABLE = 69,
	EXIT_INTERNAL = 70,
	EXIT_LAB = 74, /* power, console, network, disk */
	EXIT_BUSY = 75,
	EXIT_NOT_PERMITTED = 77,
	EXIT_TIMED_OUT = 124,
	EXIT_INTERRUPTED = 130,
};

struct cli {
	const char *socket; /* of the daemon; or NULL */
	const char *host;   /* the URL of another one, when there is no socket; or NULL */
	const char *board;  /* DUT_BOARD, or NULL */
	bool json;
};

/* A verb of the command line; the table is in main.c. */
struct verb {
	const char *name;
	const char *operands; /* for the help: "DUT", "JOB.yml [OPTION...]" */
	const char *summary;  /* one line */
	/* Gets the verb as argv[0]; returns the exit code. */
	int (*run)(struct cli *cli, int argc, char **argv);
};

/* The exit code of an HTTP status that is no success. */
int exit_from_http(unsigned status);

/* Whether an exit code means that the job's status is one of these ("WARN,COMPLETE"), or -EINVAL
 * with the word that is no status. Sets bits of enum job_status. */
struct error;
int exit_parse_ok(unsigned *ret_mask, const char *text, struct error *err);

/* "dut: TEXT" on stderr, one line. Whatever the text brings, the terminal gets no control
 * characters. */
void say(const char *format, ...) printf_(1, 2);

/* The same, and returns code. */
int say_exit(int code, const char *format, ...) printf_(2, 3);

/*
 * A copy that may go to a terminal: the text itself where it is printable, else escaped
 * (base/text.h).
 *
 * Owns: the caller frees it. NULL when memory ran out.
 */
char *say_safe(const char *text);

/* Writes a text that may be NULL to stdout, safely. */
void say_out(const char *text);

/* Writes an object as one line of ASCII to stdout. */
void say_json(const json_t *object);

/* Flushes stdout and returns code, or EXIT_LAB with a line where it could not be written. A reader
 * that has gone is no failure. */
int say_finish(int code);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>
#include <syslog.h>

#include "base/attr.h"

/*
 * Log lines of a daemon: to the journal with the fields BOARD= and JOB= when stderr is the journal,
 * else to stderr, with the <N> prefix of sd-daemon(3) when stderr is not a terminal. Sentences,
 * lower case, no full stop. Bytes that are no UTF-8, control characters and those that set the
 * direction of writing are written as \xNN, whatever the caller passes.
 */

typedef void (*log_sink_fn)(int level, const char *board, uint64_t job, const char *text,
			    void *data);

/* Lines above this level (syslog(3): LOG_ERR 3 ... LOG_DEBUG 7) are dropped. The default is
 * LOG_INFO. */
void log_set_level(int level);

/* Sends lines to fn instead, for tests; NULL restores the ordinary sink. */
void log_set_sink(log_sink_fn fn, void *data);

void log_msg(int level, const char *format, ...) printf_(2, 3);

/* A line about one board; the text form starts with "BOARD: ". */
void log_board(const char *board, int level, const char *format, ...) printf_(3, 4);

/* A line about one job on a board, which may be NULL; the text form starts with "BOARD: job N: ".
 */
void log_job(const char *board, uint64_t job, int level, const char *format, ...) printf_(4, 5);

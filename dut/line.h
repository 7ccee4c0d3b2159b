/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "dut/config.h"
#include "dut/history.h"
#include "dut/viewer.h"
#include "hw/console.h"

/*
 * One console of a board as dutd handles it. Exactly one process reads a console: dutd, which logs
 * it into idle segments, or the executor to which it is lent. dutd keeps the fd open all the while
 * (DTR and RTS never move), and the read end of the pipe through which the bytes go, so that it can
 * finish what a killed executor began.
 *
 * CLOSED: there is no console at present. HELD: open, nobody reads. READING: we log it. LENT: the
 * executor reads; we watch for hang-up only.
 */

struct fdstore;
struct line;

enum line_state { LINE_CLOSED, LINE_HELD, LINE_READING, LINE_LENT };

enum { LINE_LOAN_FDS = 4 }; /* console, pipe read end, pipe write end, eventfd */

struct line_config {
	sd_event *event;
	struct fdstore *fdstore; /* keeps its fds while no dutd runs; NULL: nobody does */
	const char *board;
	struct console *console; /* taken over */
	const char *name;
	struct config_dut *dut; /* that all of the above lies in; the line takes a reference */
	int board_dir_fd;	/* <state>/duts/<dut> */
	int jobs_dir_fd;	/* <state>/jobs */
	uint64_t min_free;	/* bytes of the disk; below it a gap begins */
	uint64_t max_kept;	/* bytes of idle segments; the oldest make room */
};

int line_new(struct line **ret, const struct line_config *config, struct error *err);

/* Who views it sees the end. */
struct line *line_free(struct line *line);

/* Other limits from the next look at the disk on. */
void line_set_limits(struct line *line, uint64_t min_free, uint64_t max_kept);

const char *line_name(const struct line *line);

/* The settings that it was opened with. */
const struct config_dut *line_dut(const struct line *line);

enum line_state line_state(const struct line *line);

/* The console offset of the next byte; while it is lent, that of the loan's begin. */
uint64_t line_offset(const struct line *line);

struct history *line_history(struct line *line);
struct viewers *line_viewers(struct line *line);

/* Says, before the first use, that the history is complete: offsets go on behind it. */
void line_start(struct line *line);

/*
 * Opens the console if it is closed: CLOSED -> HELD; a console that is lent is replaced (a higher
 * generation is lent next).
 *
 * Errors: 1 opened, 0 there was one already; -ENOENT, -ECONNREFUSED, -ENODEV when there is none at
 * present.
 */
int line_connect(struct line *line, struct error *err);

/* Begins to log into an idle segment: HELD -> READING. Without a console only the segment is noted.
 */
int line_read(struct line *line, struct error *err);

/* fn runs, from the loop, when a console that is lent has hung up. */
void line_on_hangup(struct line *line, void (*fn)(void *data), void *data);

/* Whether the open console has hung up: line_connect() makes a new one, if there is one. */
bool line_has_hung_up(const struct line *line);

/* Stops logging: READING -> HELD. */
int line_hold(struct line *line, struct error *err);

/* Notes that the bytes from the present offset on lie in a job's console.log. */
int line_begin_loan(struct line *line, uint64_t job, struct error *err);

/* Gives the fds for a loan, borrowed, and its new generation: HELD -> LENT, also again when LENT.
 */
unsigned line_lend(struct line *line, int ret_fds[static LINE_LOAN_FDS]);

/*
 * An executor that an earlier dutd started has had this loan: its fds (taken over, also on failure)
 * are ours now; the console and the pipe that were kept for us stay ours. CLOSED, HELD -> LENT.
 *
 * Errors: -EBADF for what are no such fds.
 */
int line_adopt(struct line *line, int fds[static LINE_LOAN_FDS], unsigned generation,
	       struct error *err);
unsigned line_generation(const struct line *line);

/* Whether the fd that was lent last is still the present one, and alive. */
bool line_loan_is_current(const struct line *line);

/* The executor does not have what was lent last: it has to be lent again. */
void line_forget_loan(struct line *line);

/*
 * The executor is gone: what lies in the pipe goes to the end of its console.log (created when it
 * is not there), and what was lent with the console is made anew. LENT -> HELD or CLOSED; offsets
 * go on behind that log. job_dir_fd may be -1 when the job's folder is no more.
 *
 * Errors: when the log cannot be opened, or fds are short, nothing has changed, and the call may be
 * repeated.
 */
int line_end_loan(struct line *line, int job_dir_fd, uint64_t base, uint64_t max_size,
		  struct error *err);

/* A mark in the idle log; takes the reference to extra. */
void line_mark(struct line *line, const char *kind, json_t *extra);

/* Something that the viewers of a running job watch was appended: set by the board. fn says whether
 * there are any. */
void line_on_append(struct line *line, bool (*fn)(void *data), void *data);

/* Somebody views it, or the job that has it. Without viewers appends are not heard of. */
void line_watch(struct line *line);

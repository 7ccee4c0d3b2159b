/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/protocol.h"
#include "base/stream.h"
#include "executor/control.h"
#include "executor/lines.h"

/*
 * The console that dutd lends: its bytes go into console.log, are read back from there, and come
 * out as lines. An unfinished line is told after LOAN_SILENCE_US without a byte. No timer is armed
 * on an idle line; on a busy slow one wake-ups are gathered for at most LOAN_BATCH_US.
 */

enum { LOAN_SILENCE_US = 250000, LOAN_BATCH_US = 8000, LOAN_LOW_MAX = 4 << 20 };

struct loan;

enum loan_end {
	LOAN_HUNG_UP,	/* the board is off, or the port was unplugged; dutd may lend another one */
	LOAN_DISK_FULL, /* what came last waits in the pipe */
	LOAN_DISK_LOW,	/* it has said LOAN_LOW_MAX bytes since the disk fell below min_free */
	LOAN_OVER_LIMIT, /* console.log is over limits.console_log; it is intact up to there */
};

struct loan_config {
	sd_event *event;
	int dir_fd;	  /* of the job; borrowed */
	const char *name; /* of the console that will be lent; NULL: the first loan says it */
	uint64_t base;	  /* with a name: where console.log begins */
	uint64_t console_log_max;
	uint64_t min_free;			    /* bytes of the disk */
	void (*bytes)(uint64_t now_us, void *data); /* before the lines that they complete */
	line_fn line;
	lines_quiet_fn quiet;			      /* which lines need not be told */
	void (*ended)(enum loan_end end, void *data); /* nothing is read any more */
	void (*appended)(void *data); /* console.log grew: for viewers, after bytes and lines */
	void *data;
};

int loan_new(struct loan **ret, const struct loan_config *config, struct error *err);
struct loan *loan_free(struct loan *loan);

/*
 * Takes over a lent console, also in the place of the present one, which is read to its end first.
 * An older or the same generation is dropped (0 is returned, 1 for a new one).
 *
 * Owns: the fds of lent, also on failure.
 */
int loan_take(struct loan *loan, const struct control_loan *lent, struct error *err);

/*
 * Gives the present console back: reads what is there now, and closes our fds. Returns the offset
 * of the next byte, for returned{}.
 */
uint64_t loan_give_back(struct loan *loan);

/* Reads what is there now. Not to be called from the callbacks. */
void loan_pump(struct loan *loan);

/* Tells the unfinished line as it stands. */
void loan_flush_line(struct loan *loan);

/* What comes from now on belongs to a new boot: ends and forgets the unfinished line. */
void loan_new_boot(struct loan *loan);

/* Reads no more; what comes stays for dutd. */
void loan_stop(struct loan *loan);

/* A mark in console.idx, if there is a console; takes the reference to extra. */
void loan_mark(struct loan *loan, const char *kind, json_t *extra);

/* Whether we have a console's fds at all. */
bool loan_is_lent(const struct loan *loan);

/* Whether bytes may still come. */
bool loan_is_live(const struct loan *loan);

struct stream *loan_stream(const struct loan *loan); /* NULL before the first loan */
const char *loan_name(const struct loan *loan);	     /* NULL likewise */
uint64_t loan_generation(const struct loan *loan);
json_t *loan_codec(const struct loan *loan);   /* a new reference */
uint64_t loan_offset(const struct loan *loan); /* of the next byte; 0 before the first loan */
uint64_t loan_base(const struct loan *loan);
uint64_t loan_last_byte_realtime_us(const struct loan *loan); /* 0: none yet */

/* For our hello: {name,gen,base,offset,codec} and the fds [console, pipe read, pipe write,
 * eventfd]; null while there is none. */
json_t *loan_describe(const struct loan *loan, int fds[static PACKET_FDS_MAX]);

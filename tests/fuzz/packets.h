/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "tests/fuzz/fuzz.h"

/*
 * A hostile end of a SEQPACKET connection. A line of the input is a packet; one that is "!fds N"
 * lends so many fds to the next packet, and whoever uses this may give other lines with '!' a
 * meaning of their own.
 */
enum { FUZZ_FDS_MAX = 9 /* more than any packet has */ };

struct fuzz_peer {
	int fd;			/* non-blocking */
	int lent[FUZZ_FDS_MAX]; /* with the next packet */
	unsigned n_lent;
};

/* Lends this fd too with the next packet; takes it over. */
void fuzz_peer_lend(struct fuzz_peer *peer, int fd);

/* Sends one line, lets the loop run, and drops what was answered. False for a line that begins with
 * '!' and is not known here. */
bool fuzz_peer_say(struct fuzz_peer *peer, sd_event *event, const struct fuzz_part *line);

/* Ends the connection, and is ready for another one. */
void fuzz_peer_close(struct fuzz_peer *peer);

/* Whether a line is this word, or begins with it; then *rest is what follows. */
bool fuzz_line_is(const struct fuzz_part *line, const char *word);
bool fuzz_line_begins(const struct fuzz_part *line, const char *word, struct fuzz_part *rest);

/*
 * The board's end of a console. "!console" lends a new one with the next packet, as dutd does;
 * "!say TEXT" and "!hang up" are the board's. False for another line.
 */
struct fuzz_board {
	int fd; /* or -1 */
};

bool fuzz_board_act(struct fuzz_board *board, struct fuzz_peer *peer, const struct fuzz_part *line);

/* The end of the dut-helper that an executor has started. In helper.c. */
struct fuzz_peer *fuzz_helper(void);

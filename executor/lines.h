/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Cuts a console's bytes into lines. A line ends at LF, CR LF or CR CR LF. A longer one than
 * LINE_BYTES_MAX comes in pieces, so that memory is bounded whatever a board sends. No clock, no
 * fd: who owns it decides when a line has been unfinished for too long.
 */

enum { LINE_BYTES_MAX = 65536 };

struct line {
	const char *text; /* without its end; valid during the callback */
	size_t length;
	uint64_t offset; /* console offset of the first byte */
	bool ended;	 /* its end was seen; "\r\n" stands behind text in memory */
};

typedef void (*line_fn)(const struct line *line, void *data);

/*
 * How many bytes from here on need no look: the lines that end among them are not told. It is asked
 * at the start of a line only, so that nobody pays for cutting lines that nobody wants.
 */
typedef size_t (*lines_quiet_fn)(const char *bytes, size_t length, void *data);

struct lines {
	lines_quiet_fn quiet; /* or NULL */
	char *buffer;	      /* the unfinished line */
	size_t length, size;
	uint64_t offset; /* console offset of buffer[0] */
	size_t shown;	 /* of these bytes lines_flush() has told already */
};

void lines_done(struct lines *lines);

/*
 * Takes the bytes at a console offset and calls fn for each line that they complete (and for each
 * piece of one that is too long). Bytes that do not follow the last ones (a gap) end the unfinished
 * line. data is for fn and for lines->quiet.
 *
 * Errors: -ENOMEM; the unfinished line is lost then.
 */
int lines_feed(struct lines *lines, uint64_t offset, const char *bytes, size_t length, line_fn fn,
	       void *data);

/* Whether an unfinished line has bytes that lines_flush() has not told yet. */
bool lines_pending(const struct lines *lines);

/* Tells the unfinished line as it stands; it goes on to grow. */
void lines_flush(struct lines *lines, line_fn fn, void *data);

/* Forgets the unfinished line: what comes next is a new one. */
void lines_reset(struct lines *lines);

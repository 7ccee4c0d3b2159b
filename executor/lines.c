/* SPDX-License-Identifier: MIT */
#include "executor/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

enum {
	FIRST_SIZE = 512, /* bytes; most lines fit */
	LINE_END = 2,	  /* "\r\n", put behind every finished line */
};

void lines_done(struct lines *lines)
{
	free(lines->buffer);
	*lines = (struct lines){ 0 };
}

void lines_reset(struct lines *lines)
{
	lines->length = 0;
	lines->shown = 0;
}

bool lines_pending(const struct lines *lines)
{
	return lines->length > lines->shown;
}

void lines_flush(struct lines *lines, line_fn fn, void *data)
{
	if (!lines_pending(lines))
		return;
	lines->shown = lines->length;
	fn(&(struct line){ .text = lines->buffer,
			   .length = lines->length,
			   .offset = lines->offset },
	   data);
}

/* Makes room for a line of this length and its end. */
static int reserve(struct lines *lines, size_t length)
{
	size_t size = lines->size ? lines->size : FIRST_SIZE;
	char *buffer;

	while (size < length + LINE_END)
		size *= 2;
	if (size == lines->size)
		return 0;
	buffer = realloc(lines->buffer, size);
	if (!buffer)
		return -ENOMEM;
	lines->buffer = buffer;
	lines->size = size;
	return 0;
}

/* Hands over the finished line in the buffer; one or two CR before its LF belong to its end. */
static void end_line(struct lines *lines, line_fn fn, void *data)
{
	struct line line = { .offset = lines->offset, .ended = true };

	for (unsigned i = 0; i < 2; i++)
		if (lines->length > 0 && lines->buffer[lines->length - 1] == '\r')
			lines->length--;
	memcpy(lines->buffer + lines->length, "\r\n", LINE_END);
	line.text = lines->buffer;
	line.length = lines->length;
	lines_reset(lines);
	fn(&line, data);
}

static void end_piece(struct lines *lines, line_fn fn, void *data)
{
	struct line piece = {
		.text = lines->buffer,
		.length = lines->length,
		.offset = lines->offset,
	};

	lines_reset(lines);
	fn(&piece, data);
}

/* The bytes up to the last line that ends among those that need no look. */
static size_t skip(const struct lines *lines, const char *bytes, size_t length, void *data)
{
	size_t quiet = lines->quiet ? lines->quiet(bytes, length, data) : 0;

	while (quiet > 0 && bytes[quiet - 1] != '\n')
		quiet--;
	return quiet;
}

/* Tells a line that lies in the caller's bytes as it has to be, up to an LF at end; or does not. */
static bool tell_in_place(uint64_t offset, const char *bytes, const char *end, line_fn fn,
			  void *data)
{
	size_t length = (size_t)(end - bytes);

	if (length < 1 || length > LINE_BYTES_MAX || end[-1] != '\r')
		return false;
	if (length >= 2 && end[-2] == '\r')
		return false;
	fn(&(struct line){ .text = bytes, .length = length - 1, .offset = offset, .ended = true },
	   data);
	return true;
}

/* Takes bytes up to the end of a line, or of a piece, or all; returns their number. */
static ssize_t take(struct lines *lines, uint64_t offset, const char *bytes, size_t length,
		    line_fn fn, void *data)
{
	const char *end = memchr(bytes, '\n', length);
	size_t part = end ? (size_t)(end - bytes) : length;
	size_t room = LINE_BYTES_MAX - lines->length;
	int r;

	if (lines->length == 0) {
		if (end && tell_in_place(offset, bytes, end, fn, data))
			return (ssize_t)part + 1;
		lines->offset = offset;
	}
	if (part > room) {
		part = room;
		end = NULL;
	}
	r = reserve(lines, lines->length + part);
	if (r < 0) {
		lines_reset(lines);
		return r;
	}
	memcpy(lines->buffer + lines->length, bytes, part);
	lines->length += part;
	if (end) {
		part++;
		end_line(lines, fn, data);
	} else if (lines->length == LINE_BYTES_MAX && part < length) {
		end_piece(lines, fn, data);
	}
	return (ssize_t)part;
}

int lines_feed(struct lines *lines, uint64_t offset, const char *bytes, size_t length, line_fn fn,
	       void *data)
{
	if (lines->length > 0 && offset != lines->offset + lines->length)
		end_piece(lines, fn, data);

	while (length > 0) {
		size_t quiet = lines->length == 0 ? skip(lines, bytes, length, data) : 0;
		ssize_t part =
			quiet > 0 ? (ssize_t)quiet : take(lines, offset, bytes, length, fn, data);

		if (part < 0)
			return (int)part;
		bytes += part;
		offset += (uint64_t)part;
		length -= (size_t)part;
	}
	return 0;
}

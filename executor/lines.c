/* SPDX-License-Identifier: MIT */
#include "executor/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

int lines_feed(struct lines *lines, uint64_t offset, const char *bytes, size_t length, line_fn fn,
	       void *data)
{
	int r;

	if (lines->length > 0 && offset != lines->offset + lines->length)
		end_piece(lines, fn, data);

	while (length > 0) {
		const char *end = memchr(bytes, '\n', length);
		size_t part = end ? (size_t)(end - bytes) : length;
		size_t room;

		if (lines->length == 0)
			lines->offset = offset;
		room = LINE_BYTES_MAX - lines->length;
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
		bytes += part;
		offset += part;
		length -= part;
	}
	return 0;
}

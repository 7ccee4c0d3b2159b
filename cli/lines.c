/* SPDX-License-Identifier: MIT */
#include "cli/lines.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct lines {
	char *text; /* the beginning of a line */
	size_t length, space;
	bool skipping; /* a line that is too long */
};

int lines_new(struct lines **ret, struct error *err)
{
	struct lines *lines = calloc(1, sizeof(*lines));

	if (!lines)
		return error_oom(err);
	*ret = lines;
	return 0;
}

struct lines *lines_free(struct lines *lines)
{
	if (!lines)
		return NULL;
	free(lines->text);
	free(lines);
	return NULL;
}

void lines_reset(struct lines *lines)
{
	lines->length = 0;
	lines->skipping = false;
}

static int keep(struct lines *lines, const char *bytes, size_t length)
{
	if (lines->skipping || length > LINES_MAX - lines->length) {
		lines->skipping = true;
		lines->length = 0;
		return 0;
	}
	if (lines->length + length > lines->space) {
		size_t space = (lines->length + length) * 2;
		char *text = realloc(lines->text, space);

		if (!text)
			return -ENOMEM;
		lines->text = text;
		lines->space = space;
	}
	memcpy(lines->text + lines->length, bytes, length);
	lines->length += length;
	return 0;
}

int lines_add(struct lines *lines, const char *bytes, size_t length,
	      void (*on_line)(const char *line, size_t length, void *data), void *data)
{
	while (length > 0) {
		const char *end = memchr(bytes, '\n', length);
		size_t part = end ? (size_t)(end - bytes) : length;

		if (part > 0 && keep(lines, bytes, part) < 0)
			return -ENOMEM;
		if (!end)
			return 0;
		if (lines->length > 0)
			on_line(lines->text, lines->length, data);
		lines->length = 0;
		lines->skipping = false;
		bytes += part + 1;
		length -= part + 1;
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/pattern.h"
#include "tests/fuzz/fuzz.h"

CLEANUP_DEFINE(struct pattern *, pattern_free)

/* A line of a console, as executor/lines.h hands it over: its end stands behind it. */
static void search(struct pattern *pattern, const struct fuzz_part *part)
{
	free_ char *line = malloc(part->size + 3);
	size_t length = part->size + 2, start = 0, end = 0;
	int r;

	assert(line);
	if (part->size > 0)
		memcpy(line, part->data, part->size);
	memcpy(line + part->size, "\r\n", 3);
	r = pattern_search(pattern, line, length, &start, &end);
	assert(r == 0 || r == 1 || r == -EOVERFLOW);
	if (r == 1)
		assert(start <= length && end <= length);
	/* A pattern keeps nothing of a search. */
	assert(pattern_search(pattern, line, length, &start, &end) == r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_part rest = { data, size }, part = { data, 0 };
	cleanup_(pattern_freep) struct pattern *pattern = NULL;
	size_t offset = 0, offset_of_check = 0;
	struct error err;
	int r;

	/* The first line is the regular expression. */
	(void)fuzz_next_line(&rest, &part);
	r = pattern_new(&pattern, (const char *)part.data, part.size, &offset, &err);
	assert(pattern_check((const char *)part.data, part.size, &offset_of_check, &err) == r);
	if (r < 0) {
		assert(!pattern && offset <= part.size && offset == offset_of_check);
		return 0;
	}
	(void)pattern_text(pattern);
	(void)pattern_wants_line_end(pattern);
	while (fuzz_next_line(&rest, &part))
		search(pattern, &part);
	return 0;
}

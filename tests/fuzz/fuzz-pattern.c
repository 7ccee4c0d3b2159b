/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/pattern.h"
#include "base/sieve.h"
#include "tests/fuzz/fuzz.h"

CLEANUP_DEFINE(struct pattern *, pattern_free)
CLEANUP_DEFINE(struct sieve *, sieve_free)

static int search_twice(struct pattern *pattern, const char *line, size_t length)
{
	size_t start = SIZE_MAX, end = SIZE_MAX;
	int r = pattern_search(pattern, line, length, &start, &end), again;

	assert(r == 0 || r == 1 || r == -EOVERFLOW);
	if (r == 1)
		assert(start <= end && end <= length);
	/* Nothing is kept of a search, but what may take its time is the processor's business. */
	again = pattern_search(pattern, line, length, &start, &end);
	assert(again == r || again == -EOVERFLOW || r == -EOVERFLOW);
	return r;
}

/* A line of a console, as executor/lines.h hands it over: its end stands behind it. */
static void search(struct pattern *pattern, struct sieve *sieve, const struct fuzz_part *part)
{
	free_ char *line = malloc(part->size + 3);

	assert(line);
	if (part->size > 0)
		memcpy(line, part->data, part->size);
	memcpy(line + part->size, "\r\n", 3);
	/* What a line's bytes rule out does not match it. */
	sieve_scan(sieve, line, part->size);
	if (search_twice(pattern, line, part->size + 2) == 1)
		assert(sieve_passed(sieve, 0) && sieve_next(sieve, 0) == 0);
}

static struct sieve *make_sieve(const struct pattern *pattern)
{
	const struct sieve_owner owner = { .needles = pattern_needles(pattern) };
	struct sieve *sieve;

	assert(sieve_new(&sieve, &owner, 1) == 0);
	return sieve;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_part rest = { data, size }, part = { data, 0 };
	cleanup_(pattern_freep) struct pattern *pattern = NULL;
	cleanup_(sieve_freep) struct sieve *sieve = NULL;
	size_t offset = 0, offset_of_check = 0, size_of_check = 0;
	struct error err;
	int r;

	/* The first line is the regular expression. */
	(void)fuzz_next_line(&rest, &part);
	r = pattern_new(&pattern, (const char *)part.data, part.size, &offset, &err);
	assert(pattern_check(&size_of_check, (const char *)part.data, part.size, &offset_of_check,
			     &err) == r);
	if (r < 0) {
		assert(!pattern && offset <= part.size && offset == offset_of_check);
		return 0;
	}
	assert(pattern_size(pattern) == size_of_check);
	(void)pattern_text(pattern);
	(void)pattern_wants_line_end(pattern);
	sieve = make_sieve(pattern);
	while (fuzz_next_line(&rest, &part))
		search(pattern, sieve, &part);
	return 0;
}

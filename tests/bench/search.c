/* SPDX-License-Identifier: MIT */
#include "tests/bench/search.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/pattern.h"
#include "base/sieve.h"

_Noreturn void bench_fail(const char *what, const char *why)
{
	(void)fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

char *bench_read(const char *path, size_t *ret_length)
{
	struct error err;
	FILE *file = fopen(path, "re");
	char *text = NULL;

	if (!file)
		bench_fail(path, strerror(errno));
	if (file_read_fd(&text, ret_length, fileno(file), 1 << 30, &err) < 0)
		bench_fail(path, err.text);
	(void)fclose(file);
	return text;
}

static void on_line(const struct line *line, void *data)
{
	struct search *search = data;
	size_t i, start, end;

	sieve_scan(search->sieve, line->text, line->length);
	for (i = sieve_next(search->sieve, 0); i < search->count;
	     i = sieve_next(search->sieve, i + 1))
		search->hits +=
			pattern_search(search->pattern[i], line->text,
				       line->length + (line->ended ? 2 : 0), &start, &end) == 1;
}

static size_t on_quiet(const char *bytes, size_t length, void *data)
{
	const struct search *search = data;

	return sieve_find(search->sieve, bytes, length);
}

void search_load(struct search *search, const char *path, size_t max)
{
	struct sieve_owner owners[SEARCH_PATTERNS_MAX];
	struct error err;
	size_t length;
	char *rest;

	*search = (struct search){ .lines.quiet = on_quiet };
	rest = search->text = bench_read(path, &length);
	max = max < SEARCH_PATTERNS_MAX ? max : SEARCH_PATTERNS_MAX;
	for (char *line = strtok_r(rest, "\n", &rest); line && search->count < max;
	     line = strtok_r(NULL, "\n", &rest)) {
		struct pattern **pattern = &search->pattern[search->count];

		if (pattern_new(pattern, line, strlen(line), &length, &err) < 0)
			bench_fail(line, err.text);
		owners[search->count].needles = pattern_needles(*pattern);
		search->regex[search->count++] = line;
	}
	if (sieve_new(&search->sieve, owners, search->count) < 0)
		bench_fail("sieve", strerror(ENOMEM));
}

void search_feed(struct search *search, uint64_t offset, const char *bytes, size_t length)
{
	if (lines_feed(&search->lines, offset, bytes, length, on_line, search) < 0)
		bench_fail("lines", strerror(ENOMEM));
}

void search_end(struct search *search)
{
	lines_flush(&search->lines, on_line, search);
	lines_done(&search->lines);
	search->lines.quiet = on_quiet;
}

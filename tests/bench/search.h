/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "executor/lines.h"

/*
 * The part of the product that tries patterns on the lines of a console, taken alone, for programs
 * of the bench. What fails ends the program.
 */

enum { SEARCH_PATTERNS_MAX = 1000 };

struct search {
	size_t count;
	char *text; /* of the file with the patterns */
	const char *regex[SEARCH_PATTERNS_MAX];
	struct pattern *pattern[SEARCH_PATTERNS_MAX];
	struct sieve *sieve;
	struct lines lines;
	uint64_t hits; /* pairs of a line and a pattern that matched in it */
};

_Noreturn void bench_fail(const char *what, const char *why);

/* All of a file. */
char *bench_read(const char *path, size_t *ret_length);

/* Compiles the first max patterns of a file, one a line. */
void search_load(struct search *search, const char *path, size_t max);

void search_feed(struct search *search, uint64_t offset, const char *bytes, size_t length);

/* The last line has no end. */
void search_end(struct search *search);

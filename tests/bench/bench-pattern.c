/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "tests/bench/search.h"

/*
 * bench-pattern LOG PATTERNS [COUNT [MEGABYTES]]: tries the first COUNT patterns (one a line, all
 * of them by default) on every line of a log that is fed again and again, as a console's bytes
 * come, and prints one line of JSON for each of two ways: ours, and the bare loop that hands every
 * line, without its end, to every pattern's compiled code. mb_per_cpu_s is megabytes in a second of
 * processor time; hits counts a pair of a line and a pattern once, for one reading of the log.
 */
enum { PIECE = 65536, DEFAULT_MB = 100 };

struct bench {
	char *log;
	size_t log_length;
	struct search search;
	pcre2_code *code[SEARCH_PATTERNS_MAX];
	pcre2_match_data *found;
	uint64_t hits;
};

static void load(struct bench *bench, const char *log, const char *patterns, size_t count)
{
	bench->log = bench_read(log, &bench->log_length);
	if (bench->log_length == 0)
		bench_fail(log, "there is nothing in it");
	search_load(&bench->search, patterns, count);
	for (size_t i = 0; i < bench->search.count; i++) {
		const char *regex = bench->search.regex[i];
		PCRE2_SIZE place;
		int code;

		bench->code[i] = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, 0, &code,
					       &place, NULL);
		if (!bench->code[i] || pcre2_jit_compile(bench->code[i], PCRE2_JIT_COMPLETE) < 0)
			bench_fail(regex, "cannot be compiled");
	}
	bench->found = pcre2_match_data_create(1, NULL);
	if (!bench->found)
		bench_fail("pcre2", "out of memory");
}

/* ---- the two ways ---- */

static void read_our_way(struct bench *bench)
{
	bench->search.hits = 0;
	for (size_t at = 0; at < bench->log_length; at += PIECE) {
		size_t left = bench->log_length - at;

		search_feed(&bench->search, at, bench->log + at, left < PIECE ? left : PIECE);
	}
	search_end(&bench->search);
	bench->hits += bench->search.hits;
}

static void read_the_bare_way(struct bench *bench)
{
	const char *line = bench->log, *end = bench->log + bench->log_length;

	while (line < end) {
		const char *next = memchr(line, '\n', (size_t)(end - line));
		size_t whole = (size_t)((next ? next : end) - line);
		size_t length = whole > 0 && line[whole - 1] == '\r' ? whole - 1 : whole;

		for (size_t i = 0; i < bench->search.count; i++)
			bench->hits += pcre2_jit_match(bench->code[i], (PCRE2_SPTR)line, length, 0,
						       0, bench->found, NULL) >= 0;
		line += whole + 1;
	}
}

static double processor_seconds(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void measure(struct bench *bench, const char *name, void (*way)(struct bench *), size_t mb)
{
	uint64_t fed = 0, times = 0;
	double since, seconds;

	bench->hits = 0;
	since = processor_seconds();
	do {
		way(bench);
		fed += bench->log_length;
		times++;
	} while (fed < (uint64_t)mb * 1000000);
	seconds = processor_seconds() - since;
	(void)printf("{\"name\": \"%s\", \"patterns\": %zu, \"mb_per_cpu_s\": %.1f, "
		     "\"hits\": %" PRIu64 "}\n",
		     name, bench->search.count, (double)fed / 1e6 / seconds, bench->hits / times);
}

int main(int argc, char **argv)
{
	static struct bench bench;
	size_t count = argc > 3 ? strtoul(argv[3], NULL, 10) : SEARCH_PATTERNS_MAX;
	size_t mb = argc > 4 ? strtoul(argv[4], NULL, 10) : DEFAULT_MB;

	if (argc < 3 || argc > 5 || count < 1 || mb < 1)
		bench_fail("usage", "bench-pattern LOG PATTERNS [COUNT [MEGABYTES]]");
	load(&bench, argv[1], argv[2], count);
	measure(&bench, "pattern", read_our_way, mb);
	measure(&bench, "pattern-each", read_the_bare_way, mb);
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/pattern.h"
#include "base/sieve.h"
#include "executor/lines.h"

/*
 * bench-pattern LOG PATTERNS [COUNT [MEGABYTES]]: tries the first COUNT patterns (one a line, all
 * of them by default) on every line of a log that is fed again and again, as a console's bytes
 * come, and prints one line of JSON for each of two ways: ours, and the bare loop that hands every
 * line, without its end, to every pattern's compiled code. mb_per_cpu_s is megabytes in a second of
 * processor time; hits counts a pair of a line and a pattern once, for one reading of the log.
 */
enum { PATTERNS_MAX = 1000, PIECE = 65536, DEFAULT_MB = 100 };

struct bench {
	char *log;
	size_t log_length;
	size_t count;
	char *text; /* of the pattern file */
	const char *regex[PATTERNS_MAX];
	struct pattern *pattern[PATTERNS_MAX];
	struct sieve *sieve;
	pcre2_code *code[PATTERNS_MAX];
	pcre2_match_data *found;
	uint64_t hits;
};

_Noreturn static void fail(const char *what, const char *why)
{
	(void)fprintf(stderr, "bench-pattern: %s: %s\n", what, why);
	exit(1);
}

static void read_whole(char **ret, size_t *ret_length, const char *path)
{
	struct error err;
	FILE *file = fopen(path, "re");

	if (!file)
		fail(path, strerror(errno));
	if (file_read_fd(ret, ret_length, fileno(file), 1 << 30, &err) < 0)
		fail(path, err.text);
	(void)fclose(file);
}

static void compile(struct bench *bench)
{
	struct sieve_owner owners[PATTERNS_MAX];

	for (size_t i = 0; i < bench->count; i++) {
		const char *regex = bench->regex[i];
		size_t offset;
		PCRE2_SIZE place;
		struct error err;
		int code;

		if (pattern_new(&bench->pattern[i], regex, strlen(regex), &offset, &err) < 0)
			fail(regex, err.text);
		owners[i].needles = pattern_needles(bench->pattern[i]);
		bench->code[i] = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, 0, &code,
					       &place, NULL);
		if (!bench->code[i] || pcre2_jit_compile(bench->code[i], PCRE2_JIT_COMPLETE) < 0)
			fail(regex, "cannot be compiled");
	}
	bench->found = pcre2_match_data_create(1, NULL);
	if (!bench->found || sieve_new(&bench->sieve, owners, bench->count) < 0)
		fail("sieve", strerror(ENOMEM));
}

static void load(struct bench *bench, const char *log, const char *patterns, size_t count)
{
	size_t length;

	read_whole(&bench->log, &bench->log_length, log);
	read_whole(&bench->text, &length, patterns);
	if (bench->log_length == 0)
		fail(log, "there is nothing in it");
	for (char *line = strtok(bench->text, "\n"); line && bench->count < count;
	     line = strtok(NULL, "\n"))
		bench->regex[bench->count++] = line;
	compile(bench);
}

/* ---- the two ways ---- */

static void on_line(const struct line *line, void *data)
{
	struct bench *bench = data;
	size_t i, start, end;

	sieve_scan(bench->sieve, line->text, line->length);
	for (i = sieve_next(bench->sieve, 0); i < bench->count; i = sieve_next(bench->sieve, i + 1))
		bench->hits +=
			pattern_search(bench->pattern[i], line->text,
				       line->length + (line->ended ? 2 : 0), &start, &end) == 1;
}

static size_t on_quiet(const char *bytes, size_t length, void *data)
{
	const struct bench *bench = data;

	return sieve_find(bench->sieve, bytes, length);
}

static void read_our_way(struct bench *bench)
{
	cleanup_(lines_done) struct lines lines = { .quiet = on_quiet };

	for (size_t at = 0; at < bench->log_length; at += PIECE) {
		size_t left = bench->log_length - at;

		if (lines_feed(&lines, at, bench->log + at, left < PIECE ? left : PIECE, on_line,
			       bench) < 0)
			fail("lines", strerror(ENOMEM));
	}
	lines_flush(&lines, on_line, bench);
}

static void read_the_bare_way(struct bench *bench)
{
	const char *line = bench->log, *end = bench->log + bench->log_length;

	while (line < end) {
		const char *next = memchr(line, '\n', (size_t)(end - line));
		size_t whole = (size_t)((next ? next : end) - line);
		size_t length = whole > 0 && line[whole - 1] == '\r' ? whole - 1 : whole;

		for (size_t i = 0; i < bench->count; i++)
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
		     name, bench->count, (double)fed / 1e6 / seconds, bench->hits / times);
}

int main(int argc, char **argv)
{
	static struct bench bench;
	size_t count = argc > 3 ? strtoul(argv[3], NULL, 10) : PATTERNS_MAX;
	size_t mb = argc > 4 ? strtoul(argv[4], NULL, 10) : DEFAULT_MB;

	if (argc < 3 || argc > 5 || count < 1 || mb < 1)
		fail("usage", "bench-pattern LOG PATTERNS [COUNT [MEGABYTES]]");
	load(&bench, argv[1], argv[2], count < PATTERNS_MAX ? count : PATTERNS_MAX);
	measure(&bench, "pattern", read_our_way, mb);
	measure(&bench, "pattern-each", read_the_bare_way, mb);
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/lines.h"
#include "executor/mask.h"
#include "executor/matcher.h"
#include "tests/fuzz/fuzz.h"

/* The bytes of a board: cut into lines, matched against a job's patterns, masked. */

enum { FLUSHES_MAX = 20 };

static const char job[] =
	"version: 1\n"
	"console_patterns:\n"
	"  session_end: {regex: 'halt(ed)?$'}\n"
	"  session_reboot: {regex: '^reboot.*\\r$'}\n"
	"  job_success: {regex: '(a|b)+c\\r\\n'}\n"
	"  job_warn: {regex: '[0-9]+ (?:warn|err)'}\n"
	"  machine_unfit_for_service: {regex: '^\\x1b\\[31munfit'}\n"
	"  watchdogs: {w: {start: {regex: 'go'}, reset: {regex: 'on.$'}, stop: {regex: '^x*y'}}}\n"
	"timeouts: {watchdogs: {w: {seconds: 3}}}\n";

struct board {
	struct matcher *matcher;
	const struct mask *mask;
	const uint8_t *data;
	size_t size;
	uint64_t next; /* offset behind the last complete line */
};

static void on_match(const struct match *match, const struct line *line, void *data)
{
	(void)data;
	assert(match->name && line->text);
}

static void on_line(const struct line *line, void *data)
{
	struct board *board = data;
	free_ char *copy = fuzz_text((const uint8_t *)line->text, line->length);

	assert(line->length <= LINE_BYTES_MAX && line->offset >= board->next);
	assert(line->offset + line->length <= board->size);
	/* What is told is what came. */
	assert(memcmp(line->text, board->data + line->offset, line->length) == 0);
	if (line->ended) {
		assert(memcmp(line->text + line->length, "\r\n", 2) == 0);
		board->next = line->offset + line->length + 1;
	}
	mask_text(board->mask, copy);
	matcher_line(board->matcher, line);
}

/* Feeds all of it in pieces of this size. */
static void feed(const struct description *description, struct board *board, size_t piece)
{
	struct lines lines = { 0 };
	struct matcher matcher;
	unsigned flushes = 0;

	assert(matcher_init(&matcher, description, on_match, board) == 0);
	board->matcher = &matcher;
	board->next = 0;
	for (size_t at = 0; at < board->size; at += piece) {
		size_t length = board->size - at < piece ? board->size - at : piece;

		assert(lines_feed(&lines, at, (const char *)board->data + at, length, on_line,
				  board) == 0);
		/* A board that falls silent now and then. */
		if (flushes < FLUSHES_MAX && at / piece % 3 == 1) {
			lines_flush(&lines, on_line, board);
			flushes++;
		}
	}
	lines_flush(&lines, on_line, board);
	lines_reset(&lines);
	matcher_boot(&matcher);
	matcher_done(&matcher);
	lines_done(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct description *description;
	static struct mask mask;
	struct board board = { .mask = &mask, .data = data, .size = size };

	fuzz_begin();
	if (!description) {
		json_auto_t *environ_vars =
			json_pack("{s:s, s:s}", "A_TOKEN", "abcabc", "PASSWORD", "a\nb");
		struct problems problems = { 0 };

		assert(description_parse(&description, job, strlen(job), NULL, &problems) == 0);
		assert(mask_init(&mask, environ_vars) == 0);
	}
	feed(description, &board, size > 0 ? size : 1);
	feed(description, &board, 7);
	return 0;
}

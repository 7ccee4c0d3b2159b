/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/needle.h"

/*
 * A regular expression over the bytes of one console line, bounded in time. It is handed the line
 * followed by CR LF, whatever the board sent, and compiled so that `$`, `\r$`, a literal CR before
 * `$`, `\r?$` and `\r\n` all match the end of that line; see dut-job(5).
 */
struct pattern;

/*
 * Compiles a pattern.
 *
 * Units:  *ret_offset is the byte in regex at which the fault was found; set on failure only.
 * Errors: -EINVAL with the library's words, or for `\z` behind text with the hint `$`; -ENOMEM.
 * Source: pcre2api(3), PCRE2_NEWLINE_ANYCRLF; match limit and depth limit are ours.
 */
int pattern_new(struct pattern **ret, const char *regex, size_t length, size_t *ret_offset,
		struct error *err);

/* The same without keeping anything, for one who only wants to know; pattern_size() goes to
 * *ret_size. */
int pattern_check(size_t *ret_size, const char *regex, size_t length, size_t *ret_offset,
		  struct error *err);

struct pattern *pattern_free(struct pattern *pattern);

/* The bytes that it was compiled to. Machine code may be 30 times as large. */
size_t pattern_size(const struct pattern *pattern);

const char *pattern_text(const struct pattern *pattern);

/* Whether it can match only at the end of a line: holds `$` or a line end (advice for partial
 * lines). */
bool pattern_wants_line_end(const struct pattern *pattern);

/* Texts without one of which it cannot match; CR and LF are in none. */
const struct needles *pattern_needles(const struct pattern *pattern);

/*
 * Searches subject.
 *
 * Errors: 1 match (with its span), 0 none; -EOVERFLOW over the match limit, which is never "none".
 */
int pattern_search(struct pattern *pattern, const char *subject, size_t length, size_t *ret_start,
		   size_t *ret_end);

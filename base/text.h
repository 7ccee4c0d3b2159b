/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { TEXT_NAME_MAX = 63 };

/* Parses a decimal number without sign, blank or leading '+'. -EINVAL names the text and the legal
 * range. */
int text_to_uint64(uint64_t *ret, const char *text, uint64_t min, uint64_t max, struct error *err);

/* The number in front of this suffix, which ends the text: "17.json". False when the text is no
 * such thing. */
bool text_number_before(uint64_t *ret, const char *text, const char *suffix);

/* Parses "500ms", "30s", "1.5m", "2h", "1d", a sum of such ("1h 30m"), or a plain number of
 * seconds, which may have a fraction. At most 36500 days, so that it can be added to a clock. */
int text_to_duration_us(uint64_t *ret_us, const char *text, struct error *err);

/* Parses a size in bytes: a plain number or one followed by KiB, MiB, GiB, TiB, kB, MB, GB, TB. */
int text_to_size(uint64_t *ret_bytes, const char *text, struct error *err);

/* Writes a size in the largest unit of 1024 that it is a whole number of: "1 MiB", "1500 bytes".
 * Returns buffer. */
enum { TEXT_SIZE_SIZE = 32 };
const char *text_format_size(char *buffer, size_t size, uint64_t bytes);

/* Writes a duration as a person would say it: "250ms", "30s", "10m", "1h 30m". Returns buffer. */
const char *text_format_duration(char *buffer, size_t size, uint64_t duration_us);

/* Writes a place: "1st", "2nd", "11th". Returns buffer. */
const char *text_format_ordinal(char *buffer, size_t size, uint64_t number);

/* Whether this is a name of ours: [A-Za-z][A-Za-z0-9_.-]{0,62}. */
bool text_is_name(const char *text);

/*
 * Reads the first character of these bytes and returns its length, or 0 where they are not UTF-8
 * (cut, overlong, a surrogate, beyond U+10FFFF) or there are none.
 *
 * Source: RFC 3629, section 4.
 */
size_t text_decode_utf8(uint32_t *ret_code, const char *text, size_t length);

/* The length of these bytes without a last character whose end is missing: what to keep of a text
 * that was cut. */
size_t text_whole_utf8(const char *text, size_t length);

/* Whether these bytes are valid UTF-8 without characters that move others: controls (tab and line
 * feed are some), line ends, and those that set the direction of writing. */
bool text_is_printable(const char *text, size_t length);

/*
 * The known word that a person most likely meant (optimal string alignment distance of at most a
 * third of its length, at least 1; case does not count), or NULL. known ends with NULL. The result
 * points into known.
 */
const char *text_nearest(const char *word, const char *const *known);

/*
 * Writes bytes of any origin as printable ASCII: others become \xNN, \r, \n, \t, \e; a text that
 * does not fit ends in "...". Returns buffer.
 */
const char *text_escape(char *buffer, size_t size, const char *bytes, size_t length);

/* The same, but leaves what is printable UTF-8 as it is; a text that does not fit is cut. Others
 * become \xNN. */
const char *text_show(char *buffer, size_t size, const char *text);

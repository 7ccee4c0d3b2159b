/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A JSON string of a text of any origin: errors, names of files, what a peer said. JSON carries
 * UTF-8 only, and json_string() of anything else is NULL, whose member is then missing from the
 * object; here each byte that belongs to no character becomes U+FFFD. NULL becomes null.
 *
 * Errors: NULL when memory ran out.
 */
json_t *jsontext_new(const char *text);

/*
 * One line of JSON that is written from its beginning to its end, without blanks: the same text as
 * that of a tree of libjansson's, fractions with 15 digits, at a tenth of the cost. For what is
 * asked for again and again. Starts zeroed; memory that runs out is noticed at the end.
 *
 * The key of a value is NULL in an array and at the top. Texts may be of any origin, as above.
 */
struct jsontext {
	char *text;
	size_t used, size;
	bool failed;
	bool comma; /* stands before the next value */
};

void jsontext_open_object(struct jsontext *json, const char *key);
void jsontext_close_object(struct jsontext *json);
void jsontext_open_array(struct jsontext *json, const char *key);
void jsontext_close_array(struct jsontext *json);
void jsontext_text(struct jsontext *json, const char *key, const char *text); /* NULL: null */
void jsontext_bool(struct jsontext *json, const char *key, bool value);
void jsontext_integer(struct jsontext *json, const char *key, int64_t number);
void jsontext_real(struct jsontext *json, const char *key, double number);

/* ISO 8601, as clock_format_iso() has it; 0 is never: null. */
void jsontext_time(struct jsontext *json, const char *key, uint64_t realtime_us);

/* Takes the reference; a tree of NULL is one that there was no memory for. */
void jsontext_tree(struct jsontext *json, const char *key, json_t *tree);

/*
 * The end of the line, with its line feed. The caller frees it.
 *
 * Errors: NULL when memory ran out.
 */
char *jsontext_finish(struct jsontext *json, size_t *ret_length);

/* The line of a tree, whose reference stays the caller's. NULL when memory ran out. */
char *jsontext_line(json_t *tree, size_t *ret_length);

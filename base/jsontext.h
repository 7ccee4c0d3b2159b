/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>

/*
 * A JSON string of a text of any origin: errors, names of files, what a peer said. JSON carries
 * UTF-8 only, and json_string() of anything else is NULL, whose member is then missing from the
 * object; here each byte that belongs to no character becomes U+FFFD. NULL becomes null.
 *
 * Errors: NULL when memory ran out.
 */
json_t *jsontext_new(const char *text);

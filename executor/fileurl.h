/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

/* file: URLs as text; localfile.h opens what they name. */

/* Whether a URL has the scheme "file". */
bool fileurl_is(const char *url);

/*
 * The absolute path in a URL (file:/PATH, file:///PATH, file://localhost/PATH) with percent
 * encoding undone, and "//" and "/./" made one slash; to be freed. NULL when there is none.
 *
 * Source: RFC 8089.
 */
char *fileurl_path(const char *url);

/* What of path lies behind root and a slash, or NULL. By text: links and ".." are not looked at. */
const char *fileurl_beneath(const char *path, const char *root);

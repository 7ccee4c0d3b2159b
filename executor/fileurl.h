/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* file: URLs of the gateway's own files, which are allowed beneath api.file_roots only. */

bool fileurl_is(const char *url);

/*
 * Stores the URL of the file that url names, without links, if it lies beneath one of the roots
 * (absolute paths; NULL: none).
 *
 * Errors: -EINVAL for a URL that is no file:///PATH; -EACCES outside of the roots; -ENOENT ...
 */
int fileurl_resolve(char **ret, const char *url, const json_t *roots, struct error *err);

/* The URL of a file that is open. */
int fileurl_of_fd(char **ret, int fd, struct error *err);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "executor/sink.h"

/* file: URLs: files of the gateway itself, of which a job may have those beneath api.file_roots. */

/*
 * Opens the regular file that a URL names (file:/PATH, file:///PATH, file://localhost/PATH; percent
 * encoding is undone). roots is an array of absolute paths, or NULL for no bounds: the path must
 * begin with one of them, and no link may lead out of it again.
 *
 * Errors: -EINVAL what is no such URL, no regular file; -EACCES outside of the roots; -ENOENT ...
 * Source: RFC 8089; openat2(2), RESOLVE_BENEATH.
 */
int localfile_open(int *ret_fd, const char *url, const json_t *roots, struct error *err);

/* Copies an open file from its start into a sink that was started. */
int localfile_copy(int fd, struct sink *sink, struct error *err);

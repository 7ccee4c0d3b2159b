/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

/*
 * Folders whose content somebody else chose. Each step goes one name down from an open folder and
 * follows no link, so that nothing outside is ever read, written or removed.
 */

enum { FOLDER_DEPTH_MAX = 128 }; /* folders inside each other */

/*
 * Opens the folder path beneath dir_fd ("" is dir_fd itself) as an O_PATH fd.
 *
 * Errors: -ENOENT; -ENOTDIR when a link or a file is in the way.
 */
int folder_open(int *ret_fd, int dir_fd, const char *path, struct error *err);

/* The same, and makes what is missing (0755 and the umask); *made grows by their number. */
int folder_make(int *ret_fd, int dir_fd, const char *path, uint64_t *made, struct error *err);

/* The names in a folder, sorted by their bytes; ends with NULL. -E2BIG over max. */
int folder_list(char ***ret, int dir_fd, uint64_t max, struct error *err);
char **folder_list_free(char **names);
CLEANUP_DEFINE(char **, folder_list_free)

/* 1 when nothing is in the folder, else 0. */
int folder_is_empty(int dir_fd, struct error *err);

/* Removes everything in the folder, however deep it lies and though it was shut; the folder itself
 * stays. */
int folder_clear(int dir_fd, struct error *err);

/* What everything in the folder takes of the disk, in bytes; what cannot be read counts nothing. */
uint64_t folder_size(int dir_fd);

/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"

/*
 * Small files that get onto the disk together: all are written, then all are synced, then those
 * that replace others get their names, then each folder is synced once. A file that fails fails its
 * owner alone. Everything here blocks on the disk.
 */

struct filebatch;

/* state_fd: where the reserve lies (reserve.h). Borrowed. */
int filebatch_new(struct filebatch **ret, int state_fd, struct error *err);
struct filebatch *filebatch_free(struct filebatch *files);
CLEANUP_DEFINE(struct filebatch *, filebatch_free)

/* Whose are the files that follow. */
void filebatch_set_owner(struct filebatch *files, const void *owner);

enum filebatch_kind {
	FILEBATCH_NEW,	    /* under its name at once; it must not be there */
	FILEBATCH_REPLACE,  /* as a whole, in the place of what is there */
	FILEBATCH_RESERVED, /* the same; on a full disk the reserve is used */
};

/* Writes a file. One that is to replace another of the batch takes its place, and its owner's fate
 * is shared by that one's. dir_fd is borrowed until the batch is synced. */
int filebatch_write(struct filebatch *files, enum filebatch_kind kind, int dir_fd, const char *name,
		    const char *text, size_t length, mode_t mode, struct error *err);

/* A file or folder that was made otherwise is to be synced as well. fd is taken over, also on
 * failure. */
int filebatch_add(struct filebatch *files, int fd, struct error *err);

/* Names in this folder were changed: it is synced when all else is. Borrowed, as above. */
int filebatch_touch(struct filebatch *files, int dir_fd, struct error *err);

void filebatch_sync(struct filebatch *files);

/* How it went with an owner's files: 0, or the first failure. */
int filebatch_result(const struct filebatch *files, const void *owner, struct error *err);

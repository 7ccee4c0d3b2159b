/* SPDX-License-Identifier: MIT */
#pragma once

#include <dirent.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* Writes all of it, over short writes and EINTR. For files and pipes that block. */
int file_write_all(int fd, const void *data, size_t length, struct error *err);

/*
 * Appends a record to a file that is open with O_APPEND, all of it or nothing: what a full disk has
 * taken of it is cut off again, so that the next one does not begin in its midst.
 */
int file_append(int fd, const void *data, size_t length, struct error *err);

/*
 * Opens path beneath dir_fd without following any link and without leaving the folder; O_CLOEXEC is
 * added. What is not a regular file is refused unless flags has O_DIRECTORY or O_PATH.
 *
 * Errors: -ELOOP, -EXDEV, -ENOENT ...; -EINVAL for what is no regular file.
 * Source: openat2(2), RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS.
 */
int file_open_beneath(int *ret_fd, int dir_fd, const char *path, int flags, struct error *err);

/* Reads a whole regular file of at most max bytes, opened as above; *ret is terminated. -EFBIG when
 * longer. */
int file_read_beneath(char **ret, size_t *ret_length, int dir_fd, const char *path, size_t max,
		      struct error *err);

/* Reads until the end from an fd, at most max bytes; *ret is terminated. -EFBIG when longer. */
int file_read_fd(char **ret, size_t *ret_length, int fd, size_t max, struct error *err);

/*
 * Replaces dir_fd/name as a whole: temporary file, fsync, rename, fsync of the folder. After 0 it
 * survives a crash.
 *
 * Blocks: on the disk.
 */
int file_replace(int dir_fd, const char *name, const void *data, size_t length, mode_t mode,
		 struct error *err);

/* Makes the folder path (absolute, or relative to dir_fd) with its parents, and opens it. */
int file_make_dir(int *ret_fd, int dir_fd, const char *path, mode_t mode, struct error *err);

/*
 * Binds a unix socket of this type (SOCK_STREAM, SOCK_SEQPACKET) at dir_fd/name through
 * /proc/self/fd, so that paths may be long; the old name is unlinked first. Does not listen.
 * CLOEXEC and non-blocking.
 */
int file_bind_socket(int *ret_fd, int dir_fd, const char *name, int type, mode_t mode,
		     struct error *err);

/* The same, and listens. */
int file_listen_socket(int *ret_fd, int dir_fd, const char *name, int type, mode_t mode,
		       struct error *err);

/* Connects to dir_fd/name likewise. -ENOENT, -ECONNREFUSED when nobody is there. CLOEXEC and
 * non-blocking. */
int file_connect_socket(int *ret_fd, int dir_fd, const char *name, int type, struct error *err);

/*
 * Opens (creating it, 0600) and locks dir_fd/name with flock(2). -EWOULDBLOCK when somebody else
 * holds it. The lock belongs to the open file: it ends with the last copy of the fd.
 */
int file_lock(int *ret_fd, int dir_fd, const char *name, struct error *err);

/* Opens the folder once more, to read its names from the first on; dir_fd stays where it is. The
 * caller says in front of the error what folder it is. */
int file_open_dir(DIR **ret, int dir_fd, struct error *err);

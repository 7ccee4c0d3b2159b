/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Tar archives, on libarchive. Every variant of tar is read, with any compression that libarchive
 * knows by itself; its other formats are left out, because one of them (mtree) names files of this
 * machine as content.
 */

enum archive_target {
	ARCHIVE_INTO_EMPTY,    /* an empty folder, which is empty again after a failure */
	ARCHIVE_REPLACE_FILES, /* files of the same names are replaced, each as a whole; nothing
				  else is removed, also after a failure */
};

struct archive_unpack_options {
	enum archive_target target;
	uint64_t max_bytes;	   /* of all files together */
	uint64_t max_files;	   /* files, folders and links together */
	const char *max_bytes_key; /* names of the limits for texts, or NULL */
	const char *max_files_key;
	uint64_t min_free; /* bytes that are left on the disk; else -ENOSPC */
};

/*
 * Unpacks an archive from the start of archive_fd into dir_fd: regular files (with their times),
 * folders, and links that stay inside; no owner, modes within 0755 and the umask. An entry that is
 * not allowed refuses the archive as a whole: a name or a link that leaves the folder, a device, a
 * fifo, too much. Every entry is checked before the first one is written; into an empty folder
 * a large compressed archive is written as it is checked, and removed again when it is refused. A
 * symlink may have `..` at its beginning only, since `..` behind a name that is itself a link leads
 * anywhere. Links in the folder are never followed. Of two entries with the same name the later one
 * counts; names that differ in anything, also in case alone, are different ones. Archives that were
 * put behind each other are one archive.
 *
 * Errors: -EBADMSG what is no tar archive, or damaged; -EINVAL an entry is not allowed; -E2BIG over
 * a limit; -ESPIPE when archive_fd is no regular file; -ENOTEMPTY; -ENOSPC and others of the disk.
 * Blocks: on the disk.
 */
int archive_unpack(int archive_fd, int dir_fd, const struct archive_unpack_options *options,
		   uint64_t *ret_bytes, struct error *err);

/*
 * Writes a tar of the files and folders names (paths beneath dir_fd, "." for all of it; ends with
 * NULL) to out_fd, which may be a pipe or a socket. Folders are in the order of their bytes, links
 * go as links, what is neither is left out, and so is a name that is not there. A file that grows
 * goes with the size that it had.
 *
 * Errors: -EPIPE and others of out_fd; -E2BIG over a million entries.
 * Blocks: on the disk and on out_fd.
 */
int archive_pack(int out_fd, int dir_fd, const char *const *names, struct error *err);

/* A regular file that gets a name of its own in an archive. */
struct archive_member {
	char *name; /* "a/b.bin" */
	int fd;	    /* read from its present position on; borrowed */
};

/* The same, followed by n_members members. Without names (ends with NULL) dir_fd is not used. */
int archive_pack_members(int out_fd, int dir_fd, const char *const *names,
			 const struct archive_member *members, size_t n_members, struct error *err);

/*
 * Whether an archive has a file, link or folder at path ("a/b.bin"): 1 or 0.
 *
 * Errors: as of archive_unpack(), also for an entry that it would refuse before it comes to path,
 *         and for a path that leaves the folder.
 * Blocks: on the disk.
 */
int archive_has(int archive_fd, const char *path, struct error *err);

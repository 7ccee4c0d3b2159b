/* SPDX-License-Identifier: MIT */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include "base/archive.h"
#include "base/text.h"

/* What archive-check.c (what an archive says, and whether that is allowed) and archive.c (what is
 * written of it) share. */

enum { ARCHIVE_TEXT_MAX = 110 }; /* bytes of a name in an error text */

struct archive;
struct archive_entry;

enum archive_item_kind { ITEM_FILE, ITEM_FOLDER, ITEM_SYMLINK, ITEM_HARDLINK };

/* One entry, checked: its path has no "..", no "." and no empty name. */
struct archive_item {
	enum archive_item_kind kind;
	char path[PATH_MAX];   /* "" is the folder itself */
	char target[PATH_MAX]; /* of a link; of a hard link, a path like the above */
	mode_t mode;
	uint64_t size;
	bool has_time;
	struct timespec time;
};

static inline const char *archive_printable(char buffer[static ARCHIVE_TEXT_MAX], const char *name)
{
	return text_escape(buffer, ARCHIVE_TEXT_MAX, name, strlen(name));
}

/* Opens the tar archive that begins at the start of fd. */
int archive_open_tar(struct archive **ret, int fd, struct error *err);

/* -EBADMSG, in libarchive's words for its last failure, which may hold bytes of the archive. */
int archive_fault(struct archive *archive, struct error *err);

/*
 * The next entry: 1, or 0 at the end. libarchive tells of headers that it could not make sense of,
 * and then goes on without them; a name in another encoding is no fault, though.
 */
int archive_next_entry(struct archive *archive, struct archive_entry **ret, struct error *err);

/* Makes an item of an entry, or refuses it. */
int archive_check_entry(struct archive_item *item, struct archive_entry *entry, struct error *err);

/* SPDX-License-Identifier: MIT */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/archive-internal.h"
#include "base/attr.h"
#include "base/cleanup.h"
#include "base/folder.h"
#include "base/locale.h"
#include "base/space.h"

enum {
	FILE_COST = 4096,     /* bytes of the disk, about, that one takes whatever is in it */
	LOOK_BYTES = 1 << 20, /* so much is looked at before anything is written */
	LOOK_RATIO = 16,      /* and all of what was compressed to less than that part */
};

CLEANUP_DEFINE(struct archive *, archive_read_free)

struct unpack {
	struct archive *archive;
	const struct archive_unpack_options *options;
	int dir_fd;
	uint64_t archive_bytes; /* as it is, compressed */
	uint64_t bytes, files;
	uint64_t unlooked;     /* bytes since the disk was asked */
	unsigned serial;       /* of temporary names */
	int parent_fd;	       /* the folder of the last entry ... */
	char parent[PATH_MAX]; /* ... and its path */
};

static int too_much(const char *verb, uint64_t limit, const char *what, const char *key,
		    struct error *err)
{
	return error_set(err, -E2BIG, "the archive %s more than %llu %s%s%s%s", verb,
			 (unsigned long long)limit, what, key ? " (" : "", key ? key : "",
			 key ? ")" : "");
}

/* Adds to what is used, unless that is over a limit. */
static int count(struct unpack *unpack, uint64_t bytes, uint64_t files, struct error *err)
{
	const struct archive_unpack_options *options = unpack->options;

	if (bytes > options->max_bytes - unpack->bytes)
		return too_much("unpacks to", options->max_bytes, "bytes", options->max_bytes_key,
				err);
	if (files > options->max_files - unpack->files)
		return too_much("holds", options->max_files, "files and folders",
				options->max_files_key, err);
	unpack->bytes += bytes;
	unpack->files += files;
	return 0;
}

/* The folder in which an item lies, made where it is missing; name is the item's last name. */
static int open_parent(struct unpack *unpack, const char *path, int *ret_fd, const char **ret_name,
		       struct error *err)
{
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;
	char parent[PATH_MAX];
	uint64_t made = 0;
	int fd, r;

	memcpy(parent, path, length);
	parent[length] = '\0';
	if (unpack->parent_fd < 0 || strcmp(parent, unpack->parent) != 0) {
		r = folder_make(&fd, unpack->dir_fd, parent, &made, err);
		if (r < 0)
			return r;
		(void)close_fd(unpack->parent_fd);
		unpack->parent_fd = fd;
		memcpy(unpack->parent, parent, length + 1);
		/* Folders that the archive does not list itself. */
		r = count(unpack, 0, made, err);
		if (r < 0)
			return r;
	}
	*ret_fd = unpack->parent_fd;
	*ret_name = slash ? slash + 1 : path;
	return 0;
}

/* pwrite() of everything. */
static int write_at(int fd, const char *data, size_t length, uint64_t offset, struct error *err)
{
	while (length > 0) {
		ssize_t n = pwrite(fd, data, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, "cannot write");
		data += n;
		length -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* Asks the disk, now and then, before so many bytes are written; a file costs some, too. */
static int look_for_space(struct unpack *unpack, size_t length, struct error *err)
{
	if (unpack->unlooked < SPACE_STEP) {
		unpack->unlooked += length;
		return 0;
	}
	unpack->unlooked = length;
	return space_check(unpack->dir_fd, unpack->options->min_free, err);
}

/* Writes the present entry's bytes; holes of a sparse file stay holes. */
static int write_content(struct unpack *unpack, const struct archive_item *item, int fd,
			 struct error *err)
{
	uint64_t end = 0;
	int r;

	for (;;) {
		const void *block;
		size_t length;
		la_int64_t offset;

		r = archive_read_data_block(unpack->archive, &block, &length, &offset);
		if (r == ARCHIVE_EOF)
			break;
		if (r < ARCHIVE_WARN)
			return archive_fault(unpack->archive, err);
		if (offset < 0 || (uint64_t)offset > item->size ||
		    length > item->size - (uint64_t)offset)
			return error_set(err, -EBADMSG, "the archive holds more than it says");
		r = look_for_space(unpack, length, err);
		if (r >= 0)
			r = write_at(fd, block, length, (uint64_t)offset, err);
		if (r < 0)
			return r;
		end = (uint64_t)offset + length;
	}
	if (end < item->size && ftruncate(fd, (off_t)item->size) < 0)
		return error_errno(err, "cannot write");
	return 0;
}

static int put_file(struct unpack *unpack, const struct archive_item *item, int parent_fd,
		    const char *name, struct error *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	close_ int fd = openat(parent_fd, name, flags, item->mode | 0600);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, item->time };
	int r;

	if (fd < 0)
		return error_errno(err, "cannot make the file");
	r = look_for_space(unpack, FILE_COST, err);
	if (r < 0)
		return r;
	r = write_content(unpack, item, fd, err);
	if (r < 0)
		return r;
	if (item->has_time)
		(void)futimens(fd, times);
	return 0;
}

/* A hard link is made to a regular file only: a symlink would mean something else at its new place.
 */
static int put_hardlink(struct unpack *unpack, const struct archive_item *item, int parent_fd,
			const char *name, struct error *err)
{
	const char *slash = strrchr(item->target, '/');
	const char *target = slash ? slash + 1 : item->target;
	char folder[PATH_MAX] = "", text[ARCHIVE_TEXT_MAX];
	close_ int fd = -1;
	struct stat found;
	int r;

	if (slash)
		memcpy(folder, item->target, (size_t)(slash - item->target));
	r = folder_open(&fd, unpack->dir_fd, folder, err);
	if (r < 0)
		return r;
	if (fstatat(fd, target, &found, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "a hard link to '%s'",
				   archive_printable(text, item->target));
	if (!S_ISREG(found.st_mode))
		return error_set(err, -EINVAL, "a hard link to '%s', which is no file",
				 archive_printable(text, item->target));
	if (linkat(fd, target, parent_fd, name, 0) < 0)
		return error_errno(err, "cannot make the link");
	return 0;
}

static int put_temporary(struct unpack *unpack, const struct archive_item *item, int parent_fd,
			 const char *name, struct error *err)
{
	switch (item->kind) {
	case ITEM_FILE:
		return put_file(unpack, item, parent_fd, name, err);
	case ITEM_HARDLINK:
		return put_hardlink(unpack, item, parent_fd, name, err);
	case ITEM_SYMLINK:
		if (symlinkat(item->target, parent_fd, name) < 0)
			return error_errno(err, "cannot make the link");
		return 0;
	case ITEM_FOLDER:
		break;
	}
	return error_set(err, -EINVAL, "is of no known kind");
}

/* Makes the item under a name of its own, then moves it to its place, over what may be there. */
static int put_item(struct unpack *unpack, const struct archive_item *item, struct error *err)
{
	char temporary[48];
	const char *name;
	int parent_fd, r;

	r = open_parent(unpack, item->path, &parent_fd, &name, err);
	if (r < 0)
		return r;
	do {
		(void)snprintf(temporary, sizeof(temporary), ".dut-unpack-%d-%u", (int)getpid(),
			       unpack->serial++);
		r = put_temporary(unpack, item, parent_fd, temporary, err);
	} while (r == -EEXIST);
	if (r == 0 && renameat(parent_fd, temporary, parent_fd, name) < 0)
		r = error_errno(err, "cannot take its place");
	/* Also after a rename(), which does nothing when both names are the same file already. */
	if (r < 0 || item->kind == ITEM_HARDLINK)
		(void)unlinkat(parent_fd, temporary, 0);
	return r;
}

static int put_folder(struct unpack *unpack, const struct archive_item *item, struct error *err)
{
	uint64_t made = 0;
	int fd, r;

	r = folder_make(&fd, unpack->dir_fd, item->path, &made, err);
	if (r < 0)
		return r;
	(void)close_fd(fd);
	return count(unpack, 0, made > 0 ? made - 1 : 0, err);
}

/* One entry, in one of the passes. */
static int take_entry(struct unpack *unpack, struct archive_item *item, struct archive_entry *entry,
		      bool write, struct error *err)
{
	char text[ARCHIVE_TEXT_MAX];
	int r = archive_check_entry(item, entry, err);

	if (r < 0)
		return r;
	r = count(unpack, item->size, 1, err);
	if (r == 0 && write)
		r = item->kind == ITEM_FOLDER ? put_folder(unpack, item, err)
					      : put_item(unpack, item, err);
	return r < 0 ? error_prefix(err, r, "entry '%s'", archive_printable(text, item->path)) : 0;
}

/*
 * Whether the look before writing may end here. It costs as much as the unpacking itself when the
 * archive is compressed; and what was written into an empty folder can be removed again, if only
 * there is not too much of it. So all of an archive is looked at that is small, that is not
 * compressed, or that expands as only a bomb does.
 */
static bool has_seen_enough(const struct unpack *unpack, const struct archive_item *item)
{
	uint64_t in, out;

	if (unpack->options->target != ARCHIVE_INTO_EMPTY ||
	    archive_filter_code(unpack->archive, 0) == ARCHIVE_FILTER_NONE)
		return false;
	/* What comes next is to be decompressed to get behind it. */
	if (item->size > LOOK_BYTES)
		return item->size / LOOK_RATIO < unpack->archive_bytes;
	in = (uint64_t)archive_filter_bytes(unpack->archive, -1);
	out = (uint64_t)archive_filter_bytes(unpack->archive, 0);
	return out > LOOK_BYTES && out / LOOK_RATIO < in;
}

/* Goes through all entries once, with or without writing. */
static int pass(struct unpack *unpack, int archive_fd, bool write, struct error *err)
{
	cleanup_(archive_read_freep) struct archive *archive = NULL;
	struct archive_entry *entry = NULL;
	struct archive_item item = { .kind = ITEM_FILE };
	int r = archive_open_tar(&archive, archive_fd, err);
	char text[ARCHIVE_TEXT_MAX];

	if (r < 0)
		return r;
	unpack->archive = archive;
	unpack->bytes = 0;
	unpack->files = 0;
	while ((r = archive_next_entry(archive, &entry, err)) > 0) {
		r = take_entry(unpack, &item, entry, write, err);
		if (r < 0)
			return r;
		if (!write && has_seen_enough(unpack, &item))
			return 0;
	}
	if (r < 0 && *item.path)
		return error_prefix(err, r, "after entry '%s'", archive_printable(text, item.path));
	return r;
}

static int unpack_all(struct unpack *unpack, int archive_fd, struct error *err)
{
	bool empty = unpack->options->target == ARCHIVE_INTO_EMPTY;
	struct stat found;
	int r;

	if (fstat(archive_fd, &found) < 0)
		return error_errno(err, "the archive's file");
	if (!S_ISREG(found.st_mode))
		return error_set(err, -ESPIPE, "the archive must be a regular file");
	if (empty) {
		r = folder_is_empty(unpack->dir_fd, err);
		if (r < 0)
			return r;
		if (r == 0)
			return error_set(err, -ENOTEMPTY, "the folder to unpack into is not empty");
	}
	unpack->archive_bytes = (uint64_t)found.st_size;
	r = pass(unpack, archive_fd, false, err);
	if (r < 0)
		return r;
	r = pass(unpack, archive_fd, true, err);
	if (r < 0 && empty)
		(void)folder_clear(unpack->dir_fd, NULL);
	return r;
}

int archive_unpack(int archive_fd, int dir_fd, const struct archive_unpack_options *options,
		   uint64_t *ret_bytes, struct error *err)
{
	struct unpack unpack = {
		.options = options,
		.dir_fd = dir_fd,
		.unlooked = SPACE_STEP,
		.parent_fd = -1,
	};
	utf8_ struct utf8_scope scope = utf8_enter();
	int r = unpack_all(&unpack, archive_fd, err);

	(void)close_fd(unpack.parent_fd);
	if (r < 0)
		return r;
	*ret_bytes = unpack.bytes;
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/archive-internal.h"
#include "base/cleanup.h"
#include "base/folder.h"
#include "base/locale.h"

enum { READ_SIZE = 65536 };

CLEANUP_DEFINE(struct archive *, archive_read_free)

int archive_open_tar(struct archive **ret, int fd, struct error *err)
{
	cleanup_(archive_read_freep) struct archive *archive = archive_read_new();

	if (!archive)
		return error_oom(err);
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, "the archive's file");
	/* By name: "all" has filters that start programs. */
	(void)archive_read_support_filter_bzip2(archive);
	(void)archive_read_support_filter_compress(archive);
	(void)archive_read_support_filter_gzip(archive);
	(void)archive_read_support_filter_lz4(archive);
	(void)archive_read_support_filter_lzip(archive);
	(void)archive_read_support_filter_lzma(archive);
	(void)archive_read_support_filter_xz(archive);
	(void)archive_read_support_filter_zstd(archive);
	if (archive_read_support_format_tar(archive) < ARCHIVE_WARN ||
	    archive_read_support_format_gnutar(archive) < ARCHIVE_WARN ||
	    archive_read_set_format_option(archive, "tar", "read_concatenated_archives", "1") <
		    ARCHIVE_WARN ||
	    archive_read_open_fd(archive, fd, READ_SIZE) < ARCHIVE_WARN)
		return archive_fault(archive, err);
	/* The first one is libarchive's own. Each layer multiplies what a few bytes may become. */
	if (archive_filter_count(archive) > 2)
		return error_set(err, -EINVAL, "the archive is compressed more than once");
	*ret = take_ptr(archive);
	return 0;
}

int archive_fault(struct archive *archive, struct error *err)
{
	static const char ignoring[] = "Ignoring "; /* which we do not */
	const char *words = archive_error_string(archive);
	char text[ARCHIVE_TEXT_MAX];

	if (words && strncmp(words, ignoring, strlen(ignoring)) == 0)
		words += strlen(ignoring);
	return error_set(err, -EBADMSG, "the archive cannot be read: %s",
			 archive_printable(text, words ? words : "it is damaged"));
}

int archive_next_entry(struct archive *archive, struct archive_entry **ret, struct error *err)
{
	int r = archive_read_next_header(archive, ret);

	if (r == ARCHIVE_OK || (r == ARCHIVE_WARN && archive_errno(archive) == EILSEQ))
		return 1;
	if (r != ARCHIVE_EOF)
		return archive_fault(archive, err);
	/* The end is marked by blocks of zeros, which are read behind the last entry. */
	if (archive_filter_bytes(archive, 0) == archive_read_header_position(archive))
		return error_set(err, -EBADMSG, "the archive is cut: its end is missing");
	return 0;
}

/*
 * Brings a name into the form of item.path. 0, or what is wrong with it: a clause that follows the
 * quoted name.
 */
static const char *clean_path(char ret[static PATH_MAX], const char *name)
{
	unsigned depth = 0;
	size_t used = 0;

	if (!*name)
		return "is no name";
	if (*name == '/')
		return "is an absolute path";
	while (*name) {
		size_t length = strcspn(name, "/");
		bool here = length == 0 || (length == 1 && name[0] == '.');

		if (length == 2 && name[0] == '.' && name[1] == '.')
			return "leaves the folder";
		if (length > NAME_MAX || used + length + 2 > PATH_MAX)
			return "is too long";
		if (!here && ++depth > FOLDER_DEPTH_MAX)
			return "is too deep";
		if (!here) {
			if (used > 0)
				ret[used++] = '/';
			memcpy(ret + used, name, length);
			used += length;
		}
		name += length;
		name += *name == '/';
	}
	ret[used] = '\0';
	return NULL;
}

/* Whether a symlink at path leads somewhere inside for certain, whatever the names in its target
 * are. */
static bool symlink_stays_inside(const char *path, const char *target)
{
	unsigned depth = 0;
	bool down = false;

	if (!*target || *target == '/')
		return false;
	for (const char *c = path; *c; c++)
		depth += *c == '/';
	while (*target) {
		size_t length = strcspn(target, "/");

		if (length == 2 && target[0] == '.' && target[1] == '.') {
			if (down || depth-- == 0)
				return false;
		} else if (length > 0 && !(length == 1 && target[0] == '.')) {
			down = true;
		}
		target += length;
		target += *target == '/';
	}
	return true;
}

static int refuse(const char *name, const char *fault, struct error *err)
{
	char text[ARCHIVE_TEXT_MAX];

	return error_set(err, -EINVAL, "entry '%s' %s", archive_printable(text, name), fault);
}

static int read_link(struct archive_item *item, struct archive_entry *entry, const char *name,
		     struct error *err)
{
	const char *target = item->kind == ITEM_HARDLINK ? archive_entry_hardlink(entry)
							 : archive_entry_symlink(entry);
	char text[ARCHIVE_TEXT_MAX], target_text[ARCHIVE_TEXT_MAX / 2];
	bool good;

	if (!target)
		return refuse(name, "is a link to a name that cannot be read", err);
	if (item->kind == ITEM_HARDLINK) {
		good = !clean_path(item->target, target) && *item->target;
	} else {
		good = strlen(target) < PATH_MAX && symlink_stays_inside(item->path, target);
		if (good)
			memcpy(item->target, target, strlen(target) + 1);
	}
	if (!good)
		return error_set(
			err, -EINVAL, "entry '%s' is a link out of the folder, to '%s'",
			archive_printable(text, name),
			text_escape(target_text, sizeof(target_text), target, strlen(target)));
	return 0;
}

int archive_check_entry(struct archive_item *item, struct archive_entry *entry, struct error *err)
{
	const char *name = archive_entry_pathname(entry);
	const char *fault;

	if (!name)
		return error_set(err, -EINVAL, "an entry has a name that cannot be read");
	fault = clean_path(item->path, name);
	if (fault)
		return refuse(name, fault, err);

	item->mode = archive_entry_perm(entry) & 0755;
	item->size = 0;
	item->has_time = archive_entry_mtime_is_set(entry);
	item->time.tv_sec = archive_entry_mtime(entry);
	item->time.tv_nsec = archive_entry_mtime_nsec(entry);
	if (archive_entry_hardlink(entry)) {
		item->kind = ITEM_HARDLINK;
	} else {
		switch (archive_entry_filetype(entry)) {
		case AE_IFREG:
			item->kind = ITEM_FILE;
			break;
		case AE_IFDIR:
			item->kind = ITEM_FOLDER;
			break;
		case AE_IFLNK:
			item->kind = ITEM_SYMLINK;
			break;
		case AE_IFIFO:
			return refuse(name, "is a fifo", err);
		case AE_IFSOCK:
			return refuse(name, "is a socket", err);
		case AE_IFCHR:
		case AE_IFBLK:
			return refuse(name, "is a device", err);
		default:
			return refuse(name, "is of no known kind", err);
		}
	}
	if (!*item->path && item->kind != ITEM_FOLDER)
		return refuse(name, "is no name for a file", err);
	if (item->kind == ITEM_FILE) {
		if (archive_entry_size(entry) < 0)
			return refuse(name, "has no valid size", err);
		item->size = (uint64_t)archive_entry_size(entry);
	}
	if (item->kind == ITEM_SYMLINK || item->kind == ITEM_HARDLINK)
		return read_link(item, entry, name, err);
	return 0;
}

static int search(int archive_fd, const char *path, struct error *err)
{
	cleanup_(archive_read_freep) struct archive *archive = NULL;
	size_t length = strlen(path);
	struct archive_entry *entry = NULL;
	struct archive_item item = { .kind = ITEM_FILE };
	int r = archive_open_tar(&archive, archive_fd, err);

	if (r < 0)
		return r;
	while ((r = archive_next_entry(archive, &entry, err)) > 0) {
		r = archive_check_entry(&item, entry, err);
		if (r < 0)
			return r;
		/* Itself, or something in it. */
		if (strncmp(item.path, path, length) == 0 &&
		    (item.path[length] == '\0' || item.path[length] == '/'))
			return 1;
	}
	return r;
}

int archive_has(int archive_fd, const char *path, struct error *err)
{
	utf8_ struct utf8_scope scope = utf8_enter();
	char clean[PATH_MAX];
	const char *fault = clean_path(clean, path);

	return fault ? refuse(path, fault, err) : search(archive_fd, clean, err);
}

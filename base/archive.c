/* SPDX-License-Identifier: MIT */
#include "base/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/folder.h"
#include "base/locale.h"
#include "base/space.h"
#include "base/text.h"

enum {
	READ_SIZE = 65536,
	TEXT_MAX = 110,	      /* bytes of a name in an error text */
	FILE_COST = 4096,     /* bytes of the disk, about, that one takes whatever is in it */
	LOOK_BYTES = 1 << 20, /* so much is looked at before anything is written */
	LOOK_RATIO = 16,      /* and all of what was compressed to less than that part */
};

CLEANUP_DEFINE(struct archive *, archive_read_free)

enum item_kind { ITEM_FILE, ITEM_FOLDER, ITEM_SYMLINK, ITEM_HARDLINK };

/* One entry, checked: its path has no "..", no "." and no empty name. */
struct item {
	enum item_kind kind;
	char path[PATH_MAX];   /* "" is the folder itself */
	char target[PATH_MAX]; /* of a link; of a hard link, a path like the above */
	mode_t mode;
	uint64_t size;
	bool has_time;
	struct timespec time;
};

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

static const char *printable(char buffer[static TEXT_MAX], const char *name)
{
	return text_escape(buffer, TEXT_MAX, name, strlen(name));
}

/* libarchive's words for its last failure, which may hold bytes of the archive. */
static int archive_fault(struct archive *archive, struct error *err)
{
	static const char ignoring[] = "Ignoring "; /* which we do not */
	const char *words = archive_error_string(archive);
	char text[TEXT_MAX];

	if (words && strncmp(words, ignoring, strlen(ignoring)) == 0)
		words += strlen(ignoring);
	return error_set(err, -EBADMSG, "the archive cannot be read: %s",
			 printable(text, words ? words : "it is damaged"));
}

/*
 * The next entry: 1, or 0 at the end. libarchive tells of headers that it could not make sense of,
 * and then goes on without them; a name in another encoding is no fault, though.
 */
static int next_entry(struct archive *archive, struct archive_entry **ret, struct error *err)
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
	char text[TEXT_MAX];

	return error_set(err, -EINVAL, "entry '%s' %s", printable(text, name), fault);
}

static int read_link(struct item *item, struct archive_entry *entry, const char *name,
		     struct error *err)
{
	const char *target = item->kind == ITEM_HARDLINK ? archive_entry_hardlink(entry)
							 : archive_entry_symlink(entry);
	char text[TEXT_MAX], target_text[TEXT_MAX / 2];
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
			printable(text, name),
			text_escape(target_text, sizeof(target_text), target, strlen(target)));
	return 0;
}

/* Makes an item of an entry, or refuses it. */
static int check_entry(struct item *item, struct archive_entry *entry, struct error *err)
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
static int write_content(struct unpack *unpack, const struct item *item, int fd, struct error *err)
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

static int put_file(struct unpack *unpack, const struct item *item, int parent_fd, const char *name,
		    struct error *err)
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
static int put_hardlink(struct unpack *unpack, const struct item *item, int parent_fd,
			const char *name, struct error *err)
{
	const char *slash = strrchr(item->target, '/');
	const char *target = slash ? slash + 1 : item->target;
	char folder[PATH_MAX] = "", text[TEXT_MAX];
	close_ int fd = -1;
	struct stat found;
	int r;

	if (slash)
		memcpy(folder, item->target, (size_t)(slash - item->target));
	r = folder_open(&fd, unpack->dir_fd, folder, err);
	if (r < 0)
		return r;
	if (fstatat(fd, target, &found, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "a hard link to '%s'", printable(text, item->target));
	if (!S_ISREG(found.st_mode))
		return error_set(err, -EINVAL, "a hard link to '%s', which is no file",
				 printable(text, item->target));
	if (linkat(fd, target, parent_fd, name, 0) < 0)
		return error_errno(err, "cannot make the link");
	return 0;
}

static int put_temporary(struct unpack *unpack, const struct item *item, int parent_fd,
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
static int put_item(struct unpack *unpack, const struct item *item, struct error *err)
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

static int put_folder(struct unpack *unpack, const struct item *item, struct error *err)
{
	uint64_t made = 0;
	int fd, r;

	r = folder_make(&fd, unpack->dir_fd, item->path, &made, err);
	if (r < 0)
		return r;
	(void)close_fd(fd);
	return count(unpack, 0, made > 0 ? made - 1 : 0, err);
}

static int open_archive(struct archive **ret, int fd, struct error *err)
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

/* One entry, in one of the passes. */
static int take_entry(struct unpack *unpack, struct item *item, struct archive_entry *entry,
		      bool write, struct error *err)
{
	char text[TEXT_MAX];
	int r = check_entry(item, entry, err);

	if (r < 0)
		return r;
	r = count(unpack, item->size, 1, err);
	if (r == 0 && write)
		r = item->kind == ITEM_FOLDER ? put_folder(unpack, item, err)
					      : put_item(unpack, item, err);
	return r < 0 ? error_prefix(err, r, "entry '%s'", printable(text, item->path)) : 0;
}

/*
 * Whether the look before writing may end here. It costs as much as the unpacking itself when the
 * archive is compressed; and what was written into an empty folder can be removed again, if only
 * there is not too much of it. So all of an archive is looked at that is small, that is not
 * compressed, or that expands as only a bomb does.
 */
static bool has_seen_enough(const struct unpack *unpack, const struct item *item)
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
	struct item item = { .kind = ITEM_FILE };
	int r = open_archive(&archive, archive_fd, err);
	char text[TEXT_MAX];

	if (r < 0)
		return r;
	unpack->archive = archive;
	unpack->bytes = 0;
	unpack->files = 0;
	while ((r = next_entry(archive, &entry, err)) > 0) {
		r = take_entry(unpack, &item, entry, write, err);
		if (r < 0)
			return r;
		if (!write && has_seen_enough(unpack, &item))
			return 0;
	}
	if (r < 0 && *item.path)
		return error_prefix(err, r, "after entry '%s'", printable(text, item.path));
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

static int search(int archive_fd, const char *path, struct error *err)
{
	cleanup_(archive_read_freep) struct archive *archive = NULL;
	size_t length = strlen(path);
	struct archive_entry *entry = NULL;
	struct item item = { .kind = ITEM_FILE };
	int r = open_archive(&archive, archive_fd, err);

	if (r < 0)
		return r;
	while ((r = next_entry(archive, &entry, err)) > 0) {
		r = check_entry(&item, entry, err);
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

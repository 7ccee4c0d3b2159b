/* SPDX-License-Identifier: MIT */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/archive.h"
#include "base/attr.h"
#include "base/cleanup.h"
#include "base/folder.h"
#include "base/locale.h"
#include "base/text.h"

enum {
	BLOCK_SIZE = 65536,
	TEXT_MAX = 140, /* bytes of a name in an error text */
	FILES_MAX = 1000000,
};

CLEANUP_DEFINE(struct archive *, archive_write_free)
CLEANUP_DEFINE(struct archive_entry *, archive_entry_free)

struct pack {
	struct archive *archive;
	int out_fd;
	int write_errno; /* of out_fd */
	bool failed;	 /* nothing more is to be written */
	uint64_t files;
	char path[PATH_MAX]; /* of the present entry */
	char block[BLOCK_SIZE];
};

static int pack_below(struct pack *pack, int dir_fd, unsigned depth, struct error *err);

static int path_error(const struct pack *pack, int code, const char *what, struct error *err)
{
	char text[TEXT_MAX];

	return error_code(err, code, "cannot %s '%s'", what,
			  text_escape(text, sizeof(text), pack->path, strlen(pack->path)));
}

/* The writer's last failure: mostly out_fd's. */
static int archive_fault(const struct pack *pack, struct error *err)
{
	const char *words = archive_error_string(pack->archive);
	char text[TEXT_MAX];

	if (pack->write_errno)
		return error_code(err, -pack->write_errno, "cannot write the archive");
	words = words ? words : "unknown reason";
	return error_set(err, -EIO, "cannot write the archive: %s",
			 text_escape(text, sizeof(text), words, strlen(words)));
}

static la_ssize_t write_out(struct archive *archive, void *data, const void *block, size_t length)
{
	struct pack *pack = data;

	while (!pack->failed) {
		ssize_t n = write(pack->out_fd, block, length);
		struct pollfd wait = { .fd = pack->out_fd, .events = POLLOUT };

		if (n >= 0)
			return n;
		if (errno == EAGAIN)
			(void)poll(&wait, 1, -1);
		else if (errno != EINTR)
			break;
	}
	if (!pack->failed)
		pack->write_errno = errno;
	archive_set_error(archive, EIO, "writing failed");
	return -1;
}

static int write_header(struct pack *pack, const struct stat *found, const char *target,
			struct error *err)
{
	cleanup_(archive_entry_freep) struct archive_entry *entry = archive_entry_new();

	if (!entry)
		return error_oom(err);
	if (++pack->files > FILES_MAX)
		return error_set(err, -E2BIG, "more than %d files to pack", FILES_MAX);
	archive_entry_copy_pathname(entry, pack->path);
	archive_entry_set_filetype(entry, found->st_mode & S_IFMT);
	archive_entry_set_perm(entry, found->st_mode & 0777);
	archive_entry_set_mtime(entry, found->st_mtim.tv_sec, 0);
	archive_entry_set_size(entry, S_ISREG(found->st_mode) ? found->st_size : 0);
	if (target)
		archive_entry_copy_symlink(entry, target);
	if (archive_write_header(pack->archive, entry) < ARCHIVE_WARN)
		return archive_fault(pack, err);
	return 0;
}

/* Packs an open file as what pack->path says. */
static int pack_fd(struct pack *pack, int fd, struct error *err)
{
	struct stat found;
	uint64_t left;
	int r;

	if (fstat(fd, &found) < 0)
		return path_error(pack, -errno, "read", err);
	if (!S_ISREG(found.st_mode))
		return path_error(pack, -EINVAL, "read", err);
	r = write_header(pack, &found, NULL, err);
	if (r < 0)
		return r;

	for (left = (uint64_t)found.st_size; left > 0;) {
		size_t part = left < sizeof(pack->block) ? (size_t)left : sizeof(pack->block);
		ssize_t n = read(fd, pack->block, part);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return path_error(pack, -errno, "read", err);
		if (n == 0)
			return path_error(pack, -ESTALE, "read all of", err);
		if (archive_write_data(pack->archive, pack->block, (size_t)n) < 0)
			return archive_fault(pack, err);
		left -= (size_t)n;
	}
	return 0;
}

static int pack_file(struct pack *pack, int dir_fd, const char *name, struct error *err)
{
	/* O_NONBLOCK: should it have become a fifo. */
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	close_ int fd = openat(dir_fd, name, flags);

	if (fd < 0)
		return path_error(pack, -errno, "read", err);
	return pack_fd(pack, fd, err);
}

static int pack_member(struct pack *pack, const struct archive_member *member, struct error *err)
{
	size_t length = strlen(member->name);

	if (length >= sizeof(pack->path))
		return error_set(err, -ENAMETOOLONG, "a name to pack is too long");
	memcpy(pack->path, member->name, length + 1);
	return pack_fd(pack, member->fd, err);
}

static int pack_link(struct pack *pack, int dir_fd, const char *name, const struct stat *found,
		     struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);

	if (n < 0)
		return path_error(pack, -errno, "read the link", err);
	target[n] = '\0';
	return write_header(pack, found, target, err);
}

/* Packs what pack->path says, which is dir_fd/name. */
static int pack_name(struct pack *pack, int dir_fd, const char *name, unsigned depth,
		     struct error *err)
{
	close_ int fd = -1;
	struct stat found;
	int r;

	if (fstatat(dir_fd, name, &found, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : path_error(pack, -errno, "read", err);
	if (S_ISREG(found.st_mode))
		return pack_file(pack, dir_fd, name, err);
	if (S_ISLNK(found.st_mode))
		return pack_link(pack, dir_fd, name, &found, err);
	if (!S_ISDIR(found.st_mode))
		return 0;

	r = write_header(pack, &found, NULL, err);
	if (r < 0)
		return r;
	fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return path_error(pack, -errno, "read the folder", err);
	return pack_below(pack, fd, depth + 1, err);
}

/* Packs everything in the folder dir_fd, whose path is pack->path. */
static int pack_below(struct pack *pack, int dir_fd, unsigned depth, struct error *err)
{
	cleanup_(folder_list_freep) char **names = NULL;
	size_t used = strlen(pack->path);
	int r;

	if (depth > FOLDER_DEPTH_MAX)
		return path_error(pack, -ELOOP, "read the folder", err);
	r = folder_list(&names, dir_fd, FILES_MAX - pack->files, err);
	if (r < 0)
		return r;

	for (char **name = names; *name; name++) {
		size_t length = strlen(*name);

		if (used + length + 2 > sizeof(pack->path))
			return path_error(pack, -ENAMETOOLONG, "read the folder", err);
		if (used > 0)
			pack->path[used] = '/';
		memcpy(pack->path + used + (used > 0), *name, length + 1);
		r = pack_name(pack, dir_fd, *name, depth, err);
		pack->path[used] = '\0';
		if (r < 0)
			return r;
	}
	return 0;
}

/* Packs one of the caller's names. */
static int pack_top(struct pack *pack, int dir_fd, const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX] = "";
	close_ int fd = -1;
	const char *name = slash ? slash + 1 : path;
	int r;

	pack->path[0] = '\0';
	if (strcmp(path, ".") == 0) {
		r = folder_open(&fd, dir_fd, "", err);
		return r < 0 ? r : pack_below(pack, fd, 0, err);
	}
	if (strlen(path) >= sizeof(folder))
		return error_set(err, -ENAMETOOLONG, "a name to pack is too long");
	memcpy(pack->path, path, strlen(path) + 1);
	if (!*name || strcmp(name, "..") == 0)
		return path_error(pack, -EINVAL, "pack", err);
	if (slash)
		memcpy(folder, path, (size_t)(slash - path));
	r = folder_open(&fd, dir_fd, folder, err);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	return pack_name(pack, fd, name, 0, err);
}

static int open_writer(struct pack *pack, struct error *err)
{
	if (archive_write_set_format_pax_restricted(pack->archive) < ARCHIVE_WARN ||
	    archive_write_set_bytes_per_block(pack->archive, BLOCK_SIZE) < ARCHIVE_WARN ||
	    archive_write_set_bytes_in_last_block(pack->archive, 1) < ARCHIVE_WARN ||
	    archive_write_open(pack->archive, pack, NULL, write_out, NULL) < ARCHIVE_WARN)
		return archive_fault(pack, err);
	return 0;
}

int archive_pack(int out_fd, int dir_fd, const char *const *names, struct error *err)
{
	return archive_pack_members(out_fd, dir_fd, names, NULL, 0, err);
}

int archive_pack_members(int out_fd, int dir_fd, const char *const *names,
			 const struct archive_member *members, size_t n_members, struct error *err)
{
	free_ struct pack *pack = calloc(1, sizeof(*pack));
	cleanup_(archive_write_freep) struct archive *archive = archive_write_new();
	utf8_ struct utf8_scope scope = utf8_enter();
	int r;

	if (!archive || !pack)
		return error_oom(err);
	pack->archive = archive;
	pack->out_fd = out_fd;
	r = open_writer(pack, err);
	for (; r == 0 && *names; names++)
		r = pack_top(pack, dir_fd, *names, err);
	for (size_t i = 0; r == 0 && i < n_members; i++)
		r = pack_member(pack, &members[i], err);
	if (r == 0 && archive_write_close(archive) < ARCHIVE_WARN)
		r = archive_fault(pack, err);
	/*
	 * Freeing the writer finishes the archive, and half of one would look whole. (After
	 * archive_write_fail() libarchive 3.6 leaks its buffer.)
	 */
	pack->failed = true;
	return r;
}

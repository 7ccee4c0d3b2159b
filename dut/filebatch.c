/* SPDX-License-Identifier: MIT */
#include "dut/filebatch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "dut/reserve.h"

enum { NAME_SIZE = 48, NO_ENTRY = -1 };

struct entry {
	const void *owner;
	int fd;		      /* written, not synced; -1 for a folder that is borrowed */
	int dir_fd;	      /* where a name has changed or is to change; -1: nowhere */
	char name[NAME_SIZE]; /* that a temporary file is to get; empty: it has its name */
	int newer;	      /* the entry that has taken its place, or NO_ENTRY */
	int r;
	struct error err;
};

struct filebatch {
	int state_fd;
	const void *owner;
	struct entry *entries;
	int count;
};

struct filebatch *filebatch_free(struct filebatch *files)
{
	if (!files)
		return NULL;
	for (int i = 0; i < files->count; i++)
		(void)close_fd(files->entries[i].fd);
	free(files->entries);
	free(files);
	return NULL;
}

int filebatch_new(struct filebatch **ret, int state_fd, struct error *err)
{
	struct filebatch *files = calloc(1, sizeof(*files));

	if (!files)
		return error_oom(err);
	files->state_fd = state_fd;
	*ret = files;
	return 0;
}

void filebatch_set_owner(struct filebatch *files, const void *owner)
{
	files->owner = owner;
}

/* Its place, or a negative code. */
static int add_entry(struct filebatch *files, struct error *err)
{
	struct entry *grown =
		reallocarray(files->entries, (size_t)files->count + 1, sizeof(*grown));

	if (!grown)
		return error_oom(err);
	files->entries = grown;
	grown[files->count] = (struct entry){
		.owner = files->owner,
		.fd = -1,
		.dir_fd = -1,
		.newer = NO_ENTRY,
	};
	return files->count++;
}

/* ---- writing ---- */

static void temporary_name(char text[static NAME_SIZE + 8], const char *name)
{
	(void)snprintf(text, NAME_SIZE + 8, ".%s.tmp", name);
}

/* The disk begins with it at once, so that the syncs that follow find little to do. */
static int write_file(int *ret_fd, int dir_fd, const char *name, const char *text, size_t length,
		      mode_t mode, struct error *err)
{
	close_ int fd =
		openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return error_errno(err, "cannot create %s", name);
	r = file_write_all(fd, text, length, err);
	if (r < 0)
		return error_prefix(err, r, "%s", name);
	if (fchmod(fd, mode) < 0)
		return error_errno(err, "cannot set the mode of %s", name);
	(void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int write_temporary(const struct filebatch *files, bool reserved, int *ret_fd, int dir_fd,
			   const char *name, const char *text, size_t length, mode_t mode,
			   struct error *err)
{
	int r;

	do {
		/* One that is there was left by a crash, or by the try before. */
		if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
			return error_errno(err, "cannot unlink %s", name);
		r = write_file(ret_fd, dir_fd, name, text, length, mode, err);
	} while ((r == -ENOSPC || r == -EDQUOT) && reserved && reserve_give_up(files->state_fd));
	if (r < 0)
		(void)unlinkat(dir_fd, name, 0);
	return r;
}

static void replace_older(struct filebatch *files, int newest)
{
	const struct entry *newer = &files->entries[newest];

	for (int i = 0; i < newest; i++) {
		struct entry *entry = &files->entries[i];

		if (entry->newer == NO_ENTRY && entry->dir_fd == newer->dir_fd && entry->name[0] &&
		    strcmp(entry->name, newer->name) == 0) {
			entry->newer = newest;
			entry->fd = close_fd(entry->fd);
		}
	}
}

int filebatch_write(struct filebatch *files, enum filebatch_kind kind, int dir_fd, const char *name,
		    const char *text, size_t length, mode_t mode, struct error *err)
{
	char temporary[NAME_SIZE + 8];
	struct entry *entry;
	int r;

	if (strlen(name) >= NAME_SIZE)
		return error_set(err, -ENAMETOOLONG, "the name %.64s... is too long", name);
	r = add_entry(files, err);
	if (r < 0)
		return r;
	entry = &files->entries[r];
	if (kind == FILEBATCH_NEW)
		return write_file(&entry->fd, dir_fd, name, text, length, mode, err);
	entry->dir_fd = dir_fd;
	(void)snprintf(entry->name, sizeof(entry->name), "%s", name);
	replace_older(files, files->count - 1);
	temporary_name(temporary, name);
	entry->r = write_temporary(files, kind == FILEBATCH_RESERVED, &entry->fd, dir_fd, temporary,
				   text, length, mode, &entry->err);
	if (entry->r < 0)
		return error_set(err, entry->r, "%s", entry->err.text);
	return 0;
}

int filebatch_add(struct filebatch *files, int fd, struct error *err)
{
	int r = add_entry(files, err);

	if (r < 0) {
		(void)close_fd(fd);
		return r;
	}
	files->entries[r].fd = fd;
	return 0;
}

int filebatch_touch(struct filebatch *files, int dir_fd, struct error *err)
{
	int r = add_entry(files, err);

	if (r < 0)
		return r;
	files->entries[r].dir_fd = dir_fd;
	return 0;
}

/* ---- the disk ---- */

static bool is_current(const struct entry *entry)
{
	return entry->newer == NO_ENTRY && entry->r >= 0;
}

/* Makes changed names in this folder survive a crash. */
static int sync_folder(int dir_fd, struct error *err)
{
	close_ int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return error_errno(err, "cannot sync the folder");
	return 0;
}

static void give_name(struct entry *entry)
{
	char temporary[NAME_SIZE + 8];

	temporary_name(temporary, entry->name);
	if (entry->r >= 0 && renameat(entry->dir_fd, temporary, entry->dir_fd, entry->name) < 0)
		entry->r = error_errno(&entry->err, "cannot rename %s", temporary);
	if (entry->r < 0)
		(void)unlinkat(entry->dir_fd, temporary, 0);
}

/* Each folder once: what it says holds for all whose names are in it. */
static void sync_folders(struct filebatch *files)
{
	for (int i = 0; i < files->count; i++) {
		struct entry *entry = &files->entries[i];
		bool synced = false;

		if (!is_current(entry) || entry->dir_fd < 0)
			continue;
		for (int j = 0; j < i && !synced; j++) {
			const struct entry *other = &files->entries[j];

			if (other->dir_fd != entry->dir_fd || other->newer != NO_ENTRY)
				continue;
			synced = other->r >= 0;
		}
		if (!synced)
			entry->r = sync_folder(entry->dir_fd, &entry->err);
	}
}

void filebatch_sync(struct filebatch *files)
{
	for (int i = 0; i < files->count; i++) {
		struct entry *entry = &files->entries[i];

		if (is_current(entry) && entry->fd >= 0 && fsync(entry->fd) < 0)
			entry->r = error_errno(&entry->err, "cannot sync %s",
					       entry->name[0] ? entry->name : "a job's files");
		entry->fd = close_fd(entry->fd);
	}
	for (int i = 0; i < files->count; i++)
		if (files->entries[i].newer == NO_ENTRY && files->entries[i].name[0])
			give_name(&files->entries[i]);
	sync_folders(files);
}

int filebatch_result(const struct filebatch *files, const void *owner, struct error *err)
{
	for (int i = 0; i < files->count; i++) {
		const struct entry *entry = &files->entries[i];

		if (entry->owner != owner)
			continue;
		while (entry->newer != NO_ENTRY)
			entry = &files->entries[entry->newer];
		if (entry->r < 0)
			return error_set(err, entry->r, "%s", entry->err.text);
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/archive.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "tests/fuzz/fuzz.h"

/*
 * A submitter's tarball (and the results that a daemon sends): what is unpacked is looked at from
 * outside, and a file beside the folder stays as it was.
 */

enum { MAX_BYTES = 1 << 16, MAX_FILES = 20, WALK_FDS = 16 };

static struct {
	char folder[PATH_MAX];
	uint64_t bytes, files;
} seen;

static int look(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	char target[PATH_MAX];
	size_t length = strlen(seen.folder);

	(void)type;
	if (ftw->level == 0)
		return 0;
	seen.files++;
	assert(S_ISREG(status->st_mode) || S_ISDIR(status->st_mode) || S_ISLNK(status->st_mode));
	assert((status->st_mode & 07022) == 0 || S_ISLNK(status->st_mode));
	if (S_ISREG(status->st_mode))
		seen.bytes += (uint64_t)status->st_size;
	/* Where a link leads to something, that is inside. */
	if (S_ISLNK(status->st_mode) && realpath(path, target))
		assert(strncmp(target, seen.folder, length) == 0 &&
		       (target[length] == '/' || target[length] == '\0'));
	return 0;
}

static void walk(void)
{
	seen.bytes = seen.files = 0;
	assert(nftw(seen.folder, look, WALK_FDS, FTW_PHYS) == 0);
}

static void check_outside(void)
{
	close_ int fd = -1;
	free_ char *text = NULL;
	struct stat status;
	size_t length;

	fd = openat(fuzz_folder_fd(), "secret", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	assert(fd >= 0 && fstat(fd, &status) == 0 && status.st_nlink == 1);
	assert(file_read_fd(&text, &length, fd, 100, NULL) == 0 && strcmp(text, "secret") == 0);
	assert(unlinkat(fuzz_folder_fd(), "secret", 0) == 0);
	assert(folder_clear(fuzz_folder_fd(), NULL) == 0);
}

static int unpack(int fd, int dir_fd, enum archive_target target)
{
	const struct archive_unpack_options options = {
		.target = target,
		.max_bytes = MAX_BYTES,
		.max_files = MAX_FILES,
	};
	uint64_t bytes = UINT64_MAX;
	struct error err = { "" };
	int r = archive_unpack(fd, dir_fd, &options, &bytes, &err);

	if (r < 0)
		assert(err.text[0]);
	else
		assert(bytes <= MAX_BYTES);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	close_ int fd = fuzz_file(data, size), dir_fd = -1;
	int r;

	fuzz_begin();
	fuzz_write("secret", "secret", 6);
	assert(file_make_dir(&dir_fd, fuzz_folder_fd(), "in", 0700, NULL) == 0);
	(void)snprintf(seen.folder, sizeof(seen.folder), "%s/in", fuzz_folder());
	r = unpack(fd, dir_fd, ARCHIVE_INTO_EMPTY);
	walk();
	/* Refused means that nothing is there. */
	assert(r == 0 || seen.files == 0);
	/* Hard links count their file again. */
	assert(seen.files <= MAX_FILES && seen.bytes <= (uint64_t)MAX_BYTES * MAX_FILES);
	assert(archive_has(fd, "a/b", NULL) <= 1);
	if (r == 0)
		assert(unpack(fd, dir_fd, ARCHIVE_REPLACE_FILES) == 0);
	else
		(void)unpack(fd, dir_fd, ARCHIVE_REPLACE_FILES);
	walk();
	check_outside();
	return 0;
}

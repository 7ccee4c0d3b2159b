/* SPDX-License-Identifier: MIT */
#include "base/folder.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/text.h"

enum { TEXT_MAX = 120 }; /* bytes of a name in an error text */

static const char *printable(char buffer[static TEXT_MAX], const char *name)
{
	return text_escape(buffer, TEXT_MAX, name, strlen(name));
}

/* Goes one folder down; takes dir_fd's place. */
static int step(int *dir_fd, const char *name, uint64_t *made, struct error *err)
{
	int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	close_ int fd = openat(*dir_fd, name, flags);
	char text[TEXT_MAX];

	if (fd < 0 && errno == ENOENT && made) {
		if (mkdirat(*dir_fd, name, 0755) < 0 && errno != EEXIST)
			return error_errno(err, "cannot make the folder '%s'",
					   printable(text, name));
		*made += 1;
		fd = openat(*dir_fd, name, flags);
	}
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return error_set(err, -ENOTDIR, "'%s' is no folder", printable(text, name));
	if (fd < 0)
		return error_errno(err, "cannot open the folder '%s'", printable(text, name));

	(void)close_fd(*dir_fd);
	*dir_fd = take_fd(&fd);
	return 0;
}

static int walk(int *ret_fd, int dir_fd, const char *path, uint64_t *made, struct error *err)
{
	close_ int fd = openat(dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return error_errno(err, "cannot open the folder");

	while (*path) {
		size_t length = strcspn(path, "/");
		char name[NAME_MAX + 1];

		if (length == 0 || length > NAME_MAX)
			return error_set(err, -EINVAL, "a path with a name of %zu bytes", length);
		memcpy(name, path, length);
		name[length] = '\0';
		if (strcmp(name, "..") == 0)
			return error_set(err, -EINVAL, "a path with '..'");
		r = step(&fd, name, made, err);
		if (r < 0)
			return r;
		path += length;
		path += *path == '/';
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int folder_open(int *ret_fd, int dir_fd, const char *path, struct error *err)
{
	return walk(ret_fd, dir_fd, path, NULL, err);
}

int folder_make(int *ret_fd, int dir_fd, const char *path, uint64_t *made, struct error *err)
{
	return walk(ret_fd, dir_fd, path, made, err);
}

static int open_dir(DIR **ret, int dir_fd, const char *name, struct error *err)
{
	close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char text[TEXT_MAX];
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		return error_errno(err, "cannot open the folder '%s'", printable(text, name));
	(void)take_fd(&fd);
	*ret = dir;
	return 0;
}

/* The next name that is neither "." nor ".."; 0 at the end. */
static int next_name(DIR *dir, const char **ret, struct error *err)
{
	const struct dirent *found;

	do {
		errno = 0;
		found = readdir(dir);
	} while (found && (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0));
	if (!found && errno)
		return error_errno(err, "cannot read a folder");
	*ret = found ? found->d_name : NULL;
	return found ? 1 : 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **folder_list_free(char **names)
{
	for (char **name = names; name && *name; name++)
		free(*name);
	free(names);
	return NULL;
}

int folder_list(char ***ret, int dir_fd, uint64_t max, struct error *err)
{
	cleanup_(folder_list_freep) char **names = NULL;
	closedir_ DIR *dir = NULL;
	size_t count = 0, room = 0;
	const char *name = NULL;
	int r = open_dir(&dir, dir_fd, ".", err);

	if (r < 0)
		return r;
	assert(dir);
	names = calloc(1, sizeof(*names));
	if (!names)
		return error_oom(err);

	while ((r = next_name(dir, &name, err)) > 0) {
		if (count >= max)
			return error_set(err, -E2BIG, "more than %llu names in a folder",
					 (unsigned long long)max);
		if (count + 1 >= room) {
			char **more;

			room = room * 2 + 64;
			more = reallocarray(names, room, sizeof(*names));
			if (!more)
				return error_oom(err);
			names = more;
		}
		names[count] = strdup(name);
		if (!names[count])
			return error_oom(err);
		names[++count] = NULL;
	}
	if (r < 0)
		return r;
	qsort(names, count, sizeof(*names), compare_names);
	*ret = take_ptr(names);
	return 0;
}

int folder_is_empty(int dir_fd, struct error *err)
{
	closedir_ DIR *dir = NULL;
	const char *name = NULL;
	int r = open_dir(&dir, dir_fd, ".", err);

	if (r < 0)
		return r;
	assert(dir);
	r = next_name(dir, &name, err);
	return r < 0 ? r : !r;
}

struct clearing {
	int top_fd;
	unsigned long long moved; /* folders, to the top */
};

/* A folder whose owner, who may be us, has shut it. */
static int open_shut_dir(DIR **ret, int dir_fd, const char *name, struct error *err)
{
	close_ int fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd >= 0)
		(void)chmod(path, S_IRWXU);
	return open_dir(ret, dir_fd, name, err);
}

/* Moves a folder that lies too deep to where it does not. */
static int move_to_top(struct clearing *clearing, int dir_fd, const char *name, struct error *err)
{
	char text[TEXT_MAX], to[32];

	do {
		(void)snprintf(to, sizeof(to), ".deep-%llu", clearing->moved++);
		if (renameat(dir_fd, name, clearing->top_fd, to) == 0)
			return 0;
	} while (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR);
	return error_errno(err, "cannot move the folder '%s'", printable(text, name));
}

static int clear_below(struct clearing *clearing, int dir_fd, const char *name, unsigned depth,
		       struct error *err);

/* One name of a folder. */
static int clear_name(struct clearing *clearing, int dir_fd, const char *name, unsigned depth,
		      struct error *err)
{
	char text[TEXT_MAX];
	int r;

	if (unlinkat(dir_fd, name, 0) == 0)
		return 0;
	if (errno == EACCES && fchmod(dir_fd, S_IRWXU) == 0 && unlinkat(dir_fd, name, 0) == 0)
		return 0;
	if (errno != EISDIR)
		return error_errno(err, "cannot remove '%s'", printable(text, name));
	if (depth == FOLDER_DEPTH_MAX)
		return move_to_top(clearing, dir_fd, name, err);
	r = clear_below(clearing, dir_fd, name, depth + 1, err);
	if (r >= 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
		r = error_errno(err, "cannot remove the folder '%s'", printable(text, name));
	return r;
}

static int clear_below(struct clearing *clearing, int dir_fd, const char *name, unsigned depth,
		       struct error *err)
{
	closedir_ DIR *dir = NULL;
	const char *inner = NULL;
	int r;

	r = open_dir(&dir, dir_fd, name, err);
	if (r == -EACCES)
		r = open_shut_dir(&dir, dir_fd, name, err);
	if (r < 0)
		return r;
	assert(dir);
	while ((r = next_name(dir, &inner, err)) > 0) {
		assert(inner);
		r = clear_name(clearing, dirfd(dir), inner, depth, err);
		if (r < 0)
			return r;
	}
	return r;
}

int folder_clear(int dir_fd, struct error *err)
{
	struct clearing clearing = { .top_fd = dir_fd };
	unsigned long long before;
	int r;

	do {
		before = clearing.moved;
		r = clear_below(&clearing, dir_fd, ".", 0, err);
	} while (r >= 0 && clearing.moved > before);
	return r;
}

static uint64_t size_below(int dir_fd, const char *name, unsigned depth)
{
	closedir_ DIR *dir = NULL;
	const char *inner = NULL;
	uint64_t size = 0;

	if (open_dir(&dir, dir_fd, name, NULL) < 0 || !dir)
		return 0;
	while (next_name(dir, &inner, NULL) > 0 && inner) {
		struct stat status;

		if (fstatat(dirfd(dir), inner, &status, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		size += (uint64_t)status.st_blocks * 512;
		if (S_ISDIR(status.st_mode) && depth < FOLDER_DEPTH_MAX)
			size += size_below(dirfd(dir), inner, depth + 1);
	}
	return size;
}

uint64_t folder_size(int dir_fd)
{
	return size_below(dir_fd, ".", 0);
}

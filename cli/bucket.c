/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/archive.h"
#include "base/cleanup.h"
#include "cli/bucket.h"

/* Whether it is a path of names only: "a/b.bin". */
static bool is_inner_path(const char *path, size_t length)
{
	while (length > 0) {
		size_t name = 0;

		while (name < length && path[name] != '/')
			name++;
		if (name == 0 || (name == 1 && path[0] == '.') ||
		    (name == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		path += name;
		length -= name;
		if (length == 1)
			return false;
		path += length > 0;
		length -= length > 0;
	}
	return true;
}

static int open_source(struct bucket *bucket)
{
	struct stat found;
	close_ int fd = open(bucket->source, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &found) < 0)
		return say_exit(EXIT_DATA, "cannot read the bucket '%s': %s", bucket->source,
				strerror(errno));
	if (S_ISDIR(found.st_mode)) {
		bucket->dir_fd = take_fd(&fd);
		return 0;
	}
	if (!S_ISREG(found.st_mode))
		return say_exit(EXIT_DATA, "the bucket '%s' is neither a folder nor a tar file",
				bucket->source);
	if (bucket->files.count > 0)
		return say_exit(EXIT_USAGE, "run: --file goes with a --bucket that is a folder, "
					    "not with a tar");
	bucket->tar_size = (uint64_t)found.st_size;
	bucket->tar_fd = take_fd(&fd);
	return 0;
}

/* A name is there once: neither twice in --file nor also in the folder. */
static int check_name(const struct bucket *bucket, const char *name)
{
	for (size_t i = 0; i < bucket->n_members; i++)
		if (strcmp(bucket->members[i].name, name) == 0)
			return say_exit(EXIT_USAGE, "run: --file %s is given twice", name);
	if (bucket->dir_fd >= 0 && faccessat(bucket->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return say_exit(EXIT_USAGE, "run: --file %s: the bucket has a file of that name",
				name);
	return 0;
}

/* NAME=PATH as a member of the tar. 0, or the exit code (said). */
static int open_member(struct bucket *bucket, const char *item)
{
	size_t length = strcspn(item, "=");
	const char *path = item + length + 1;
	free_ char *name = NULL;
	struct stat found;
	close_ int fd = -1;
	int code;

	if (item[length] != '=' || length == 0 || !*path || !is_inner_path(item, length))
		return say_exit(EXIT_USAGE, "run: --file '%.80s' is not NAME=PATH", item);
	name = strndup(item, length);
	if (!name)
		return say_exit(EXIT_INTERNAL, "out of memory");
	code = check_name(bucket, name);
	if (code != 0)
		return code;
	fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &found) < 0)
		return say_exit(EXIT_DATA, "cannot read '%s': %s", path, strerror(errno));
	if (!S_ISREG(found.st_mode))
		return say_exit(EXIT_DATA, "'%s' is no regular file", path);
	bucket->members[bucket->n_members++] =
		(struct archive_member){ .name = take_ptr(name), .fd = take_fd(&fd) };
	return 0;
}

int bucket_open(struct bucket *bucket)
{
	int code = bucket->source ? open_source(bucket) : 0;

	bucket->n_members = 0;
	bucket->members = calloc(bucket->files.count + 1, sizeof(*bucket->members));
	if (!bucket->members)
		return say_exit(EXIT_INTERNAL, "out of memory");
	for (size_t i = 0; i < bucket->files.count && code == 0; i++)
		code = open_member(bucket, bucket->files.items[i]);
	return code;
}

void bucket_done(struct bucket *bucket)
{
	for (size_t i = 0; i < bucket->n_members; i++) {
		(void)close_fd(bucket->members[i].fd);
		free(bucket->members[i].name);
	}
	free(bucket->members);
	option_list_done(&bucket->files);
	bucket->dir_fd = close_fd(bucket->dir_fd);
	bucket->tar_fd = close_fd(bucket->tar_fd);
}

/* 1 when it is there, 0 when not. */
static int has(const struct bucket *bucket, const char *path, struct error *err)
{
	for (size_t i = 0; i < bucket->n_members; i++)
		if (strcmp(bucket->members[i].name, path) == 0)
			return 1;
	if (bucket->tar_fd >= 0)
		return archive_has(bucket->tar_fd, path, err);
	if (bucket->dir_fd < 0 || *path == '/')
		return 0;
	return faccessat(bucket->dir_fd, path, F_OK, 0) == 0;
}

int bucket_check(const struct bucket *bucket, const json_t *paths, const char *job_path)
{
	const json_t *item;
	int code = 0;
	size_t i;

	json_array_foreach(paths, i, item) {
		const char *path = json_string_value(item);
		struct error err;
		int r = path ? has(bucket, path, &err) : 1;

		if (r < 0)
			return say_exit(EXIT_DATA, "the bucket '%s': %s", bucket->source, err.text);
		if (r == 0)
			code = say_exit(EXIT_DATA,
					"%s wants bucket:%s, which is not in the bucket; see "
					"--bucket and --file",
					job_path, path);
	}
	return code;
}

/* A file without a name, so that nothing is left of it whatever happens. */
static int open_temporary(int *ret_fd)
{
	const char *folder = getenv("TMPDIR");
	char path[] = "/var/tmp/dut-XXXXXX";
	close_ int fd = -1;

	if (!folder || !*folder)
		folder = "/var/tmp";
	fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			(void)unlink(path);
	}
	if (fd < 0)
		return say_exit(EXIT_LAB, "no temporary file in '%s': %s", folder, strerror(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

int bucket_pack(struct bucket *bucket)
{
	static const char *const everything[] = { ".", NULL }, *const nothing[] = { NULL };
	close_ int fd = -1;
	struct stat found;
	struct error err;
	int code, r;

	if (bucket->tar_fd >= 0 || (bucket->dir_fd < 0 && bucket->n_members == 0))
		return 0;
	code = open_temporary(&fd);
	if (code != 0)
		return code;
	r = archive_pack_members(fd, bucket->dir_fd, bucket->dir_fd >= 0 ? everything : nothing,
				 bucket->members, bucket->n_members, &err);
	if (r >= 0 && fstat(fd, &found) < 0)
		r = error_errno(&err, "the tar");
	if (r < 0)
		return say_exit(r == -ENOMEM ? EXIT_INTERNAL : EXIT_LAB,
				"cannot pack the bucket: %s", err.text);
	bucket->tar_size = (uint64_t)found.st_size;
	bucket->tar_fd = take_fd(&fd);
	return 0;
}

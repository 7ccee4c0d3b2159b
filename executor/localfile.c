/* SPDX-License-Identifier: MIT */
#include "executor/localfile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "executor/fileurl.h"

enum {
	COPY_SIZE = 262144,
	TEXT_MAX = 160, /* bytes of a path in an error text */
};

/* O_NONBLOCK: opening a fifo must not wait for a writer. */
static const int open_flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

static const char *printable(char buffer[static TEXT_MAX], const char *path)
{
	return text_escape(buffer, TEXT_MAX, path, strlen(path));
}

static int open_beneath(const char *root, const char *rest)
{
	struct open_how how = {
		.flags = (uint64_t)open_flags,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	close_ int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return root_fd < 0 ? -1 : (int)syscall(SYS_openat2, root_fd, rest, &how, sizeof(how));
}

static int open_path(int *ret_fd, const char *path, const json_t *roots, struct error *err)
{
	char text[TEXT_MAX];
	const json_t *root;
	bool inside = false;
	size_t i;
	int fd = -1;

	if (!roots) {
		fd = open(path, open_flags);
		inside = true;
	}
	/* clang-format off */
	json_array_foreach(roots, i, root) {
		const char *rest = fileurl_beneath(path, json_string_value(root));

		if (!rest || fd >= 0)
			continue;
		fd = open_beneath(json_string_value(root), rest);
		inside = inside || fd >= 0 || errno != EXDEV;
	}
	/* clang-format on */
	if (fd < 0 && !inside)
		return error_set(err, -EACCES, "file:%s lies outside of api.file_roots",
				 printable(text, path));
	if (fd < 0)
		return error_errno(err, "file:%s", printable(text, path));
	*ret_fd = fd;
	return 0;
}

int localfile_open(int *ret_fd, const char *url, const json_t *roots, struct error *err)
{
	free_ char *path = fileurl_path(url);
	close_ int fd = -1;
	char text[TEXT_MAX];
	struct stat found;
	int r;

	if (!path)
		return error_set(err, -EINVAL, "'%s' is no URL of the form file:///PATH",
				 printable(text, url));
	r = open_path(&fd, path, roots, err);
	if (r < 0)
		return r;
	if (fstat(fd, &found) < 0)
		return error_errno(err, "file:%s", printable(text, path));
	if (!S_ISREG(found.st_mode))
		return error_set(err, -EINVAL, "file:%s is no regular file", printable(text, path));
	*ret_fd = take_fd(&fd);
	return 0;
}

int localfile_copy(int fd, struct sink *sink, struct error *err)
{
	free_ char *block = malloc(COPY_SIZE);
	off_t offset = 0;

	if (!block)
		return error_oom(err);
	for (;;) {
		ssize_t n = pread(fd, block, COPY_SIZE, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, "cannot read the file");
		if (n == 0)
			return 0;
		if (sink_write(sink, block, (size_t)n) < 0)
			return error_set(err, sink->r, "%s", sink->error.text);
		offset += n;
	}
}

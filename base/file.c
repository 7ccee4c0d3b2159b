/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
	MIN_READ = 4096,      /* bytes of the first buffer of a file whose size is not known */
	MAX_OPEN_TRIES = 100, /* while a rename in the way makes openat2() ask for another try */
};

int file_write_all(int fd, const void *data, size_t length, struct error *err)
{
	const char *at = data;

	while (length > 0) {
		ssize_t n = write(fd, at, length);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return error_errno(err, "cannot write");
		}
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

int file_append(int fd, const void *data, size_t length, struct error *err)
{
	ssize_t n = write(fd, data, length);
	struct stat status;

	if (n == (ssize_t)length)
		return 0;
	if (n < 0)
		return error_errno(err, "cannot append");
	if (fstat(fd, &status) < 0 || ftruncate(fd, status.st_size - n) < 0)
		return error_errno(err, "cannot cut off %zd bytes that were appended", n);
	return error_set(err, -ENOSPC, "cannot append: %s", strerror(ENOSPC));
}

static int open_beneath(int dir_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (unsigned)(flags | O_CLOEXEC | O_NOCTTY),
		.mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? 0600 : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	for (unsigned tries = 0;; tries++) {
		long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

		if (fd >= 0)
			return (int)fd;
		if ((errno != EAGAIN && errno != EINTR) || tries == MAX_OPEN_TRIES)
			return -1;
	}
}

int file_open_beneath(int *ret_fd, int dir_fd, const char *path, int flags, struct error *err)
{
	bool any_kind = flags & (O_DIRECTORY | O_PATH);
	close_ int fd = -1;
	struct stat status;

	/* O_NONBLOCK, because to open a fifo waits for its other end. */
	fd = open_beneath(dir_fd, path, any_kind ? flags : flags | O_NONBLOCK);
	if (fd < 0)
		return error_errno(err, "cannot open %s", path);
	if (!any_kind) {
		if (fstat(fd, &status) < 0)
			return error_errno(err, "cannot read %s", path);
		if (!S_ISREG(status.st_mode))
			return error_set(err, -EINVAL, "%s is not a regular file", path);
		if (!(flags & O_NONBLOCK) &&
		    fcntl(fd, F_SETFL, flags & (O_APPEND | O_DIRECT | O_NOATIME)) < 0)
			return error_errno(err, "cannot open %s", path);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Reads to the end; the first buffer is made for expected bytes. */
static int read_to_end(char **ret, size_t *ret_length, int fd, size_t expected, size_t max,
		       struct error *err)
{
	size_t size = expected, length = 0;
	free_ char *buffer = NULL;

	for (;;) {
		ssize_t n;

		if (!buffer || length > size) {
			char *bigger;

			/* One more than is kept tells a file that is too long; that place is the
			 * terminator's as well. */
			if (buffer)
				size = size < MIN_READ ? MIN_READ : size * 2;
			if (size > max)
				size = max;
			bigger = realloc(buffer, size + 1);
			if (!bigger)
				return error_oom(err);
			buffer = bigger;
		}
		n = read(fd, buffer + length, size + 1 - length);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return error_errno(err, "cannot read");
		}
		if (n == 0)
			break;
		length += (size_t)n;
		if (length > max)
			return error_set(err, -EFBIG, "longer than %zu bytes", max);
	}
	buffer[length] = '\0';
	if (ret_length)
		*ret_length = length;
	*ret = take_ptr(buffer);
	return 0;
}

int file_read_fd(char **ret, size_t *ret_length, int fd, size_t max, struct error *err)
{
	return read_to_end(ret, ret_length, fd, MIN_READ, max, err);
}

int file_read_beneath(char **ret, size_t *ret_length, int dir_fd, const char *path, size_t max,
		      struct error *err)
{
	close_ int fd = -1;
	struct stat status;
	int r;

	r = file_open_beneath(&fd, dir_fd, path, O_RDONLY, err);
	if (r < 0)
		return r;
	if (fstat(fd, &status) < 0)
		return error_errno(err, "cannot read %s", path);
	r = read_to_end(ret, ret_length, fd, (size_t)status.st_size, max, err);
	return r < 0 ? error_prefix(err, r, "%s", path) : 0;
}

/* Makes a rename in this folder survive a crash. dir_fd may be an O_PATH fd, which cannot be
 * synced. */
static int sync_dir(int dir_fd, struct error *err)
{
	close_ int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return error_errno(err, "cannot sync the folder");
	return 0;
}

static int write_synced(int dir_fd, const char *name, const void *data, size_t length, mode_t mode,
			struct error *err)
{
	close_ int fd = -1;
	int r;

	/* One that is there was left by a crash. */
	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return error_errno(err, "cannot unlink %s", name);
	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_errno(err, "cannot create %s", name);
	r = file_write_all(fd, data, length, err);
	if (r < 0)
		return error_prefix(err, r, "%s", name);
	if (fchmod(fd, mode) < 0)
		return error_errno(err, "cannot set the mode of %s", name);
	if (fsync(fd) < 0)
		return error_errno(err, "cannot sync %s", name);
	return 0;
}

int file_replace(int dir_fd, const char *name, const void *data, size_t length, mode_t mode,
		 struct error *err)
{
	char temporary[NAME_MAX + 1];
	int r;

	if (snprintf(temporary, sizeof(temporary), ".%s.tmp", name) >= (int)sizeof(temporary))
		return error_set(err, -ENAMETOOLONG, "the name %.64s... is too long", name);
	r = write_synced(dir_fd, temporary, data, length, mode, err);
	if (r == 0 && renameat(dir_fd, temporary, dir_fd, name) < 0)
		r = error_errno(err, "cannot rename %s to %s", temporary, name);
	if (r < 0) {
		(void)unlinkat(dir_fd, temporary, 0);
		return r;
	}
	return sync_dir(dir_fd, err);
}

/* The mode that was asked for, whatever the umask. By the fd: who is in a sandbox has no other way.
 */
static int set_dir_mode(int dir_fd, const char *name, mode_t mode)
{
	close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -1 : fchmod(fd, mode);
}

/* Goes one folder down, making it when it is not there. */
static int enter_dir(int *fd, const char *name, mode_t mode, struct error *err)
{
	bool made = mkdirat(*fd, name, mode) == 0;
	int next;

	if (!made && errno != EEXIST)
		return error_errno(err, "cannot make the folder %s", name);
	if (made && set_dir_mode(*fd, name, mode) < 0)
		return error_errno(err, "cannot set the mode of the folder %s", name);
	/* O_PATH: a parent may be one that we can enter but not read. */
	next = openat(*fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (next < 0)
		return error_errno(err, "cannot enter the folder %s", name);
	(void)close(*fd);
	*fd = next;
	return 0;
}

int file_make_dir(int *ret_fd, int dir_fd, const char *path, mode_t mode, struct error *err)
{
	const char *top = path[0] == '/' ? "/" : ".";
	close_ int fd = openat(dir_fd, top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free_ char *copy = strdup(path);
	char *rest = NULL;
	int readable;

	if (fd < 0)
		return error_errno(err, "cannot open the folder above %s", path);
	if (!copy)
		return error_oom(err);
	for (char *name = strtok_r(copy, "/", &rest); name; name = strtok_r(NULL, "/", &rest)) {
		int r = enter_dir(&fd, name, mode, err);

		if (r < 0)
			return error_prefix(err, r, "%s", path);
	}
	readable = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (readable < 0)
		return error_errno(err, "cannot open the folder %s", path);
	*ret_fd = readable;
	return 0;
}

static int make_address(struct sockaddr_un *address, int dir_fd, const char *name,
			struct error *err)
{
	int length;

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (dir_fd == AT_FDCWD || name[0] == '/')
		length = snprintf(address->sun_path, sizeof(address->sun_path), "%s", name);
	else
		length = snprintf(address->sun_path, sizeof(address->sun_path),
				  "/proc/self/fd/%d/%s", dir_fd, name);
	if (length >= (int)sizeof(address->sun_path))
		return error_set(err, -ENAMETOOLONG, "the socket's name %.64s... is too long",
				 name);
	return 0;
}

int file_bind_socket(int *ret_fd, int dir_fd, const char *name, int type, mode_t mode,
		     struct error *err)
{
	close_ int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;
	int r;

	if (fd < 0)
		return error_errno(err, "cannot make a socket");
	r = make_address(&address, dir_fd, name, err);
	if (r < 0)
		return r;
	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return error_errno(err, "cannot unlink the old socket %s", name);
	/* Linux gives the new name the socket's own mode less the umask: it is never more open than
	 * asked for. Afterwards it is exactly that. */
	if (fchmod(fd, mode) < 0)
		return error_errno(err, "cannot set the mode of the socket %s", name);
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(err, "cannot bind the socket %s", name);
	if (fchmodat(dir_fd, name, mode, 0) < 0)
		return error_errno(err, "cannot set the mode of the socket %s", name);
	*ret_fd = take_fd(&fd);
	return 0;
}

int file_listen_socket(int *ret_fd, int dir_fd, const char *name, int type, mode_t mode,
		       struct error *err)
{
	close_ int fd = -1;
	int r = file_bind_socket(&fd, dir_fd, name, type, mode, err);

	if (r < 0)
		return r;
	if (listen(fd, SOMAXCONN) < 0)
		return error_errno(err, "cannot listen on %s", name);
	*ret_fd = take_fd(&fd);
	return 0;
}

int file_connect_socket(int *ret_fd, int dir_fd, const char *name, int type, struct error *err)
{
	close_ int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;
	int r;

	if (fd < 0)
		return error_errno(err, "cannot make a socket");
	r = make_address(&address, dir_fd, name, err);
	if (r < 0)
		return r;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(err, "cannot connect to %s", name);
	*ret_fd = take_fd(&fd);
	return 0;
}

int file_lock(int *ret_fd, int dir_fd, const char *name, struct error *err)
{
	close_ int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return error_errno(err, "cannot open the lock file %s", name);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return error_set(err, -EWOULDBLOCK, "%s is locked by another process",
					 name);
		return error_errno(err, "cannot lock %s", name);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int file_open_dir(DIR **ret, int dir_fd, struct error *err)
{
	close_ int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		return error_errno(err, "the folder cannot be read");
	(void)take_fd(&fd);
	*ret = dir;
	return 0;
}

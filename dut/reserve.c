/* SPDX-License-Identifier: MIT */
#include "dut/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/space.h"

static const char file_name[] = "reserve";

enum {
	RESERVE_SIZE = 1 << 20,
	STEP = 1 << 16,		   /* given up at a time: whoever else writes may be faster */
	ENOUGH = 8 * RESERVE_SIZE, /* free space that is worth taking it from */
};

static int open_reserve(int state_fd, off_t *ret_size)
{
	int fd = openat(state_fd, file_name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat status;

	if (fd >= 0 && fstat(fd, &status) < 0)
		return close_fd(fd);
	if (fd >= 0)
		*ret_size = status.st_size;
	return fd;
}

void reserve_take_again(int state_fd)
{
	off_t size = 0;
	close_ int fd = open_reserve(state_fd, &size);

	/* A try that fails may leave it longer than it is. */
	if (fd >= 0 && size < RESERVE_SIZE && !space_is_low(state_fd, ENOUGH) &&
	    posix_fallocate(fd, 0, RESERVE_SIZE) != 0)
		(void)ftruncate(fd, size);
}

bool reserve_give_up(int state_fd)
{
	off_t size = 0;
	close_ int fd = open_reserve(state_fd, &size);

	return fd >= 0 && size >= STEP && ftruncate(fd, size - STEP) == 0;
}

int reserve_replace(int state_fd, int dir_fd, const char *name, const char *text, mode_t mode,
		    struct error *err)
{
	int r = file_replace(dir_fd, name, text, strlen(text), mode, err);

	while ((r == -ENOSPC || r == -EDQUOT) && reserve_give_up(state_fd))
		r = file_replace(dir_fd, name, text, strlen(text), mode, err);
	if (r >= 0)
		reserve_take_again(state_fd);
	return r;
}

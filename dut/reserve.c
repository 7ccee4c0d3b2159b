/* SPDX-License-Identifier: MIT */
#include "dut/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/space.h"

static const char file_name[] = "reserve";

enum {
	RESERVE_SIZE = 1 << 20,	   /* some hundred records */
	ENOUGH = 8 * RESERVE_SIZE, /* free space that is worth taking it from */
};

static void take_again(int state_fd)
{
	close_ int fd = -1;

	if (faccessat(state_fd, file_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
	    space_is_low(state_fd, ENOUGH))
		return;
	fd = openat(state_fd, file_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		    0600);
	if (fd >= 0 && posix_fallocate(fd, 0, RESERVE_SIZE) != 0)
		(void)unlinkat(state_fd, file_name, 0);
}

int reserve_replace(int state_fd, int dir_fd, const char *name, const char *text, mode_t mode,
		    struct error *err)
{
	int r = file_replace(dir_fd, name, text, strlen(text), mode, err);

	if ((r == -ENOSPC || r == -EDQUOT) && unlinkat(state_fd, file_name, 0) == 0)
		return file_replace(dir_fd, name, text, strlen(text), mode, err);
	if (r >= 0)
		take_again(state_fd);
	return r;
}

/* SPDX-License-Identifier: MIT */
#include "base/space.h"

#include <errno.h>
#include <sys/vfs.h>

#include "base/text.h"

bool space_is_low(int fd, uint64_t min_free)
{
	struct statfs status;

	/* fstatvfs(3) may open files where seccomp allows none. */
	if (min_free == 0 || fstatfs(fd, &status) < 0)
		return false;
	return (uint64_t)status.f_bavail < min_free / (uint64_t)status.f_bsize;
}

int space_check(int fd, uint64_t min_free, struct error *err)
{
	char size[TEXT_SIZE_SIZE];

	if (!space_is_low(fd, min_free))
		return 0;
	return error_set(err, -ENOSPC, "less than limits.free_space (%s) is left on the disk",
			 text_format_size(size, sizeof(size), min_free));
}

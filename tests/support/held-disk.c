/* SPDX-License-Identifier: MIT */

/*
 * A disk that takes its time, for LD_PRELOAD: fsync() and fdatasync() wait while the file that
 * DUT_HELD_DISK names is there, and DUT_SLOW_DISK_MS in any case.
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_for_disk(void)
{
	const char *path = getenv("DUT_HELD_DISK"), *ms = getenv("DUT_SLOW_DISK_MS");

	if (ms)
		(void)poll(NULL, 0, atoi(ms));
	while (path && access(path, F_OK) == 0)
		(void)poll(NULL, 0, 2);
}

int fsync(int fd)
{
	wait_for_disk();
	return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	wait_for_disk();
	return (int)syscall(SYS_fdatasync, fd);
}

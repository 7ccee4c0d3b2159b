/* SPDX-License-Identifier: MIT */

/*
 * A wall clock that a test can step, for LD_PRELOAD: CLOCK_REALTIME, time() and gettimeofday() are
 * off by as many seconds as the file DUT_STEPPED_CLOCK says, eight bytes in the machine's order.
 * The file is mapped at the start, so that a sandbox does not matter. The kernel's own timers know
 * nothing of it: what is shown is that no decision is taken by the wall clock.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *step_s;

__attribute__((constructor)) static void map_step(void)
{
	const char *path = getenv("DUT_STEPPED_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *mapped;

	if (fd < 0)
		return;
	mapped = mmap(NULL, sizeof(*step_s), PROT_READ, MAP_SHARED, fd, 0);
	if (mapped != MAP_FAILED)
		step_s = mapped;
	(void)close(fd);
}

static int64_t step(void)
{
	return step_s ? *step_s : 0;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, id, now);

	if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		now->tv_sec += step();
	return r;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec precise;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
		return -1;
	now->tv_sec = precise.tv_sec;
	now->tv_usec = precise.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (ret)
		*ret = now.tv_sec;
	return now.tv_sec;
}

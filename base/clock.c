/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"

enum { USEC_PER_SEC = 1000000, NSEC_PER_USEC = 1000, BOOT_ID_LENGTH = 36 };

static uint64_t read_clock_us(clockid_t id)
{
	struct timespec now = { 0 };

	(void)clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
}

uint64_t clock_now_us(void)
{
	return read_clock_us(CLOCK_BOOTTIME);
}

uint64_t clock_realtime_us(void)
{
	return read_clock_us(CLOCK_REALTIME);
}

const char *clock_format_iso(char text[CLOCK_ISO_SIZE], uint64_t realtime_us)
{
	time_t seconds = (time_t)(realtime_us / USEC_PER_SEC);
	struct tm utc = { 0 };
	size_t length;

	(void)gmtime_r(&seconds, &utc);
	length = strftime(text, CLOCK_ISO_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
	(void)snprintf(text + length, CLOCK_ISO_SIZE - length, ".%06uZ",
		       (unsigned)(realtime_us % USEC_PER_SEC));
	return text;
}

const char *clock_boot_id(void)
{
	static char id[BOOT_ID_LENGTH + 1];

	if (!id[0]) {
		close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

		if (fd < 0 || read(fd, id, BOOT_ID_LENGTH) != BOOT_ID_LENGTH)
			(void)strcpy(id, "00000000-0000-0000-0000-000000000000");
	}
	return id;
}

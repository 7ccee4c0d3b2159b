/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"

enum { USEC_PER_SEC = 1000000, NSEC_PER_USEC = 1000, BOOT_ID_LENGTH = 36 };

/* 9999-12-31T23:59:59Z, the end of what four digits can say. */
static const uint64_t last_second = 253402300799;

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

/* Writes a number with so many digits, whose last stands in front of end. */
static void put_digits(char *end, unsigned number, unsigned digits)
{
	while (digits-- > 0) {
		*--end = (char)('0' + number % 10);
		number /= 10;
	}
}

/* Without strftime() and snprintf(), which took most of the time of an answer with a time. */
const char *clock_format_iso(char text[CLOCK_ISO_SIZE], uint64_t realtime_us)
{
	static const char form[] = "....-..-..T..:..:.........Z";
	uint64_t whole = realtime_us / USEC_PER_SEC;
	time_t seconds = (time_t)(whole < last_second ? whole : last_second);
	struct tm utc = { 0 };

	(void)gmtime_r(&seconds, &utc);
	memcpy(text, form, sizeof(form));
	put_digits(text + 4, (unsigned)utc.tm_year + 1900, 4);
	put_digits(text + 7, (unsigned)utc.tm_mon + 1, 2);
	put_digits(text + 10, (unsigned)utc.tm_mday, 2);
	put_digits(text + 13, (unsigned)utc.tm_hour, 2);
	put_digits(text + 16, (unsigned)utc.tm_min, 2);
	put_digits(text + 19, (unsigned)utc.tm_sec, 2);
	put_digits(text + 26, (unsigned)(realtime_us % USEC_PER_SEC), 6);
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

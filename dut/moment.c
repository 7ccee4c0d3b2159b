/* SPDX-License-Identifier: MIT */
#include "dut/moment.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

struct moment moment_now(void)
{
	struct moment now = { .boottime_us = clock_now_us(), .realtime_us = clock_realtime_us() };

	(void)snprintf(now.boot_id, sizeof(now.boot_id), "%s", clock_boot_id());
	return now;
}

int64_t moment_on_boottime(const struct moment *moment, const struct moment *now)
{
	uint64_t ago_us = 0;

	if (strcmp(moment->boot_id, now->boot_id) == 0)
		return (int64_t)moment->boottime_us;
	if (moment->realtime_us < now->realtime_us)
		ago_us = now->realtime_us - moment->realtime_us;
	return (int64_t)now->boottime_us - (int64_t)ago_us;
}

json_t *moment_to_json(const struct moment *moment)
{
	return json_pack("{s:s, s:I, s:I}", "boot_id", moment->boot_id, "boottime_us",
			 (json_int_t)moment->boottime_us, "realtime_us",
			 (json_int_t)moment->realtime_us);
}

/* What is beyond any clock is none, so that sums of times do not overflow. */
static uint64_t limit_us(uint64_t us)
{
	return us > INT64_MAX / 4 ? 0 : us;
}

static uint64_t read_us(const json_t *value)
{
	return limit_us((uint64_t)json_integer_value(value));
}

void moment_from_json(struct moment *ret, const json_t *object, uint64_t fallback_realtime_us)
{
	const char *boot_id = json_string_value(json_object_get(object, "boot_id"));

	*ret = (struct moment){ .realtime_us = limit_us(fallback_realtime_us) };
	if (!boot_id)
		return;
	(void)snprintf(ret->boot_id, sizeof(ret->boot_id), "%s", boot_id);
	ret->boottime_us = read_us(json_object_get(object, "boottime_us"));
	ret->realtime_us = read_us(json_object_get(object, "realtime_us"));
}

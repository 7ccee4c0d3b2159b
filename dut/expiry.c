/* SPDX-License-Identifier: MIT */
#include "dut/expiry.h"

#include <errno.h>
#include <string.h>

/* 36500 days, as text_to_duration_us() has it. */
static const int64_t MAX_SPAN_US = INT64_C(36500) * 86400 * 1000000;

uint64_t expiry_left_us(const struct expiry *expiry, const struct moment *now)
{
	int64_t gone = (int64_t)now->boottime_us - moment_on_boottime(&expiry->from, now);

	if (gone < 0)
		gone = 0;
	return (uint64_t)gone < expiry->span_us ? expiry->span_us - (uint64_t)gone : 0;
}

bool expiry_is_by_wall(const struct expiry *expiry, const struct moment *now,
		       uint64_t *ret_realtime_us)
{
	if (strcmp(expiry->from.boot_id, now->boot_id) == 0)
		return false;
	*ret_realtime_us = expiry->from.realtime_us + expiry->span_us;
	return true;
}

json_t *expiry_to_json(const struct expiry *expiry)
{
	return json_pack("{s:o, s:I}", "from", moment_to_json(&expiry->from), "span_us",
			 (json_int_t)expiry->span_us);
}

int expiry_from_json(struct expiry *ret, const json_t *object, struct error *err)
{
	const json_t *from = json_object_get(object, "from");
	json_int_t span = json_integer_value(json_object_get(object, "span_us"));

	if (!json_is_string(json_object_get(from, "boot_id")) ||
	    !json_is_integer(json_object_get(from, "boottime_us")) ||
	    !json_is_integer(json_object_get(from, "realtime_us")) || span <= 0 ||
	    span > MAX_SPAN_US)
		return error_set(err, -EBADMSG, "it does not say when it ends");
	moment_from_json(&ret->from, from, 0);
	ret->span_us = (uint64_t)span;
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "dut/metadata.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"
#include "base/text.h"
#include "dut/api.h"
#include "dut/queue.h"

static const uint64_t US_PER_S = 1000000;
static const uint64_t MAX_WAIT_S = UINT64_C(10) * 365 * 86400; /* longer is for ever */

enum {
	MAX_NAME = 200, /* bytes */
	SHOWN_KEY = 64, /* bytes of a name in an error text */
};

bool metadata_is_text(const json_t *value, size_t max)
{
	return json_is_string(value) && json_string_length(value) <= max &&
	       text_is_printable(json_string_value(value), json_string_length(value));
}

static const char *show_key(char shown[static SHOWN_KEY], const char *key)
{
	return text_escape(shown, SHOWN_KEY, key, strlen(key));
}

/* A text, or not there. */
static int check_text(const json_t *metadata, const char *key, size_t max, struct error *err)
{
	const json_t *value = json_object_get(metadata, key);

	if (value && !json_is_null(value) && !metadata_is_text(value, max))
		return error_set(err, -EINVAL,
				 "metadata: %s is no printable text of at most %zu bytes", key,
				 max);
	return 0;
}

static int check_on_disconnect(const json_t *metadata, struct error *err)
{
	static const char *const known[] = { "cancel", "continue", NULL };
	const json_t *value = json_object_get(metadata, "on_disconnect");

	if (value && !json_is_null(value) &&
	    (!json_is_string(value) || !api_is_one_of(json_string_value(value), known)))
		return error_set(err, -EINVAL,
				 "metadata: on_disconnect is neither cancel nor continue");
	/* Who knows the id is the client. */
	if (json_is_string(value) && strcmp(json_string_value(value), "cancel") == 0 &&
	    !json_is_string(json_object_get(metadata, "submission_id")))
		return error_set(err, -EINVAL,
				 "metadata: on_disconnect: cancel needs a submission_id");
	return 0;
}

static int read_wait_text(uint64_t *ret_us, const char *text, struct error *err)
{
	uint64_t us = UINT64_MAX;

	if (strcmp(text, "forever") != 0 && text_to_duration_us(&us, text, err) < 0)
		return error_prefix(err, -EINVAL, "wait");
	*ret_us = us <= MAX_WAIT_S * US_PER_S ? us : UINT64_MAX;
	return 0;
}

int metadata_read_wait(uint64_t *ret_us, const json_t *value, struct error *err)
{
	double seconds = json_number_value(value);

	if (json_is_string(value))
		return read_wait_text(ret_us, json_string_value(value), err);
	if (value && !json_is_null(value) && !json_is_false(value) &&
	    (!json_is_number(value) || seconds < 0 || seconds > (double)MAX_WAIT_S))
		return error_set(err, -EINVAL,
				 "wait is neither a duration, nor seconds from 0 to %" PRIu64
				 ", nor \"forever\"",
				 MAX_WAIT_S);
	*ret_us = (uint64_t)(seconds * (double)US_PER_S);
	return 0;
}

static int check_priority(const json_t *value, struct error *err)
{
	json_int_t priority = json_integer_value(value);

	if (value && !json_is_null(value) &&
	    (!json_is_integer(value) || priority < CLAIM_PRIORITY_MIN ||
	     priority > CLAIM_PRIORITY_MAX))
		return error_set(err, -EINVAL,
				 "metadata: priority is no whole number from %d to %d",
				 CLAIM_PRIORITY_MIN, CLAIM_PRIORITY_MAX);
	return 0;
}

int metadata_check(const json_t *metadata, struct error *err)
{
	static const char *const known[] = {
		"version",	   "name",	    "target", "environ",
		"on_disconnect",   "submission_id", "wait",   "priority",
		"ignore_deadline", "job_id",	    NULL
	};
	const json_t *environ_vars = json_object_get(metadata, "environ");
	char shown[SHOWN_KEY];
	const char *key;
	const json_t *value;
	uint64_t wait_us;
	int r;

	if (!json_is_object(metadata))
		return error_set(err, -EINVAL, "metadata is no JSON object");
	if (json_integer_value(json_object_get(metadata, "version")) != 1)
		return error_set(err, -EINVAL, "metadata: version must be 1");
	json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
		if (!api_is_one_of(key, known))
			return error_set(err, -EINVAL, "metadata: unknown member '%s'",
					 show_key(shown, key));
	if (environ_vars && !json_is_object(environ_vars))
		return error_set(err, -EINVAL, "metadata: environ is no object");
	json_object_foreach((json_t *)(uintptr_t)environ_vars, key, value)
		if (!json_is_string(value))
			return error_set(err, -EINVAL, "metadata: environ.%s is no text",
					 show_key(shown, key));
	value = json_object_get(metadata, "target");
	if (value && !json_is_null(value) && !json_is_object(value))
		return error_set(err, -EINVAL, "metadata: target is no object");
	r = check_text(metadata, "name", MAX_NAME, err);
	if (r >= 0)
		r = check_text(metadata, "submission_id", MAX_NAME, err);
	if (r >= 0)
		r = check_on_disconnect(metadata, err);
	if (r >= 0) {
		r = metadata_read_wait(&wait_us, json_object_get(metadata, "wait"), err);
		if (r < 0)
			return error_prefix(err, r, "metadata");
	}
	if (r >= 0)
		r = check_priority(json_object_get(metadata, "priority"), err);
	return r;
}

uint64_t metadata_wait(const json_t *metadata)
{
	uint64_t wait_us = 0;

	return metadata_read_wait(&wait_us, json_object_get(metadata, "wait"), NULL) >= 0 ? wait_us
											  : 0;
}

int metadata_priority(const json_t *metadata)
{
	return (int)json_integer_value(json_object_get(metadata, "priority"));
}

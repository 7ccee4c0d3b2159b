/* SPDX-License-Identifier: MIT */
#include "dut/metadata.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"
#include "base/text.h"
#include "dut/api.h"

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

int metadata_check(const json_t *metadata, struct error *err)
{
	static const char *const later[] = { "wait", "priority" };
	static const char *const known[] = {
		"version",	   "name",	    "target", "environ",
		"on_disconnect",   "submission_id", "wait",   "priority",
		"ignore_deadline", "job_id",	    NULL
	};
	const json_t *environ_vars = json_object_get(metadata, "environ");
	char shown[SHOWN_KEY];
	const char *key;
	const json_t *value;
	int r;

	if (!json_is_object(metadata))
		return error_set(err, -EINVAL, "metadata is no JSON object");
	if (json_integer_value(json_object_get(metadata, "version")) != 1)
		return error_set(err, -EINVAL, "metadata: version must be 1");
	json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
		if (!api_is_one_of(key, known))
			return error_set(err, -EINVAL, "metadata: unknown member '%s'",
					 show_key(shown, key));
	for (size_t i = 0; i < ARRAY_SIZE(later); i++) {
		const json_t *given = json_object_get(metadata, later[i]);

		if (given && !json_is_null(given) && !json_is_false(given) &&
		    !(json_is_integer(given) && json_integer_value(given) == 0))
			return error_set(err, -EINVAL, "not yet: %s", later[i]);
	}
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
	return r;
}

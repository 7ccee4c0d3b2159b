/* SPDX-License-Identifier: MIT */
#include "dut/flags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "base/text.h"

static const char file_name[] = "flags.json";

enum { VERSION = 1, MAX_FILE = 64 << 10 };

void flags_done(struct flags *flags)
{
	free(flags->why);
	free(flags->by);
	free(flags->comment);
	json_decref(flags->tags);
	*flags = (struct flags){ .ready = true };
}

int flags_init(struct flags *flags, struct error *err)
{
	*flags = (struct flags){ .ready = true, .tags = json_array() };
	return flags->tags ? 0 : error_oom(err);
}

/* ---- what is there ---- */

static bool is_text(const json_t *value, size_t max)
{
	return json_is_string(value) && json_string_length(value) <= max &&
	       text_is_printable(json_string_value(value), json_string_length(value));
}

static bool is_tag(const json_t *value)
{
	return is_text(value, FLAGS_MAX_TAG) && json_string_length(value) > 0;
}

static bool are_tags(const json_t *value)
{
	const json_t *tag;
	size_t i;

	if (!json_is_array(value) || json_array_size(value) > FLAGS_MAX_TAGS)
		return false;
	json_array_foreach(value, i, tag)
		if (!is_tag(tag))
			return false;
	return true;
}

/* A text or null, or absent. */
static bool is_text_or_null(const json_t *value)
{
	return !value || json_is_null(value) || is_text(value, FLAGS_MAX_TEXT);
}

static bool is_bool_or_absent(const json_t *value)
{
	return !value || json_is_boolean(value);
}

/* Replaces a text by a member's; null, and an empty one, is none. */
static int take_text(char **text, const json_t *value)
{
	const char *new = json_string_value(value);
	char *copy = NULL;

	if (new &&*new && !(copy = strdup(new)))
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

/* ---- the file ---- */

char *flags_dump(const struct flags *flags)
{
	json_auto_t *object = json_pack(
		"{s:i, s:b, s:b, s:o, s:o, s:I, s:o, s:O}", "v", VERSION, "is_retired",
		flags->retired, "ready_for_service", flags->ready, "why", jsontext_new(flags->why),
		"by", jsontext_new(flags->by), "since_us", (json_int_t)flags->since_realtime_us,
		"comment", jsontext_new(flags->comment), "manual_tags", flags->tags);
	size_t length;

	return object ? jsontext_line(object, &length) : NULL;
}

static int take_file(struct flags *flags, const json_t *object, struct error *err)
{
	const json_t *retired = json_object_get(object, "is_retired");
	const json_t *ready = json_object_get(object, "ready_for_service");
	const json_t *why = json_object_get(object, "why"), *by = json_object_get(object, "by");
	const json_t *comment = json_object_get(object, "comment");
	const json_t *tags = json_object_get(object, "manual_tags");
	const json_t *since = json_object_get(object, "since_us");

	if (json_integer_value(json_object_get(object, "v")) != VERSION ||
	    !json_is_boolean(retired) || !json_is_boolean(ready) || !is_text_or_null(why) ||
	    !is_text_or_null(by) || !is_text_or_null(comment) || !json_is_integer(since) ||
	    json_integer_value(since) < 0 || !are_tags(tags))
		return error_set(err, -EBADMSG, "%s is none of ours", file_name);
	flags->retired = json_is_true(retired);
	flags->ready = json_is_true(ready);
	flags->since_realtime_us = (uint64_t)json_integer_value(since);
	if (take_text(&flags->why, why) < 0 || take_text(&flags->by, by) < 0 ||
	    take_text(&flags->comment, comment) < 0)
		return error_oom(err);
	json_decref(flags->tags);
	flags->tags = json_incref((json_t *)(uintptr_t)tags);
	return 0;
}

int flags_load(struct flags *ret, int dir_fd, struct error *err)
{
	json_auto_t *object = NULL;
	free_ char *text = NULL;
	struct flags flags;
	size_t length;
	int r = flags_init(&flags, err);

	if (r < 0)
		return r;
	r = file_read_beneath(&text, &length, dir_fd, file_name, MAX_FILE, err);
	if (r >= 0) {
		object = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
		r = take_file(&flags, object, err);
	}
	if (r < 0 && r != -ENOENT && r != -ENOMEM) {
		flags_done(&flags);
		r = flags_init(&flags, err);
		flags.retired = true;
		flags.why = strdup(err->text);
		flags.since_realtime_us = clock_realtime_us();
	}
	if (r == -ENOMEM) {
		flags_done(&flags);
		return r;
	}
	*ret = flags;
	return 0;
}

/* ---- a change ---- */

static int check_change(const json_t *patch, struct error *err)
{
	static const char *const known[] = { "is_retired", "ready_for_service", "comment",
					     "manual_tags", "why" };
	const json_t *value, *why = json_object_get(patch, "why");
	const char *key;
	char shown[64];

	if (!json_is_object(patch) || json_object_size(patch) == 0)
		return error_set(err, -EINVAL,
				 "the body must be an object with is_retired, ready_for_service, "
				 "comment or manual_tags");
	json_object_foreach((json_t *)(uintptr_t)patch, key, value) {
		bool found = false;

		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			found = found || strcmp(key, known[i]) == 0;
		if (!found)
			return error_set(err, -EINVAL, "'%s' cannot be changed",
					 text_escape(shown, sizeof(shown), key, strlen(key)));
	}
	if (!is_bool_or_absent(json_object_get(patch, "is_retired")))
		return error_set(err, -EINVAL, "is_retired is neither true nor false");
	if (!is_bool_or_absent(json_object_get(patch, "ready_for_service")))
		return error_set(err, -EINVAL, "ready_for_service is neither true nor false");
	if (!is_text_or_null(json_object_get(patch, "comment")) || !is_text_or_null(why))
		return error_set(err, -EINVAL, "%s is no printable text of at most %d bytes",
				 is_text_or_null(why) ? "comment" : "why", FLAGS_MAX_TEXT);
	if (why && !json_is_true(json_object_get(patch, "is_retired")))
		return error_set(err, -EINVAL, "why needs is_retired: true");
	value = json_object_get(patch, "manual_tags");
	if (value && !are_tags(value))
		return error_set(err, -EINVAL,
				 "manual_tags is no array of at most %d printable texts of 1 to "
				 "%d bytes",
				 FLAGS_MAX_TAGS, FLAGS_MAX_TAG);
	return 0;
}

static int copy(struct flags *ret, const struct flags *from, struct error *err)
{
	*ret = (struct flags){
		.retired = from->retired,
		.ready = from->ready,
		.since_realtime_us = from->since_realtime_us,
		.why = from->why ? strdup(from->why) : NULL,
		.by = from->by ? strdup(from->by) : NULL,
		.comment = from->comment ? strdup(from->comment) : NULL,
		.tags = json_incref(from->tags),
	};
	if (!ret->why == !from->why && !ret->by == !from->by && !ret->comment == !from->comment)
		return 0;
	flags_done(ret);
	return error_oom(err);
}

static int change_retired(struct flags *flags, const json_t *patch, const char *by)
{
	const json_t *value = json_object_get(patch, "is_retired");
	const json_t *why = json_object_get(patch, "why");
	bool retired = json_is_true(value);

	if (!value || (retired == flags->retired && !why))
		return 0;
	if (retired != flags->retired)
		flags->since_realtime_us = clock_realtime_us();
	flags->retired = retired;
	if (!retired) {
		(void)take_text(&flags->by, NULL);
		return take_text(&flags->why, NULL);
	}
	free(flags->by);
	flags->by = strdup(by);
	return flags->by ? take_text(&flags->why, why) : -ENOMEM;
}

/* Each tag once, in the order in which they came. */
static int change_tags(struct flags *flags, const json_t *tags)
{
	json_t *new = json_array();
	const json_t *tag, *other;
	size_t i, k;

	json_array_foreach(tags, i, tag) {
		bool found = false;

		json_array_foreach(new, k, other)
			found = found || json_equal(tag, other);
		if (!found && json_array_append(new, (json_t *)(uintptr_t)tag) < 0) {
			json_decref(new);
			return -ENOMEM;
		}
	}
	if (!new)
		return -ENOMEM;
	json_decref(flags->tags);
	flags->tags = new;
	return 0;
}

int flags_change(struct flags *ret, const struct flags *before, const json_t *patch, const char *by,
		 struct error *err)
{
	const json_t *ready = json_object_get(patch, "ready_for_service");
	const json_t *comment = json_object_get(patch, "comment");
	const json_t *tags = json_object_get(patch, "manual_tags");
	struct flags flags;
	int r = check_change(patch, err);

	if (r < 0)
		return r;
	r = copy(&flags, before, err);
	if (r < 0)
		return r;
	if (ready)
		flags.ready = json_is_true(ready);
	r = change_retired(&flags, patch, by);
	if (r >= 0 && comment)
		r = take_text(&flags.comment, comment);
	if (r >= 0 && tags)
		r = change_tags(&flags, tags);
	if (r < 0) {
		flags_done(&flags);
		return error_oom(err);
	}
	*ret = flags;
	return 0;
}

json_t *flags_tags(const struct flags *flags, char *const *configured)
{
	json_t *tags = json_array();
	json_t *tag;
	size_t i;

	for (char *const *own = configured; own && *own; own++)
		(void)json_array_append_new(tags, json_string(*own));
	json_array_foreach(flags->tags, i, tag) {
		bool found = false;

		for (char *const *own = configured; own && *own; own++)
			found = found || strcmp(*own, json_string_value(tag)) == 0;
		if (!found)
			(void)json_array_append(tags, tag);
	}
	return tags;
}

void flags_write(const struct flags *flags, struct jsontext *json)
{
	jsontext_bool(json, "is_retired", flags->retired);
	if (flags->retired) {
		jsontext_open_object(json, "retired");
		jsontext_text(json, "by", flags->by);
		jsontext_time(json, "since", flags->since_realtime_us);
		jsontext_text(json, "why", flags->why);
		jsontext_close_object(json);
	} else {
		jsontext_text(json, "retired", NULL);
	}
	jsontext_bool(json, "ready_for_service", flags->ready);
	jsontext_text(json, "comment", flags->comment);
	jsontext_tree(json, "manual_tags", json_incref(flags->tags));
}

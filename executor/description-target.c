/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "executor/description-internal.h"

/* `target:` and `deadline:` of a job file: where and until when it may run. */

enum { US_PER_S = 1000000 };

/* ---- deadline ---- */

/* Reads exactly this many digits. */
static bool read_digits(const char **at, unsigned count, int *ret)
{
	int value = 0;

	for (unsigned i = 0; i < count; i++, (*at)++) {
		if (**at < '0' || **at > '9')
			return false;
		value = value * 10 + (**at - '0');
	}
	*ret = value;
	return true;
}

static bool skip(const char **at, char byte)
{
	if (**at != byte)
		return false;
	(*at)++;
	return true;
}

static bool read_day(const char **at, struct tm *date)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year, month, day, longest;
	bool leap;

	if (!read_digits(at, 4, &year) || !skip(at, '-') || !read_digits(at, 2, &month) ||
	    !skip(at, '-') || !read_digits(at, 2, &day))
		return false;
	if (year < 1970 || month < 1 || month > 12)
		return false;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	longest = days[month - 1] + (month == 2 && leap ? 1 : 0);
	date->tm_year = year - 1900;
	date->tm_mon = month - 1;
	date->tm_mday = day;
	return day >= 1 && day <= longest;
}

/* HH:MM, HH:MM:SS or HH:MM:SS.FRACTION. */
static bool read_time(const char **at, struct tm *date, uint64_t *ret_us)
{
	unsigned digits = 0;

	if (!read_digits(at, 2, &date->tm_hour) || !skip(at, ':') ||
	    !read_digits(at, 2, &date->tm_min))
		return false;
	if (skip(at, ':') && !read_digits(at, 2, &date->tm_sec))
		return false;
	if (skip(at, '.')) {
		uint64_t scale = US_PER_S;

		for (; **at >= '0' && **at <= '9'; (*at)++, digits++) {
			scale /= 10;
			*ret_us += (uint64_t)(**at - '0') * scale;
		}
		if (digits == 0)
			return false;
	}
	return date->tm_hour < 24 && date->tm_min < 60 && date->tm_sec < 60;
}

/* Z, +HH, +HHMM, +HH:MM or nothing, which is UTC; in seconds east of it. */
static bool read_zone(const char **at, long *ret_seconds)
{
	int hours = 0, minutes = 0, sign;

	*ret_seconds = 0;
	while (skip(at, ' '))
		;
	if (skip(at, 'Z') || skip(at, 'z') || !**at)
		return true;
	sign = **at == '-' ? -1 : 1;
	if ((!skip(at, '+') && !skip(at, '-')) || !read_digits(at, 2, &hours))
		return false;
	if ((skip(at, ':') || **at) && !read_digits(at, 2, &minutes))
		return false;
	*ret_seconds = sign * (hours * 3600L + minutes * 60L);
	return hours < 24 && minutes < 60;
}

static bool read_date(const char *text, uint64_t *ret_us)
{
	struct tm date = { 0 };
	uint64_t us = 0;
	long zone = 0;
	time_t seconds;

	if (!read_day(&text, &date))
		return false;
	if (skip(&text, 'T') || skip(&text, 't') || skip(&text, ' ')) {
		while (skip(&text, ' '))
			;
		if (!read_time(&text, &date, &us) || !read_zone(&text, &zone))
			return false;
	}
	seconds = timegm(&date) - zone;
	if (*text || seconds < 0)
		return false;
	*ret_us = (uint64_t)seconds * US_PER_S + us;
	return true;
}

void reader_deadline(struct reader *reader, const struct yaml_node *node)
{
	const char *text = reader_text(reader, node, "deadline");
	uint64_t *deadline = &reader->description->deadline_realtime_us;

	if (!text)
		return;
	if (!read_date(text, deadline))
		reader_fault(reader, node, "deadline",
			     "deadline '%.64s' is no date as in 2026-12-31T23:59:59Z", text);
	else if (*deadline <= clock_realtime_us() &&
		 !json_is_true(json_object_get(reader->facts, "ignore_deadline")))
		reader_fault(reader, node, "deadline",
			     "deadline %.64s is past, --ignore-deadline runs the job nevertheless",
			     text);
}

/* ---- target ---- */

static void add_tag(struct reader *reader, const char *text)
{
	struct description *description = reader->description;
	char *tag = reader_copy(reader, text);
	size_t count = 0;
	char **grown;

	while (description->target_tags && description->target_tags[count])
		count++;
	grown = reallocarray(description->target_tags, count + 2, sizeof(*grown));
	if (!grown || !tag) {
		reader->r = -ENOMEM;
		description->target_tags = grown ? grown : description->target_tags;
		free(tag);
		return;
	}
	grown[count] = tag;
	grown[count + 1] = NULL;
	description->target_tags = grown;
}

static void read_tags(struct reader *reader, const struct yaml_node *node)
{
	if (!node || yaml_is_null(node))
		return;
	if (node->kind != YAML_SEQUENCE) {
		reader_fault(reader, node, "target.tags", "target.tags must be a list of tags");
		return;
	}
	YAML_FOREACH(child, node) {
		const char *tag = reader_text(reader, child, "target.tags");

		if (yaml_is_null(child))
			reader_fault(reader, child, "target.tags", "target.tags has an empty tag");
		else if (tag)
			add_tag(reader, tag);
	}
}

void reader_target(struct reader *reader, const struct yaml_node *node)
{
	static const char *const known[] = { "id", "tags", NULL };
	const struct yaml_node *id = yaml_get(node, "id");
	const char *text;

	if (!reader_mapping(reader, node, "target", known))
		return;
	if ((!id || yaml_is_null(id)) && !yaml_get(node, "tags"))
		reader_fault(reader, node, "target",
			     "target needs an id or tags, and tags may be []");
	text = reader_text(reader, id, "target.id");
	if (text && (!*text || strchr(text, '/') || !text_is_printable(text, strlen(text))))
		reader_fault(reader, id, "target.id",
			     "target.id must be printable text without a slash");
	reader->description->target_id = reader_copy(reader, text);
	read_tags(reader, yaml_get(node, "tags"));
	reader->description->has_target = true;
}

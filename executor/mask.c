/* SPDX-License-Identifier: MIT */
#include "executor/mask.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"

static const char stars[] = "***";

static bool is_secret(const char *name)
{
	static const char *const words[] = { "TOKEN", "PASSWORD", "SECRET" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcasestr(name, words[i]))
			return true;
	return false;
}

static int add(struct mask *mask, const char *value)
{
	char *copy = strdup(value);
	char **values;

	if (!copy)
		return -ENOMEM;
	values = reallocarray(mask->values, mask->count + 1, sizeof(*values));
	if (!values) {
		free(copy);
		return -ENOMEM;
	}
	mask->values = values;
	mask->values[mask->count++] = copy;
	return 0;
}

/* Events carry console lines escaped, so the escaped form of a value is a secret too. */
static int add_value(struct mask *mask, const char *value)
{
	size_t length = strlen(value), size = 4 * length + 4;
	free_ char *escaped = NULL;
	int r;

	if (length < MASK_BYTES_MIN)
		return 0;
	r = add(mask, value);
	if (r < 0)
		return r;
	escaped = malloc(size);
	if (!escaped)
		return -ENOMEM;
	return strcmp(text_escape(escaped, size, value, length), value) == 0 ? 0
									     : add(mask, escaped);
}

static int by_length(const void *a, const void *b)
{
	size_t first = strlen(*(char *const *)a), second = strlen(*(char *const *)b);

	return first < second ? 1 : first > second ? -1 : 0;
}

int mask_init(struct mask *mask, json_t *variables)
{
	int r;

	*mask = (struct mask){ 0 };
	for (void *i = json_object_iter(variables); i; i = json_object_iter_next(variables, i)) {
		const char *value = json_string_value(json_object_iter_value(i));

		if (!value || !is_secret(json_object_iter_key(i)))
			continue;
		r = add_value(mask, value);
		if (r < 0) {
			mask_done(mask);
			return r;
		}
	}
	/* A value that contains another one goes first, else its rest would stay. */
	if (mask->count > 0)
		qsort(mask->values, mask->count, sizeof(*mask->values), by_length);
	return 0;
}

void mask_done(struct mask *mask)
{
	for (size_t i = 0; i < mask->count; i++)
		free(mask->values[i]);
	free(mask->values);
	*mask = (struct mask){ 0 };
}

void mask_text(const struct mask *mask, char *text)
{
	for (size_t i = 0; i < mask->count; i++) {
		size_t length = strlen(mask->values[i]);

		for (char *at = strstr(text, mask->values[i]); at;
		     at = strstr(at + sizeof(stars) - 1, mask->values[i])) {
			memcpy(at, stars, sizeof(stars) - 1);
			memmove(at + sizeof(stars) - 1, at + length, strlen(at + length) + 1);
		}
	}
}

static void mask_string(const struct mask *mask, json_t *string)
{
	free_ char *text = strdup(json_string_value(string));

	if (!text) {
		(void)json_string_set(string, stars);
		return;
	}
	mask_text(mask, text);
	if (strcmp(text, json_string_value(string)) != 0)
		/* A cut inside a character is possible only where values are not UTF-8. */
		if (json_string_set(string, text) < 0)
			(void)json_string_set(string, stars);
}

void mask_json(const struct mask *mask, json_t *value)
{
	size_t index;
	json_t *item;

	if (mask->count == 0)
		return;
	if (json_is_string(value)) {
		mask_string(mask, value);
	} else if (json_is_array(value)) {
		json_array_foreach(value, index, item)
			mask_json(mask, item);
	} else if (json_is_object(value)) {
		for (void *i = json_object_iter(value); i; i = json_object_iter_next(value, i))
			mask_json(mask, json_object_iter_value(i));
	}
}

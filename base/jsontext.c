/* SPDX-License-Identifier: MIT */
#include "base/jsontext.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

json_t *jsontext_new(const char *text)
{
	free_ char *valid = NULL;
	size_t length, used = 0;
	json_t *string;

	if (!text)
		return json_null();
	string = json_string(text);
	if (string)
		return string;
	length = strlen(text);
	valid = malloc(length * strlen(replacement) + 1);
	if (!valid)
		return NULL;
	while (length > 0) {
		uint32_t code;
		size_t n = text_decode_utf8(&code, text, length), put = n;

		if (n > 0) {
			memcpy(valid + used, text, n);
		} else {
			n = 1;
			put = strlen(replacement);
			memcpy(valid + used, replacement, put);
		}
		used += put;
		text += n;
		length -= n;
	}
	return json_stringn_nocheck(valid, used);
}

/* ---- writing ---- */

enum {
	FIRST_SIZE = 1024, /* bytes; most answers fit */
	REAL_DIGITS = 15,
	FRACTION_DIGITS = 6,
};

static bool grow(struct jsontext *json, size_t length)
{
	size_t more = json->size > FIRST_SIZE ? json->size : FIRST_SIZE;
	size_t size = json->size + (length > more ? length : more);
	char *text = json->failed ? NULL : realloc(json->text, size);

	json->failed = !text;
	if (!text)
		return false;
	json->text = text;
	json->size = size;
	return true;
}

static inline bool has_room(struct jsontext *json, size_t length)
{
	return (json->text && length <= json->size - json->used) || grow(json, length);
}

static void put(struct jsontext *json, const char *bytes, size_t length)
{
	if (has_room(json, length)) {
		memcpy(json->text + json->used, bytes, length);
		json->used += length;
	}
}

static inline void put_byte(struct jsontext *json, char byte)
{
	if (has_room(json, 1))
		json->text[json->used++] = byte;
}

static void put_escape(struct jsontext *json, char byte)
{
	static const char hex[] = "0123456789ABCDEF", plain[] = "\"\\\b\f\n\r\t";
	static const char names[] = "\"\\bfnrt";
	const char *found = byte ? strchr(plain, byte) : NULL;
	char escape[] = "\\u00xx";

	if (found) {
		escape[1] = names[found - plain];
		put(json, escape, 2);
		return;
	}
	escape[4] = hex[(unsigned char)byte >> 4];
	escape[5] = hex[(unsigned char)byte & 15];
	put(json, escape, 6);
}

/* Puts one character that does not stand for itself, or is longer than a byte; its length. */
static size_t put_special(struct jsontext *json, const char *text, size_t length)
{
	uint32_t code;
	size_t n = 1;

	if (!(*text & 0x80)) {
		put_escape(json, *text);
		return n;
	}
	n = text_decode_utf8(&code, text, length);
	if (n > 0) {
		put(json, text, n);
		return n;
	}
	put(json, replacement, strlen(replacement));
	return 1;
}

static bool is_plain(unsigned char byte)
{
	return byte >= ' ' && byte < 0x80 && byte != '"' && byte != '\\';
}

static void put_string(struct jsontext *json, const char *text, size_t length)
{
	put_byte(json, '"');
	while (length > 0) {
		size_t n = 0;

		while (n < length && is_plain((unsigned char)text[n]))
			n++;
		put(json, text, n);
		if (n < length)
			n += put_special(json, text + n, length - n);
		text += n;
		length -= n;
	}
	put_byte(json, '"');
}

static void put_unsigned(struct jsontext *json, uint64_t number)
{
	char digits[20], *end = digits + sizeof(digits), *at = end;

	do
		*--at = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	put(json, at, (size_t)(end - at));
}

static void put_integer(struct jsontext *json, int64_t number)
{
	uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

	if (number < 0)
		put_byte(json, '-');
	put_unsigned(json, size);
}

/* Seconds to the microsecond, which most of our fractions are. False when it is another number. */
static bool put_micros(struct jsontext *json, double number)
{
	double micros = (number < 0 ? -number : number) * 1e6;
	char fraction[FRACTION_DIGITS + 1] = ".";
	unsigned digits = FRACTION_DIGITS;
	uint64_t whole;
	double off;

	if (!(micros >= 1 && micros < 1e15))
		return false;
	whole = (uint64_t)(micros + 0.5);
	off = micros - (double)whole;
	if (off > 1e-15 * micros || off < -1e-15 * micros)
		return false;
	if (number < 0)
		put_byte(json, '-');
	put_unsigned(json, whole / 1000000);
	whole %= 1000000;
	for (unsigned i = FRACTION_DIGITS; i > 0; i--, whole /= 10)
		fraction[i] = (char)('0' + whole % 10);
	while (digits > 1 && fraction[digits] == '0')
		digits--;
	put(json, fraction, digits + 1);
	return true;
}

static void put_real(struct jsontext *json, double number)
{
	char text[40];

	if (put_micros(json, number))
		return;
	(void)snprintf(text, sizeof(text), "%.*g", REAL_DIGITS, number);
	put(json, text, strlen(text));
	if (!strpbrk(text, ".e"))
		put(json, ".0", 2);
}

/* What stands before a value. */
static void begin(struct jsontext *json, const char *key)
{
	if (json->comma)
		put_byte(json, ',');
	json->comma = true;
	if (key) {
		put_string(json, key, strlen(key));
		put_byte(json, ':');
	}
}

static void open_with(struct jsontext *json, const char *key, char bracket)
{
	begin(json, key);
	put_byte(json, bracket);
	json->comma = false;
}

static void close_with(struct jsontext *json, char bracket)
{
	put_byte(json, bracket);
	json->comma = true;
}

void jsontext_open_object(struct jsontext *json, const char *key)
{
	open_with(json, key, '{');
}

void jsontext_close_object(struct jsontext *json)
{
	close_with(json, '}');
}

void jsontext_open_array(struct jsontext *json, const char *key)
{
	open_with(json, key, '[');
}

void jsontext_close_array(struct jsontext *json)
{
	close_with(json, ']');
}

static void put_word(struct jsontext *json, const char *key, const char *word)
{
	begin(json, key);
	put(json, word, strlen(word));
}

void jsontext_text(struct jsontext *json, const char *key, const char *text)
{
	if (!text) {
		put_word(json, key, "null");
		return;
	}
	begin(json, key);
	put_string(json, text, strlen(text));
}

void jsontext_bool(struct jsontext *json, const char *key, bool value)
{
	put_word(json, key, value ? "true" : "false");
}

void jsontext_integer(struct jsontext *json, const char *key, int64_t number)
{
	begin(json, key);
	put_integer(json, number);
}

void jsontext_real(struct jsontext *json, const char *key, double number)
{
	begin(json, key);
	put_real(json, number);
}

void jsontext_time(struct jsontext *json, const char *key, uint64_t realtime_us)
{
	char text[CLOCK_ISO_SIZE];

	jsontext_text(json, key, realtime_us ? clock_format_iso(text, realtime_us) : NULL);
}

/* ---- trees ---- */

static void put_value(struct jsontext *json, const char *key, json_t *value);

static void put_array(struct jsontext *json, const char *key, json_t *array)
{
	jsontext_open_array(json, key);
	for (size_t i = 0; i < json_array_size(array); i++)
		put_value(json, NULL, json_array_get(array, i));
	jsontext_close_array(json);
}

static void put_object(struct jsontext *json, const char *key, json_t *object)
{
	jsontext_open_object(json, key);
	for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at))
		put_value(json, json_object_iter_key(at), json_object_iter_value(at));
	jsontext_close_object(json);
}

static void put_value(struct jsontext *json, const char *key, json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		put_object(json, key, value);
		break;
	case JSON_ARRAY:
		put_array(json, key, value);
		break;
	case JSON_STRING:
		begin(json, key);
		put_string(json, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
		jsontext_integer(json, key, json_integer_value(value));
		break;
	case JSON_REAL:
		jsontext_real(json, key, json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		jsontext_bool(json, key, json_is_true(value));
		break;
	case JSON_NULL:
		jsontext_text(json, key, NULL);
		break;
	}
}

void jsontext_tree(struct jsontext *json, const char *key, json_t *tree)
{
	if (tree)
		put_value(json, key, tree);
	else
		json->failed = true;
	json_decref(tree);
}

char *jsontext_finish(struct jsontext *json, size_t *ret_length)
{
	char *text;

	put(json, "\n", 2); /* with its NUL */
	text = json->failed ? NULL : json->text;
	if (!text)
		free(json->text);
	else
		*ret_length = json->used - 1;
	*json = (struct jsontext){ 0 };
	return text;
}

char *jsontext_line(json_t *tree, size_t *ret_length)
{
	struct jsontext json = { 0 };

	put_value(&json, NULL, tree);
	return jsontext_finish(&json, ret_length);
}

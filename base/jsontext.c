/* SPDX-License-Identifier: MIT */
#include "base/jsontext.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
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

struct writer {
	char *text;
	size_t used, size;
	bool failed;
};

static void put(struct writer *writer, const char *bytes, size_t length)
{
	if (length > writer->size - writer->used) {
		size_t size = writer->size + (length > writer->size ? length : writer->size);
		char *text = writer->failed ? NULL : realloc(writer->text, size);

		writer->failed = !text;
		if (!text)
			return;
		writer->text = text;
		writer->size = size;
	}
	memcpy(writer->text + writer->used, bytes, length);
	writer->used += length;
}

static void put_escape(struct writer *writer, char byte)
{
	static const char hex[] = "0123456789ABCDEF", plain[] = "\"\\\b\f\n\r\t";
	static const char names[] = "\"\\bfnrt";
	const char *found = byte ? strchr(plain, byte) : NULL;
	char escape[] = "\\u00xx";

	if (found) {
		escape[1] = names[found - plain];
		put(writer, escape, 2);
		return;
	}
	escape[4] = hex[(unsigned char)byte >> 4];
	escape[5] = hex[(unsigned char)byte & 15];
	put(writer, escape, 6);
}

static void put_string(struct writer *writer, const char *text, size_t length)
{
	const char *end = text + length, *from = text;

	put(writer, "\"", 1);
	for (const char *at = text; at < end; at++) {
		if ((unsigned char)*at >= 0x20 && *at != '"' && *at != '\\')
			continue;
		put(writer, from, (size_t)(at - from));
		put_escape(writer, *at);
		from = at + 1;
	}
	put(writer, from, (size_t)(end - from));
	put(writer, "\"", 1);
}

static void put_unsigned(struct writer *writer, uint64_t number)
{
	char digits[20], *end = digits + sizeof(digits), *at = end;

	do
		*--at = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	put(writer, at, (size_t)(end - at));
}

static void put_integer(struct writer *writer, json_int_t number)
{
	uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

	if (number < 0)
		put(writer, "-", 1);
	put_unsigned(writer, size);
}

/* Seconds to the microsecond, which most of our fractions are. False when it is another number. */
static bool put_micros(struct writer *writer, double number)
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
		put(writer, "-", 1);
	put_unsigned(writer, whole / 1000000);
	whole %= 1000000;
	for (unsigned i = FRACTION_DIGITS; i > 0; i--, whole /= 10)
		fraction[i] = (char)('0' + whole % 10);
	while (digits > 1 && fraction[digits] == '0')
		digits--;
	put(writer, fraction, digits + 1);
	return true;
}

static void put_real(struct writer *writer, double number)
{
	char text[40];

	if (put_micros(writer, number))
		return;
	(void)snprintf(text, sizeof(text), "%.*g", REAL_DIGITS, number);
	put(writer, text, strlen(text));
	if (!strpbrk(text, ".e"))
		put(writer, ".0", 2);
}

static void put_value(struct writer *writer, json_t *value);

static void put_array(struct writer *writer, json_t *array)
{
	for (size_t i = 0; i < json_array_size(array); i++) {
		put(writer, i > 0 ? "," : "[", 1);
		put_value(writer, json_array_get(array, i));
	}
	if (json_array_size(array) == 0)
		put(writer, "[", 1);
	put(writer, "]", 1);
}

static void put_object(struct writer *writer, json_t *object)
{
	bool first = true;

	for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
		const char *key = json_object_iter_key(at);

		put(writer, first ? "{" : ",", 1);
		first = false;
		put_string(writer, key, strlen(key));
		put(writer, ":", 1);
		put_value(writer, json_object_iter_value(at));
	}
	if (first)
		put(writer, "{", 1);
	put(writer, "}", 1);
}

static void put_value(struct writer *writer, json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		put_object(writer, value);
		break;
	case JSON_ARRAY:
		put_array(writer, value);
		break;
	case JSON_STRING:
		put_string(writer, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
		put_integer(writer, json_integer_value(value));
		break;
	case JSON_REAL:
		put_real(writer, json_real_value(value));
		break;
	case JSON_TRUE:
		put(writer, "true", 4);
		break;
	case JSON_FALSE:
		put(writer, "false", 5);
		break;
	case JSON_NULL:
		put(writer, "null", 4);
		break;
	}
}

char *jsontext_line(json_t *value, size_t *ret_length)
{
	struct writer writer = { .text = malloc(FIRST_SIZE), .size = FIRST_SIZE };

	if (!writer.text)
		return NULL;
	put_value(&writer, value);
	put(&writer, "\n", 2); /* with its NUL */
	if (writer.failed) {
		free(writer.text);
		return NULL;
	}
	*ret_length = writer.used - 1;
	return writer.text;
}

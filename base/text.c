/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	FRACTION_DIGITS_MAX = 6,
	NEAREST_MAX = 64, /* bytes of a word that is worth guessing at */
};

/* Far from where a sum with the clock could wrap, or be taken for "infinite". */
static const uint64_t DURATION_MAX_US = UINT64_C(36500) * 24 * 3600 * 1000000;

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit duration_units[] = {
	{ "ms", 1000 },
	{ "s", 1000000 },
	{ "m", UINT64_C(60) * 1000000 },
	{ "h", UINT64_C(3600) * 1000000 },
	{ "d", UINT64_C(24) * 3600 * 1000000 },
	{ NULL, 0 },
};

static const struct unit size_units[] = {
	{ "KiB", UINT64_C(1) << 10 },
	{ "MiB", UINT64_C(1) << 20 },
	{ "GiB", UINT64_C(1) << 30 },
	{ "TiB", UINT64_C(1) << 40 },
	{ "kB", 1000 },
	{ "MB", 1000000 },
	{ "GB", 1000000000 },
	{ "TB", UINT64_C(1000000000000) },
	{ NULL, 0 },
};

int text_to_uint64(uint64_t *ret, const char *text, uint64_t min, uint64_t max, struct error *err)
{
	uint64_t value = 0;
	bool legal = *text != '\0';

	for (const char *at = text; legal && *at; at++)
		legal = isdigit((unsigned char)*at) &&
			!__builtin_mul_overflow(value, UINT64_C(10), &value) &&
			!__builtin_add_overflow(value, (uint64_t)(*at - '0'), &value);
	if (!legal || value < min || value > max) {
		char shown[64];

		(void)text_escape(shown, sizeof(shown), text, strlen(text));
		return error_set(err, -EINVAL, "'%s' is not a number from %" PRIu64 " to %" PRIu64,
				 shown, min, max);
	}
	*ret = value;
	return 0;
}

/* Digits with an optional fraction, as a count of 10^-FRACTION_DIGITS_MAX. */
struct number {
	uint64_t whole, millionths;
	size_t length; /* bytes read, 0 when there is no number or it is too long */
};

static struct number read_number(const char *text)
{
	struct number number = { 0 };
	uint64_t place = 1000000;
	const char *at = text;

	if (!isdigit((unsigned char)*at))
		return number;
	for (; isdigit((unsigned char)*at); at++)
		if (__builtin_mul_overflow(number.whole, UINT64_C(10), &number.whole) ||
		    __builtin_add_overflow(number.whole, (uint64_t)(*at - '0'), &number.whole))
			return number;
	if (*at == '.') {
		if (!isdigit((unsigned char)at[1]))
			return number;
		for (at++; isdigit((unsigned char)*at); at++) {
			if (place == 1)
				return number;
			place /= 10;
			number.millionths += place * (uint64_t)(*at - '0');
		}
	}
	number.length = (size_t)(at - text);
	return number;
}

/* Adds number * factor to *sum; false when that does not fit below max. */
static bool add_scaled(uint64_t *sum, const struct number *number, uint64_t factor, uint64_t max)
{
	uint64_t whole, fraction = 0;

	if (__builtin_mul_overflow(number->whole, factor, &whole) ||
	    __builtin_mul_overflow(number->millionths, factor, &fraction))
		return false;
	return !__builtin_add_overflow(*sum, whole, sum) &&
	       !__builtin_add_overflow(*sum, fraction / 1000000, sum) && *sum <= max;
}

static const struct unit *read_unit(const char *text, size_t *ret_length, const struct unit *units)
{
	size_t length = 0;

	while (isalpha((unsigned char)text[length]))
		length++;
	*ret_length = length;
	for (; units->name; units++)
		if (strlen(units->name) == length && strncmp(units->name, text, length) == 0)
			return units;
	return NULL;
}

bool text_number_before(uint64_t *ret, const char *text, const char *suffix)
{
	char digits[24];
	size_t length = strlen(text), tail = strlen(suffix);

	if (length <= tail || length - tail >= sizeof(digits) ||
	    strcmp(text + length - tail, suffix) != 0)
		return false;
	memcpy(digits, text, length - tail);
	digits[length - tail] = '\0';
	return text_to_uint64(ret, digits, 0, UINT64_MAX, NULL) >= 0;
}

int text_to_duration_us(uint64_t *ret_us, const char *text, struct error *err)
{
	const char *at = text;
	uint64_t sum = 0;
	char shown[64];

	do {
		struct number number = read_number(at);
		const struct unit *unit;
		uint64_t factor = 1000000;
		size_t length;

		at += number.length;
		unit = read_unit(at, &length, duration_units);
		if (unit)
			factor = unit->factor;
		if (number.length == 0 || (!unit && (at != text + number.length || *at))) {
			(void)text_escape(shown, sizeof(shown), text, strlen(text));
			return error_set(err, -EINVAL,
					 "'%s' is not a duration such as 500ms, 30s, 10m, 2h, 1d "
					 "or a number of seconds",
					 shown);
		}
		if (!add_scaled(&sum, &number, factor, DURATION_MAX_US)) {
			(void)text_escape(shown, sizeof(shown), text, strlen(text));
			return error_set(err, -EINVAL, "duration '%s' is over 36500d", shown);
		}
		at += length;
		if (*at == ' ' && isdigit((unsigned char)at[1]))
			at++;
	} while (*at);

	*ret_us = sum;
	return 0;
}

int text_to_size(uint64_t *ret_bytes, const char *text, struct error *err)
{
	struct number number = read_number(text);
	const char *at = text + number.length;
	const struct unit *unit;
	uint64_t sum = 0;
	char shown[64];
	size_t length;

	unit = read_unit(at, &length, size_units);
	(void)text_escape(shown, sizeof(shown), text, strlen(text));
	if (number.length == 0 || at[length] || (length > 0 && !unit) ||
	    (length == 0 && number.millionths > 0))
		return error_set(err, -EINVAL, "'%s' is not a size such as 4096, 512KiB or 2GiB",
				 shown);
	if (!add_scaled(&sum, &number, unit ? unit->factor : 1, INT64_MAX))
		return error_set(err, -EINVAL, "size '%s' is too large", shown);
	*ret_bytes = sum;
	return 0;
}

const char *text_format_size(char *buffer, size_t size, uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;

	while (bytes > 0 && bytes % 1024 == 0 && unit + 1 < ARRAY_SIZE(units)) {
		bytes /= 1024;
		unit++;
	}
	(void)snprintf(buffer, size, "%" PRIu64 " %s", bytes, units[unit]);
	return buffer;
}

const char *text_format_ordinal(char *buffer, size_t size, uint64_t number)
{
	static const char *const endings[] = { "th", "st", "nd", "rd" };
	unsigned last = (unsigned)(number % 10);
	bool teens = number / 10 % 10 == 1;

	(void)snprintf(buffer, size, "%" PRIu64 "%s", number,
		       endings[teens || last > 3 ? 0 : last]);
	return buffer;
}

const char *text_format_duration(char *buffer, size_t size, uint64_t duration_us)
{
	static const char letters[] = "dhms";
	uint64_t ms = duration_us / 1000, s = ms / 1000;
	uint64_t parts[] = { s / 86400, s / 3600 % 24, s / 60 % 60, s % 60 };
	size_t first = 0;

	if (duration_us > 0 && ms == 0)
		(void)snprintf(buffer, size, "<1ms");
	else if (ms > 0 && s == 0)
		(void)snprintf(buffer, size, "%" PRIu64 "ms", ms);
	else if (s < 60 && ms % 1000 > 0) {
		uint64_t fraction = ms % 1000;
		int digits = 3;

		for (; fraction % 10 == 0; fraction /= 10)
			digits--;
		(void)snprintf(buffer, size, "%" PRIu64 ".%0*" PRIu64 "s", s, digits, fraction);
	} else {
		while (first < 3 && parts[first] == 0)
			first++;
		if (first < 3 && parts[first + 1] > 0)
			(void)snprintf(buffer, size, "%" PRIu64 "%c %" PRIu64 "%c", parts[first],
				       letters[first], parts[first + 1], letters[first + 1]);
		else
			(void)snprintf(buffer, size, "%" PRIu64 "%c", parts[first], letters[first]);
	}
	return buffer;
}

bool text_is_name(const char *text)
{
	size_t length = strlen(text);

	return length >= 1 && length <= TEXT_NAME_MAX && isalpha((unsigned char)text[0]) &&
	       strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
		       length;
}

size_t text_decode_utf8(uint32_t *ret_code, const char *text, size_t length)
{
	/* The smallest code that needs this many bytes: below it a sequence is overlong. */
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *bytes = (const unsigned char *)text;
	uint32_t code;
	size_t need;

	if (length == 0)
		return 0;
	if (bytes[0] < 0x80)
		need = 1;
	else if (bytes[0] >= 0xc2 && bytes[0] < 0xe0)
		need = 2;
	else if (bytes[0] >= 0xe0 && bytes[0] < 0xf0)
		need = 3;
	else if (bytes[0] >= 0xf0 && bytes[0] < 0xf5)
		need = 4;
	else
		return 0;
	if (need > length)
		return 0;

	code = need == 1 ? bytes[0] : bytes[0] & (0x7fU >> need);
	for (size_t i = 1; i < need; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (bytes[i] & 0x3f);
	}
	if (code < smallest[need] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	*ret_code = code;
	return need;
}

size_t text_whole_utf8(const char *text, size_t length)
{
	size_t behind = 0, need;
	unsigned char lead;

	while (behind < length && behind < 3 && (text[length - 1 - behind] & 0xc0) == 0x80)
		behind++;
	if (behind == length)
		return length;
	lead = (unsigned char)text[length - 1 - behind];
	need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
	return behind + 1 < need ? length - 1 - behind : length;
}

/*
 * Characters that move what stands around them on a terminal: controls (C0, DEL, C1), line ends,
 * and those that set the direction of writing.
 *
 * Source: Unicode 15, chapter 23.2 and 23.4, and UAX #9.
 */
static bool is_printable_code(uint32_t code)
{
	return code >= 0x20 && (code < 0x7f || code >= 0xa0) && code != 0x61c && code != 0x200e &&
	       code != 0x200f && !(code >= 0x2028 && code <= 0x202e) &&
	       !(code >= 0x2066 && code <= 0x2069);
}

bool text_is_printable(const char *text, size_t length)
{
	while (length > 0) {
		uint32_t code = 0;
		size_t used = text_decode_utf8(&code, text, length);

		if (used == 0 || !is_printable_code(code))
			return false;
		text += used;
		length -= used;
	}
	return true;
}

static bool same_letter(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static size_t min3(size_t a, size_t b, size_t c)
{
	if (b < a)
		a = b;
	return c < a ? c : a;
}

/* Optimal string alignment: insert, delete, replace, or swap two neighbours. Case costs nothing. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t rows[3][NEAREST_MAX + 1]; /* the row before last, the last and the present one */

	for (size_t j = 0; j <= b_length; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a_length; i++) {
		size_t *row = rows[i % 3], *above = rows[(i + 2) % 3];
		const size_t *two_above = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			size_t cost = same_letter(a[i - 1], b[j - 1]) ? 0 : 1;

			row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost);
			if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
			    same_letter(a[i - 2], b[j - 1]) && two_above[j - 2] + 1 < row[j])
				row[j] = two_above[j - 2] + 1;
		}
	}
	return rows[a_length % 3][b_length];
}

const char *text_nearest(const char *word, const char *const *known)
{
	size_t length = strlen(word);
	size_t limit = length >= 6 ? length / 3 : 1;
	const char *nearest = NULL;

	if (length == 0 || length > NEAREST_MAX)
		return NULL;
	for (; *known; known++) {
		size_t known_length = strlen(*known), d;

		if (known_length > NEAREST_MAX)
			continue;
		d = distance(word, length, *known, known_length);
		/* The first of several that are as near. */
		if (d <= limit && (!nearest || d < limit)) {
			nearest = *known;
			limit = d;
		}
	}
	return nearest;
}

/* Writes one byte as text into out (at least 5 bytes) and returns the length. */
static size_t escape_byte(char *out, unsigned char byte)
{
	static const char escaped[] = { '\r', 'r', '\n', 'n', '\t', 't', '\x1b', 'e' };

	if (byte >= 0x20 && byte < 0x7f) {
		out[0] = (char)byte;
		return 1;
	}
	for (size_t i = 0; i < sizeof(escaped); i += 2)
		if (byte == (unsigned char)escaped[i]) {
			out[0] = '\\';
			out[1] = escaped[i + 1];
			return 2;
		}
	return (size_t)snprintf(out, 5, "\\x%02x", byte);
}

const char *text_escape(char *buffer, size_t size, const char *bytes, size_t length)
{
	size_t used = 0, cut = 0; /* cut: where "..." would still fit */

	if (size == 0)
		return buffer;
	for (size_t i = 0; i < length; i++) {
		char piece[5];
		size_t need = escape_byte(piece, (unsigned char)bytes[i]);

		if (used + need >= size) {
			(void)snprintf(buffer + cut, size - cut, "...");
			return buffer;
		}
		memcpy(buffer + used, piece, need);
		used += need;
		if (used + 4 <= size)
			cut = used;
	}
	buffer[used] = '\0';
	return buffer;
}

const char *text_show(char *buffer, size_t size, const char *text)
{
	size_t used = 0, length = strlen(text);

	while (length > 0) {
		uint32_t code = 0;
		size_t n = text_decode_utf8(&code, text, length);
		bool plain = n > 0 && is_printable_code(code);

		if (n == 0)
			n = 1;
		if (used + (plain ? n : 4 * n) >= size)
			break;
		if (plain)
			memcpy(buffer + used, text, n);
		else
			for (size_t i = 0; i < n; i++)
				(void)snprintf(buffer + used + 4 * i, 5, "\\x%02x",
					       (unsigned char)text[i]);
		used += plain ? n : 4 * n;
		text += n;
		length -= n;
	}
	if (size > 0)
		buffer[used] = '\0';
	return buffer;
}

/* SPDX-License-Identifier: MIT */
#include "base/jsontext.h"

#include <stdint.h>
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

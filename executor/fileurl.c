/* SPDX-License-Identifier: MIT */
#include "executor/fileurl.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static const char scheme[] = "file:";

bool fileurl_is(const char *url)
{
	return strncasecmp(url, scheme, strlen(scheme)) == 0;
}

/* The value of two hexadecimal digits, or -1. */
static int hex_byte(const char *digits)
{
	int value = 0;

	for (unsigned i = 0; i < 2; i++) {
		static const char known[] = "0123456789abcdef";
		int lower = digits[i] >= 'A' && digits[i] <= 'F' ? digits[i] + 32 : digits[i];
		const char *found = lower ? strchr(known, lower) : NULL;

		if (!found)
			return -1;
		value = value * 16 + (int)(found - known);
	}
	return value;
}

char *fileurl_path(const char *url)
{
	static const char *const hosts[] = { "//localhost/", "///", "/" };
	const char *from = NULL, *rest = url + strlen(scheme);
	free_ char *path = malloc(strlen(url) + 1);
	size_t used = 0;

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]) && !from; i++)
		if (strncasecmp(rest, hosts[i], strlen(hosts[i])) == 0)
			from = rest + strlen(hosts[i]) - 1;
	if (!from || strncmp(from, "//", 2) == 0 || !path)
		return NULL;
	while (*from) {
		int byte = *from == '%' ? hex_byte(from + 1) : (unsigned char)*from;

		if (byte <= 0)
			return NULL;
		from += *from == '%' ? 3 : 1;
		path[used++] = (char)byte;
		if (used >= 2 && memcmp(path + used - 2, "//", 2) == 0)
			used--;
		if (used >= 3 && memcmp(path + used - 3, "/./", 3) == 0)
			used -= 2;
	}
	path[used] = '\0';
	return take_ptr(path);
}

const char *fileurl_beneath(const char *path, const char *root)
{
	size_t length = strlen(root);

	while (length > 0 && root[length - 1] == '/')
		length--;
	if (strncmp(path, root, length) != 0 || path[length] != '/' || !path[length + 1])
		return NULL;
	return path + length + 1;
}

/* SPDX-License-Identifier: MIT */
#include "executor/fileurl.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

static const char scheme[] = "file:", empty_host[] = "//", local_host[] = "//localhost";

bool fileurl_is(const char *url)
{
	return strncasecmp(url, scheme, sizeof(scheme) - 1) == 0;
}

static int hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit |= 0x20; /* lower case */
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The path of file:/P, file:///P and file://localhost/P, decoded. RFC 8089. */
static char *decode(const char *url)
{
	const char *from = url + sizeof(scheme) - 1;
	char *path, *to;

	if (strncmp(from, local_host, sizeof(local_host) - 1) == 0)
		from += sizeof(local_host) - 1;
	else if (strncmp(from, empty_host, sizeof(empty_host) - 1) == 0)
		from += sizeof(empty_host) - 1;
	if (*from != '/')
		return NULL;
	path = to = malloc(strlen(from) + 1);
	while (path && *from) {
		unsigned char byte = (unsigned char)*from;

		if (byte == '%') {
			int high = hex_value(from[1]), low = high < 0 ? -1 : hex_value(from[2]);

			byte = low < 0 ? 0 : (unsigned char)(high << 4 | low);
			if (byte == 0) {
				free(path);
				return NULL;
			}
			from += 2;
		}
		memcpy(to++, &byte, 1);
		from++;
	}
	if (path)
		*to = '\0';
	return path;
}

/* RFC 3986: unreserved characters and '/' stand for themselves. */
static int encode(char **ret, const char *path, struct error *err)
{
	static const char hex[] = "0123456789ABCDEF";
	char *url = malloc(sizeof(scheme) + sizeof(empty_host) + 3 * strlen(path));
	char *to = url;

	if (!url)
		return error_oom(err);
	to = stpcpy(stpcpy(to, scheme), empty_host);
	for (; *path; path++) {
		unsigned char byte = (unsigned char)*path;

		if (isalnum(byte) || strchr("/-._~", byte)) {
			*to++ = (char)byte;
		} else {
			*to++ = '%';
			*to++ = hex[byte >> 4];
			*to++ = hex[byte & 15];
		}
	}
	*to = '\0';
	*ret = url;
	return 0;
}

static bool lies_beneath(const char *path, const char *root)
{
	free_ char *resolved = realpath(root, NULL);
	size_t length = resolved ? strlen(resolved) : 0;

	if (length == 0)
		return false;
	if (length == 1) /* "/" */
		return true;
	return strncmp(path, resolved, length) == 0 && path[length] == '/';
}

int fileurl_resolve(char **ret, const char *url, const json_t *roots, struct error *err)
{
	free_ char *path = decode(url);
	free_ char *resolved = NULL;
	size_t index;
	json_t *root;

	if (!path)
		return error_set(err, -EINVAL, "'%.128s' is no URL of the form file:///PATH", url);
	resolved = realpath(path, NULL);
	if (!resolved)
		return error_errno(err, "%.128s", url);
	json_array_foreach(roots, index, root)
		if (json_is_string(root) && lies_beneath(resolved, json_string_value(root)))
			return encode(ret, resolved, err);
	return error_set(err, -EACCES, "%.128s lies outside of api.file_roots", url);
}

int fileurl_of_fd(char **ret, int fd, struct error *err)
{
	char link[48], path[PATH_MAX];
	ssize_t length;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return error_errno(err, "cannot read the path of a file");
	path[length] = '\0';
	return encode(ret, path, err);
}

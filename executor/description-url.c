/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/description-internal.h"
#include "executor/fileurl.h"

/* Where the files of a deployment come from. */

enum { URL_BYTES_MAX = 4096 };

static const char bucket_scheme[] = "bucket:";

/* Whether one of the names in a path is "..", "." or empty (the first may be: "/a"). */
static bool has_odd_names(const char *path)
{
	for (const char *at = *path == '/' ? path + 1 : path;;) {
		size_t length = strcspn(at, "/");

		if (length == 0 || (length == 1 && *at == '.') ||
		    (length == 2 && strncmp(at, "..", 2) == 0))
			return true;
		if (!at[length])
			return false;
		at += length + 1;
	}
}

/* By name only: who opens the file looks at links. */
static void check_file(struct reader *reader, const struct yaml_node *node, const char *path,
		       const char *url)
{
	const json_t *roots = json_object_get(reader->facts, "file_roots"), *root;
	free_ char *file = fileurl_path(url);
	size_t i;

	if (!file) {
		reader_fault(reader, node, path, "%s '%.128s' is not of the form file:///PATH",
			     path, url);
		return;
	}
	if (has_odd_names(file)) {
		reader_fault(reader, node, path, "%s '%.128s' must not hold '..' or end in a slash",
			     path, url);
		return;
	}
	if (!json_is_array(roots))
		return;
	json_array_foreach(roots, i, root)
		if (json_is_string(root) && fileurl_beneath(file, json_string_value(root)))
			return;
	if (json_is_true(json_object_get(reader->facts, "by_tcp")))
		reader_fault(reader, node, path,
			     "%s '%.128s' is refused: file: URLs are not for jobs that come by TCP",
			     path, url);
	else
		reader_fault(reader, node, path,
			     "%s '%.128s' lies outside of this lab's api.file_roots", path, url);
}

static void check_web(struct reader *reader, const struct yaml_node *node, const char *path,
		      const char *url)
{
	const char *host = strstr(url, "://") + 3;

	if (!*host || strchr("/?#", *host))
		reader_fault(reader, node, path, "%s '%.128s' names no host", path, url);
}

static bool has_scheme(const char *url, const char *scheme)
{
	return strncasecmp(url, scheme, strlen(scheme)) == 0;
}

/* Everything else has to be written as %XX. RFC 3986. */
static bool is_plain_text(const char *url)
{
	for (; *url; url++)
		if (*url <= ' ' || *url > '~')
			return false;
	return true;
}

static void check_url(struct reader *reader, const struct yaml_node *node, const char *path,
		      const char *url)
{
	if (strlen(url) > URL_BYTES_MAX)
		reader_fault(reader, node, path, "%s is longer than %d bytes", path, URL_BYTES_MAX);
	else if (!is_plain_text(url))
		reader_fault(reader, node, path,
			     "%s '%.128s' holds a blank or another character that a URL writes as "
			     "%%XX",
			     path, url);
	else if (fileurl_is(url))
		check_file(reader, node, path, url);
	else if (has_scheme(url, "http://") || has_scheme(url, "https://"))
		check_web(reader, node, path, url);
	else
		reader_fault(reader, node, path,
			     "%s '%.128s' must begin with http://, https://, file:/// or bucket:",
			     path, url);
}

void reader_url(struct reader *reader, const struct yaml_node *node, const char *path,
		struct artifact *artifact)
{
	const char *text = reader_text(reader, node, path);
	const char *file;

	if (!text)
		return;
	free(artifact->url);
	free(artifact->bucket);
	artifact->url = artifact->bucket = NULL;
	artifact->line = node->line;
	artifact->column = node->column;
	if (strncmp(text, bucket_scheme, sizeof(bucket_scheme) - 1) != 0) {
		check_url(reader, node, path, text);
		artifact->url = reader_copy(reader, text);
		return;
	}
	file = text + sizeof(bucket_scheme) - 1;
	if (strlen(file) > URL_BYTES_MAX)
		reader_fault(reader, node, path, "%s is longer than %d bytes", path, URL_BYTES_MAX);
	else if (*file == '/' || has_odd_names(file))
		reader_fault(reader, node, path,
			     "%s '%.128s': behind bucket: stands a path in the bucket, without "
			     "'..', '.' or '//'",
			     path, text);
	artifact->bucket = reader_copy(reader, file);
}

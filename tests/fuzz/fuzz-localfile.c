/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "executor/fileurl.h"
#include "executor/localfile.h"
#include "tests/fuzz/fuzz.h"

/*
 * A file: URL of a job's, in which each "@" stands for the folder that has the roots "a" and "b c",
 * links in and out of them, and a secret beside them. Whatever is opened lies in a root.
 */

static void make_links(void)
{
	static const struct {
		const char *target, *name;
	} links[] = {
		{ "../secret", "a/out" },    { "../b c/file", "a/across" }, { "file", "a/in" },
		{ "loop", "a/loop" },	     { "/etc/passwd", "a/passwd" }, { "sub/../..", "a/up" },
		{ "../../../..", "a/root" }, { "nothing", "a/dangling" },
	};

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		assert(symlinkat(links[i].target, fuzz_folder_fd(), links[i].name) == 0);
}

static json_t *make_tree(void)
{
	json_t *roots;

	fuzz_write("secret", "secret", 6);
	fuzz_write("a/file", "1", 1);
	fuzz_write("a/sub", "2", 1);
	fuzz_write("a/per%cent", "3", 1);
	fuzz_write("b c/file", "4", 1);
	fuzz_write("aa/file", "5", 1);
	assert(mkfifoat(fuzz_folder_fd(), "a/fifo", 0600) == 0);
	make_links();
	roots = json_array();
	assert(json_array_append_new(roots, json_sprintf("%s/a", fuzz_folder())) == 0);
	assert(json_array_append_new(roots, json_sprintf("%s/b c/", fuzz_folder())) == 0);
	return roots;
}

/* The input with the folder's path in it. */
static char *make_url(const uint8_t *data, size_t size)
{
	char *url = NULL;
	size_t length = 0;
	FILE *file = open_memstream(&url, &length);

	assert(file);
	for (size_t i = 0; i < size && data[i]; i++)
		if (data[i] == '@')
			(void)fputs(fuzz_folder(), file);
		else
			(void)fputc(data[i], file);
	assert(fclose(file) == 0);
	return url;
}

static void check_place(int fd, const json_t *roots)
{
	char link[64], path[PATH_MAX] = "";
	bool inside = false;
	const json_t *root;
	size_t i;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	assert(readlink(link, path, sizeof(path) - 1) > 0);
	/* clang-format off */
	json_array_foreach(roots, i, root)
		inside = inside || fileurl_beneath(path, json_string_value(root));
	/* clang-format on */
	assert(inside && !strstr(path, "secret"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static json_t *roots;
	free_ char *url = make_url(data, size);
	close_ int fd = -1;
	struct error err = { "" };
	struct stat status;
	int r;

	fuzz_begin();
	if (!roots)
		roots = make_tree();
	if (!fileurl_is(url))
		return 0;
	r = localfile_open(&fd, url, roots, &err);
	if (r < 0) {
		assert(err.text[0] && fd < 0);
		return 0;
	}
	assert(fstat(fd, &status) == 0 && S_ISREG(status.st_mode));
	check_place(fd, roots);
	return 0;
}

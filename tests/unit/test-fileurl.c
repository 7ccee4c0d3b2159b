/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "executor/fileurl.h"

struct place {
	char folder[64], root[80], file[128], outside[80], link[128];
};

static void touch(const char *path)
{
	close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
}

/* root/a b.img, root/link -> ../secret, secret */
static void make(struct place *place)
{
	(void)strcpy(place->folder, "/tmp/test-fileurl-XXXXXX");
	assert_non_null(mkdtemp(place->folder));
	(void)snprintf(place->root, sizeof(place->root), "%s/root", place->folder);
	(void)snprintf(place->file, sizeof(place->file), "%s/a b.img", place->root);
	(void)snprintf(place->outside, sizeof(place->outside), "%s/secret", place->folder);
	(void)snprintf(place->link, sizeof(place->link), "%s/link", place->root);
	assert_int_equal(mkdir(place->root, 0700), 0);
	touch(place->file);
	touch(place->outside);
	assert_int_equal(symlink(place->outside, place->link), 0);
}

static void clean(const struct place *place)
{
	(void)unlink(place->link);
	(void)unlink(place->file);
	(void)unlink(place->outside);
	(void)rmdir(place->root);
	(void)rmdir(place->folder);
}

static int resolve(char **ret, const char *prefix, const char *path, const char *root,
		   struct error *err)
{
	json_t *roots = json_pack("[s]", root);
	char url[256];
	int r;

	(void)snprintf(url, sizeof(url), "%s%s", prefix, path);
	r = fileurl_resolve(ret, url, roots, err);
	json_decref(roots);
	return r;
}

static void a_file_beneath_a_root_is_found_in_every_spelling(void **state)
{
	static const char *const prefixes[] = { "file:", "file://", "file://localhost", "FILE://" };
	struct place place;
	char escaped[128];
	struct error err;

	(void)state;
	make(&place);
	(void)snprintf(escaped, sizeof(escaped), "%s/./a%%20b.img", place.root);
	for (size_t i = 0; i < 4; i++) {
		free_ char *url = NULL;
		char expected[160];

		(void)snprintf(expected, sizeof(expected), "file://%s/a%%20b.img", place.root);
		assert_int_equal(resolve(&url, prefixes[i], escaped, place.root, &err), 0);
		assert_string_equal(url, expected);
	}
	clean(&place);
}

static void what_lies_outside_is_refused_also_through_links(void **state)
{
	struct place place;
	struct error err;
	char *url = NULL;
	char path[160], similar[96];

	(void)state;
	make(&place);
	assert_int_equal(resolve(&url, "file://", place.outside, place.root, &err), -EACCES);
	assert_non_null(strstr(err.text, "lies outside of api.file_roots"));
	assert_int_equal(resolve(&url, "file://", place.link, place.root, &err), -EACCES);
	(void)snprintf(path, sizeof(path), "%s/%%2e%%2e/secret", place.root);
	assert_int_equal(resolve(&url, "file://", path, place.root, &err), -EACCES);
	/* "/x/ro" is no root of "/x/root/...". */
	(void)snprintf(similar, sizeof(similar), "%s/ro", place.folder);
	assert_int_equal(mkdir(similar, 0700), 0);
	assert_int_equal(resolve(&url, "file://", place.file, similar, &err), -EACCES);
	assert_int_equal(rmdir(similar), 0);
	assert_int_equal(fileurl_resolve(&url, "file:///etc/passwd", NULL, &err), -EACCES);
	clean(&place);
}

static void what_is_no_file_url_is_refused_with_its_words(void **state)
{
	static const char *const urls[] = { "file://other/x", "file:x", "file:///a%",
					    "file:///a%zz", "file:///a%00b" };
	struct error err;
	char *url = NULL;

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(fileurl_resolve(&url, urls[i], NULL, &err), -EINVAL);
		assert_non_null(strstr(err.text, "is no URL of the form file:///PATH"));
	}
	assert_int_equal(fileurl_resolve(&url, "file:///nowhere/at/all", NULL, &err), -ENOENT);
	assert_false(fileurl_is("http://x/file:"));
}

static void an_open_file_has_a_url(void **state)
{
	struct place place;
	free_ char *url = NULL;
	char expected[160];
	struct error err;
	int fd;

	(void)state;
	make(&place);
	fd = open(place.file, O_RDONLY | O_CLOEXEC);
	assert_int_equal(fileurl_of_fd(&url, fd, &err), 0);
	(void)snprintf(expected, sizeof(expected), "file://%s/a%%20b.img", place.root);
	assert_string_equal(url, expected);
	(void)close_fd(fd);
	clean(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_beneath_a_root_is_found_in_every_spelling),
		cmocka_unit_test(what_lies_outside_is_refused_also_through_links),
		cmocka_unit_test(what_is_no_file_url_is_refused_with_its_words),
		cmocka_unit_test(an_open_file_has_a_url),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/archive.h"
#include "base/attr.h"
#include "base/cleanup.h"
#include "base/folder.h"

/* A folder of its own for each test: box.dir is empty, box.path is its path. */
struct box {
	char path[64];
	int root, dir;
};

/* A tar made by hand, so that it can hold what no honest program writes. */
struct tar {
	int fd;
};

static int make_box(void **state)
{
	struct box *box = calloc(1, sizeof(*box));

	strcpy(box->path, "/tmp/dut-archive-XXXXXX");
	assert_non_null(mkdtemp(box->path));
	box->root = open(box->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(box->root, "in", 0755), 0);
	box->dir = openat(box->root, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(box->dir >= 0);
	*state = box;
	return 0;
}

static int drop_box(void **state)
{
	struct box *box = *state;

	assert_int_equal(folder_clear(box->root, NULL), 0);
	assert_int_equal(rmdir(box->path), 0);
	(void)close(box->root);
	(void)close(box->dir);
	free(box);
	return 0;
}

static void tar_open(struct tar *tar)
{
	tar->fd = memfd_create("tar", MFD_CLOEXEC);
	assert_true(tar->fd >= 0);
}

static void tar_write(const struct tar *tar, const void *data, size_t length)
{
	assert_int_equal(write(tar->fd, data, length), length);
}

/* Adds a header (POSIX.1-1988 ustar) and, for a file, content padded to blocks. */
static void tar_add(const struct tar *tar, char type, const char *name, const char *target,
		    const void *data, size_t size)
{
	char block[512] = { 0 };
	unsigned sum = 0;

	(void)snprintf(block, 101, "%s", name);
	(void)snprintf(block + 100, 8, "%07o", 0777);
	(void)snprintf(block + 108, 8, "%07o", 0);
	(void)snprintf(block + 116, 8, "%07o", 0);
	(void)snprintf(block + 124, 12, "%011zo", size);
	(void)snprintf(block + 136, 12, "%011o", 1000000000);
	memset(block + 148, ' ', 8);
	block[156] = type;
	memcpy(block + 157, target, strnlen(target, 100));
	memcpy(block + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(block); i++)
		sum += (unsigned char)block[i];
	(void)snprintf(block + 148, 8, "%06o", sum);
	tar_write(tar, block, sizeof(block));
	if (data) {
		memset(block, 0, sizeof(block));
		tar_write(tar, data, size);
		tar_write(tar, block, (512 - size % 512) % 512);
	}
}

static void tar_end(const struct tar *tar)
{
	static const char zeros[1024];

	tar_write(tar, zeros, sizeof(zeros));
}

static const struct archive_unpack_options generous = { .max_bytes = 1 << 20, .max_files = 100 };

static int unpack(const struct box *box, const struct tar *tar, struct error *err)
{
	uint64_t bytes;
	int r = archive_unpack(tar->fd, box->dir, &generous, &bytes, err);

	(void)close(tar->fd);
	return r;
}

static void assert_content(int dir_fd, const char *path, const char *content)
{
	close_ int fd = openat(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[256];
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	assert_string_equal(text, content);
}

static void make_file(int dir_fd, const char *path, const char *content)
{
	close_ int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
}

/* One hostile entry behind a good one: the whole archive is refused with this text, and nothing is
 * left. */
static void assert_refused(const struct box *box, char type, const char *name, const char *target,
			   const char *text)
{
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '0', "good", "", "x", 1);
	tar_add(&tar, type, name, target, NULL, 0);
	tar_end(&tar);
	assert_int_equal(unpack(box, &tar, &err), -EINVAL);
	assert_string_equal(err.text, text);
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
}

static void files_folders_and_links_inside_are_unpacked(void **state)
{
	const struct box *box = *state;
	struct stat found;
	char target[32] = "";
	uint64_t bytes;
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '5', "./", "", NULL, 0);
	tar_add(&tar, '5', "sub/", "", NULL, 0);
	tar_add(&tar, '0', "./sub//a", "", "hello", 5);
	tar_add(&tar, '0', "deep/er/b", "", "", 0);
	tar_add(&tar, '2', "sub/link", "../deep/er", NULL, 0);
	tar_add(&tar, '1', "hard", "sub/a", NULL, 0);
	tar_end(&tar);
	assert_int_equal(archive_unpack(tar.fd, box->dir, &generous, &bytes, &err), 0);
	(void)close(tar.fd);
	assert_int_equal(bytes, 5);
	assert_content(box->dir, "sub/a", "hello");
	assert_content(box->dir, "hard", "hello");
	assert_content(box->dir, "deep/er/b", "");
	assert_int_equal(readlinkat(box->dir, "sub/link", target, sizeof(target) - 1), 10);
	assert_string_equal(target, "../deep/er");
	assert_int_equal(fstatat(box->dir, "sub/a", &found, 0), 0);
	assert_int_equal(found.st_mode & 07022, 0);
	assert_int_equal(found.st_mode & 0700, 0700);
	assert_int_equal(found.st_nlink, 2);
	assert_int_equal(found.st_mtime, 1000000000);
}

static void what_leaves_the_folder_is_refused_as_a_whole(void **state)
{
	const struct box *box = *state;

	assert_refused(box, '0', "../x", "", "entry '../x' leaves the folder");
	assert_refused(box, '0', "a/../../x", "", "entry 'a/../../x' leaves the folder");
	assert_refused(box, '0', "a/..", "", "entry 'a/..' leaves the folder");
	assert_refused(box, '0', "/etc/x", "", "entry '/etc/x' is an absolute path");
	assert_refused(box, '0', ".", "", "entry '.' is no name for a file");
	assert_refused(box, '2', "l", "/etc", "entry 'l' is a link out of the folder, to '/etc'");
	assert_refused(box, '2', "l", "..", "entry 'l' is a link out of the folder, to '..'");
	assert_refused(box, '2', "s/l", "../../x",
		       "entry 's/l' is a link out of the folder, to '../../x'");
	/* Through another link, which itself stays inside. */
	assert_refused(box, '2', "l", "s/up/../x",
		       "entry 'l' is a link out of the folder, to 's/up/../x'");
	assert_refused(box, '1', "h", "../x", "entry 'h' is a link out of the folder, to '../x'");
	assert_refused(box, '1', "h", "/etc/passwd",
		       "entry 'h' is a link out of the folder, to '/etc/passwd'");
}

static void what_is_neither_file_nor_folder_is_refused(void **state)
{
	const struct box *box = *state;

	assert_refused(box, '3', "console", "", "entry 'console' is a device");
	assert_refused(box, '4', "sda", "", "entry 'sda' is a device");
	assert_refused(box, '6', "pipe", "", "entry 'pipe' is a fifo");
}

static void a_name_with_control_characters_is_escaped_in_the_text(void **state)
{
	const struct box *box = *state;

	assert_refused(box, '0', "../\x1b[31m\n", "", "entry '../\\e[31m\\n' leaves the folder");
}

static void a_link_is_never_followed(void **state)
{
	const struct box *box = *state;
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '5', "d", "", NULL, 0);
	tar_add(&tar, '2', "l", "d", NULL, 0);
	tar_add(&tar, '0', "l/x", "", "x", 1);
	tar_end(&tar);
	assert_int_equal(unpack(box, &tar, &err), -ENOTDIR);
	assert_string_equal(err.text, "entry 'l/x': 'l' is no folder");
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
}

static void a_hard_link_needs_a_file_of_the_archive(void **state)
{
	const struct box *box = *state;
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '1', "h", "missing", NULL, 0);
	tar_end(&tar);
	assert_int_equal(unpack(box, &tar, &err), -ENOENT);
	assert_string_equal(err.text,
			    "entry 'h': a hard link to 'missing': No such file or directory");

	tar_open(&tar);
	tar_add(&tar, '2', "a/b/l", "../../x", NULL, 0);
	tar_add(&tar, '1', "h", "a/b/l", NULL, 0);
	tar_end(&tar);
	assert_int_equal(unpack(box, &tar, &err), -EINVAL);
	assert_string_equal(err.text, "entry 'h': a hard link to 'a/b/l', which is no file");
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
}

static void of_names_that_come_twice_the_last_counts(void **state)
{
	const struct box *box = *state;
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '0', "a", "", "first", 5);
	tar_add(&tar, '0', "a", "", "last", 4);
	tar_add(&tar, '1', "a", "a", NULL, 0);
	tar_add(&tar, '2', "b", "a", NULL, 0);
	tar_add(&tar, '0', "b", "", "b", 1);
	tar_add(&tar, '5', "d", "", NULL, 0);
	tar_add(&tar, '5', "d", "", NULL, 0);
	tar_end(&tar);
	assert_int_equal(unpack(box, &tar, &err), 0);
	assert_content(box->dir, "a", "last");
	assert_content(box->dir, "b", "b");
}

static void a_name_cannot_be_file_and_folder(void **state)
{
	const struct box *box = *state;
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '0', "a/b", "", "x", 1);
	tar_add(&tar, '0', "a", "", "x", 1);
	tar_end(&tar);
	assert_int_equal(unpack(box, &tar, &err), -EISDIR);
	assert_string_equal(err.text, "entry 'a': cannot take its place: Is a directory");

	tar_open(&tar);
	tar_add(&tar, '0', "a", "", "x", 1);
	tar_add(&tar, '5', "a", "", NULL, 0);
	tar_end(&tar);
	assert_int_equal(unpack(box, &tar, &err), -ENOTDIR);
	assert_string_equal(err.text, "entry 'a': 'a' is no folder");
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
}

static void limits_are_named_and_exact(void **state)
{
	const struct box *box = *state;
	struct archive_unpack_options options = { .max_bytes = 10, .max_files = 3 };
	uint64_t bytes;
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '0', "a", "", "12345", 5);
	tar_add(&tar, '0', "b", "", "12345", 5);
	tar_add(&tar, '5', "c", "", NULL, 0);
	tar_end(&tar);
	options.max_files = 2;
	options.max_files_key = "limits.x";
	assert_int_equal(archive_unpack(tar.fd, box->dir, &options, &bytes, &err), -E2BIG);
	assert_string_equal(
		err.text, "entry 'c': the archive holds more than 2 files and folders (limits.x)");
	options.max_files = 3;
	options.max_bytes = 9;
	assert_int_equal(archive_unpack(tar.fd, box->dir, &options, &bytes, &err), -E2BIG);
	assert_string_equal(err.text, "entry 'b': the archive unpacks to more than 9 bytes");
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
	options.max_bytes = 10;
	assert_int_equal(archive_unpack(tar.fd, box->dir, &options, &bytes, &err), 0);
	assert_int_equal(bytes, 10);
	(void)close(tar.fd);
}

static void folders_that_are_only_in_paths_count_too(void **state)
{
	const struct box *box = *state;
	struct archive_unpack_options options = { .max_bytes = 10, .max_files = 3 };
	uint64_t bytes;
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '0', "a/b/c/d", "", "1", 1);
	tar_end(&tar);
	assert_int_equal(archive_unpack(tar.fd, box->dir, &options, &bytes, &err), -E2BIG);
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
	(void)close(tar.fd);
}

static void names_have_limits(void **state)
{
	const struct box *box = *state;
	char pax[8192], name[8100] = "";
	struct tar tar;
	struct error err;

	for (unsigned i = 0; i <= FOLDER_DEPTH_MAX; i++)
		(void)stpcpy(name + (size_t)2 * i, "d/");
	for (unsigned i = 0; i < 2; i++) {
		/* "LENGTH path=NAME\n" of a pax header, whose length counts itself. */
		int length = (int)strlen(name) + (i == 0 ? 10 : 11);

		assert_int_equal(snprintf(pax, sizeof(pax), "%d path=%s\n", length, name), length);
		tar_open(&tar);
		tar_add(&tar, 'x', "pax", "", pax, (size_t)length);
		tar_add(&tar, '5', "short", "", NULL, 0);
		tar_end(&tar);
		assert_int_equal(unpack(box, &tar, &err), -EINVAL);
		assert_non_null(strstr(err.text, i == 0 ? "is too deep" : "is too long"));
		memset(name, 'n', 1000);
		name[1000] = '\0';
	}
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
}

static void utf8_and_other_bytes_in_names_survive(void **state)
{
	static const char pax[] = "20 path=gr\xc3\xbc\xc3\x9f"
				  "e/\xe2\x82\xac\n";
	const struct box *box = *state;
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, 'x', "pax", "", pax, sizeof(pax) - 1);
	tar_add(&tar, '0', "short", "", "1", 1);
	tar_add(&tar, '0', "latin-\xe9", "", "2", 1);
	tar_end(&tar);
	assert_int_equal(sizeof(pax) - 1, 20);
	assert_int_equal(unpack(box, &tar, &err), 0);
	assert_content(box->dir,
		       "gr\xc3\xbc\xc3\x9f"
		       "e/\xe2\x82\xac",
		       "1");
	assert_content(box->dir, "latin-\xe9", "2");
}

static void a_truncated_archive_leaves_nothing(void **state)
{
	const struct box *box = *state;
	static char content[5000];
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '0', "whole", "", "x", 1);
	tar_add(&tar, '0', "cut", "", content, sizeof(content));
	assert_int_equal(ftruncate(tar.fd, 1024 + 512 + 600), 0);
	assert_int_equal(unpack(box, &tar, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "the archive cannot be read: "));
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
}

static void what_is_no_archive_is_refused(void **state)
{
	const struct box *box = *state;
	static const char mtree[] = "#mtree\npasswd type=file contents=/etc/passwd\n";
	int pipes[2];
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_write(&tar, "certainly not a tar", 19);
	assert_int_equal(unpack(box, &tar, &err), -EBADMSG);
	assert_string_equal(err.text, "the archive cannot be read: Unrecognized archive format");

	/* A format of libarchive that would read files of this machine. */
	tar_open(&tar);
	tar_write(&tar, mtree, sizeof(mtree) - 1);
	assert_int_equal(unpack(box, &tar, &err), -EBADMSG);

	tar_open(&tar);
	assert_int_equal(unpack(box, &tar, &err), -EBADMSG);

	assert_int_equal(pipe(pipes), 0);
	tar.fd = pipes[0];
	assert_int_equal(unpack(box, &tar, &err), -ESPIPE);
	assert_string_equal(err.text, "the archive must be a regular file");
	(void)close(pipes[1]);
}

static void an_empty_tar_is_an_empty_folder(void **state)
{
	const struct box *box = *state;
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_end(&tar);
	assert_int_equal(unpack(box, &tar, &err), 0);
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
}

static void the_folder_must_be_empty(void **state)
{
	const struct box *box = *state;
	struct tar tar;
	struct error err;

	make_file(box->dir, "here", "already");
	tar_open(&tar);
	tar_end(&tar);
	assert_int_equal(unpack(box, &tar, &err), -ENOTEMPTY);
	assert_string_equal(err.text, "the folder to unpack into is not empty");
	assert_content(box->dir, "here", "already");
}

static void a_full_disk_leaves_nothing(void **state)
{
	const struct box *box = *state;
	struct rlimit before, little = { .rlim_cur = 4096 };
	static char content[5000];
	struct tar tar;
	struct error err;

	tar_open(&tar);
	tar_add(&tar, '0', "whole", "", "x", 1);
	tar_add(&tar, '0', "big", "", content, sizeof(content));
	tar_end(&tar);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	little.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
	assert_int_equal(unpack(box, &tar, &err), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_string_equal(err.text, "entry 'big': cannot write: File too large");
	assert_int_equal(folder_is_empty(box->dir, NULL), 1);
}

/* clang-format off */
static const unsigned char gzip_tar[] = {
	0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xcd, 0x31, 0x0a,
	0x84, 0x40, 0x10, 0x04, 0xc0, 0x89, 0x7d, 0xc5, 0xbd, 0x40, 0x44, 0x44, 0xdf, 0x63,
	0x20, 0x5c, 0x20, 0x08, 0xe7, 0x0a, 0x3e, 0xdf, 0xd5, 0x48, 0xcc, 0x4f, 0x10, 0xab,
	0x92, 0x1e, 0xba, 0x83, 0xe9, 0xcb, 0xb4, 0xa6, 0xf8, 0xaf, 0x2a, 0x6b, 0x9b, 0xe6,
	0xc8, 0xec, 0x9a, 0xfb, 0x7a, 0xba, 0xf7, 0xbe, 0xed, 0xea, 0x3a, 0x3e, 0x55, 0xdc,
	0x60, 0x99, 0x53, 0xff, 0xcb, 0x2f, 0xe3, 0x9d, 0xbe, 0xc3, 0x38, 0x4e, 0x45, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf0, 0x30, 0x1b, 0x26, 0x5a, 0x6e,
	0x40, 0x00, 0x28, 0x00, 0x00,
};
static const unsigned char xz_tar[] = {
	0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00,
	0x21, 0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0xe0, 0x27, 0xff, 0x00,
	0x5e, 0x5d, 0x00, 0x30, 0x8b, 0x8a, 0x87, 0xc4, 0x0e, 0xf2, 0x97, 0xa4, 0xf8, 0x75,
	0x3d, 0xc5, 0xa9, 0xed, 0xd9, 0x9a, 0x6d, 0xca, 0xb5, 0x84, 0x0e, 0xf6, 0x35, 0xe5,
	0xa6, 0x6e, 0xf2, 0xeb, 0x5f, 0x05, 0x50, 0xa7, 0x38, 0x7c, 0xda, 0xe5, 0x6d, 0x22,
	0x77, 0x0d, 0xc9, 0xed, 0xf5, 0x85, 0x22, 0x92, 0xea, 0x82, 0xa8, 0x2d, 0x73, 0x6f,
	0x22, 0xca, 0x21, 0xf1, 0x16, 0xac, 0xd1, 0xd2, 0x0b, 0x5b, 0x21, 0xfc, 0xde, 0xfa,
	0x7d, 0x21, 0x0b, 0x1f, 0x6b, 0x63, 0xc4, 0x87, 0x06, 0xa9, 0x2d, 0x61, 0x1e, 0xe3,
	0x25, 0xe1, 0x77, 0x27, 0x8d, 0xe9, 0x77, 0xd2, 0x02, 0x1d, 0x1f, 0x4d, 0x00, 0x00,
	0x00, 0x00, 0x11, 0xa7, 0x34, 0x4a, 0xdc, 0x30, 0xd8, 0xdf, 0x00, 0x01, 0x7a, 0x80,
	0x50, 0x00, 0x00, 0x00, 0x4a, 0x45, 0x07, 0x13, 0xb1, 0xc4, 0x67, 0xfb, 0x02, 0x00,
	0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
};
static const unsigned char zstd_tar[] = {
	0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x68, 0xfd, 0x01, 0x00, 0xb2, 0xc2, 0x09, 0x11, 0xb0,
	0xa9, 0x03, 0x00, 0x5d, 0x39, 0x44, 0x74, 0x49, 0xe2, 0x4b, 0x6e, 0x79, 0xeb, 0x02,
	0x2d, 0x29, 0x83, 0x84, 0x90, 0x39, 0xb7, 0xab, 0x92, 0x8b, 0x7d, 0xc3, 0x77, 0x04,
	0xdb, 0x3b, 0xf6, 0x31, 0xb0, 0x67, 0x4b, 0x51, 0x02, 0x09, 0x20, 0xd0, 0x0f, 0xf6,
	0x85, 0x37, 0x73, 0xea, 0xfc, 0x4c, 0x7b, 0x30, 0x80, 0x07, 0x0c, 0x0a, 0xb0, 0x9d,
	0x18, 0x1c, 0xce, 0x0c, 0x6d, 0x47,
};
/* clang-format on */

static void gzip_xz_and_zstd_are_read(void **state)
{
	static const struct {
		const unsigned char *data;
		size_t length;
	} archives[] = {
		{ gzip_tar, sizeof(gzip_tar) },
		{ xz_tar, sizeof(xz_tar) },
		{ zstd_tar, sizeof(zstd_tar) },
	};
	const struct box *box = *state;
	struct error err;

	for (unsigned i = 0; i < ARRAY_SIZE(archives); i++) {
		struct tar tar;

		tar_open(&tar);
		tar_write(&tar, archives[i].data, archives[i].length);
		assert_int_equal(unpack(box, &tar, &err), 0);
		assert_content(box->dir, "a.txt", "hello\n");
		assert_int_equal(folder_clear(box->dir, &err), 0);

		tar_open(&tar);
		tar_write(&tar, archives[i].data, archives[i].length / 2);
		assert_int_equal(unpack(box, &tar, &err), -EBADMSG);
		assert_int_equal(folder_is_empty(box->dir, NULL), 1);
	}
}

static void replacing_touches_files_of_the_same_names_only(void **state)
{
	const struct archive_unpack_options options = {
		.target = ARCHIVE_REPLACE_FILES,
		.max_bytes = 100,
		.max_files = 10,
	};
	const struct box *box = *state;
	uint64_t bytes;
	struct tar tar;
	struct error err;

	make_file(box->root, "outside", "outside");
	make_file(box->dir, "old", "old");
	make_file(box->dir, "other", "other");
	assert_int_equal(symlinkat("../outside", box->dir, "link"), 0);
	assert_int_equal(symlinkat("..", box->dir, "up"), 0);
	tar_open(&tar);
	tar_add(&tar, '0', "old", "", "new", 3);
	tar_add(&tar, '0', "link", "", "new", 3);
	tar_end(&tar);
	assert_int_equal(archive_unpack(tar.fd, box->dir, &options, &bytes, &err), 0);
	(void)close(tar.fd);
	assert_content(box->dir, "old", "new");
	assert_content(box->dir, "other", "other");
	assert_content(box->dir, "link", "new");
	assert_content(box->root, "outside", "outside");

	tar_open(&tar);
	tar_add(&tar, '0', "first", "", "1", 1);
	tar_add(&tar, '0', "up/outside", "", "bad", 3);
	tar_end(&tar);
	assert_int_equal(archive_unpack(tar.fd, box->dir, &options, &bytes, &err), -ENOTDIR);
	(void)close(tar.fd);
	assert_content(box->root, "outside", "outside");
	assert_content(box->dir, "first", "1");
	assert_content(box->dir, "other", "other");
}

/* What pack wrote, as unpack sees it in box->dir. */
static int pack(const struct box *box, int source, const char *const *names, struct tar *tar,
		struct error *err)
{
	(void)box;
	tar_open(tar);
	return archive_pack(tar->fd, source, names, err);
}

static void what_was_packed_comes_out_again(void **state)
{
	static const char *const names[] = { "result.json", "missing",	"bucket",
					     "not/there",   "sub/only", NULL };
	const struct box *box = *state;
	struct tar tar;
	struct error err;
	int source;

	assert_int_equal(mkdirat(box->root, "src", 0755), 0);
	source = openat(box->root, "src", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_file(source, "result.json", "{}");
	make_file(source, "secret", "not asked for");
	assert_int_equal(mkdirat(source, "bucket", 0755), 0);
	assert_int_equal(mkdirat(source, "bucket/empty", 0755), 0);
	assert_int_equal(mkdirat(source, "sub", 0755), 0);
	make_file(source, "sub/only", "only");
	make_file(source, "sub/not", "not");
	make_file(source, "bucket/gr\xc3\xbcn-\xff", "names are bytes");
	assert_int_equal(symlinkat("empty", source, "bucket/link"), 0);
	assert_int_equal(mkfifoat(source, "bucket/fifo", 0600), 0);

	assert_int_equal(pack(box, source, names, &tar, &err), 0);
	assert_int_equal(unpack(box, &tar, &err), 0);
	assert_content(box->dir, "result.json", "{}");
	assert_content(box->dir, "sub/only", "only");
	assert_content(box->dir, "bucket/gr\xc3\xbcn-\xff", "names are bytes");
	assert_int_equal(faccessat(box->dir, "bucket/empty", F_OK, 0), 0);
	assert_int_equal(faccessat(box->dir, "bucket/link", F_OK, 0), 0);
	assert_int_equal(faccessat(box->dir, "secret", F_OK, 0), -1);
	assert_int_equal(faccessat(box->dir, "sub/not", F_OK, 0), -1);
	assert_int_equal(faccessat(box->dir, "bucket/fifo", F_OK, 0), -1);
	(void)close(source);
}

static void the_same_folder_gives_the_same_bytes(void **state)
{
	static const char *const all[] = { ".", NULL };
	const struct box *box = *state;
	struct tar tars[2];
	struct stat found[2];
	char names[8] = "x";
	struct error err;
	char *bytes[2];

	for (char c = 'z'; c >= 'a'; c--) {
		names[1] = c;
		make_file(box->dir, names, names);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pack(box, box->dir, all, &tars[i], &err), 0);
		assert_int_equal(fstat(tars[i].fd, &found[i]), 0);
		bytes[i] = malloc((size_t)found[i].st_size);
		assert_int_equal(pread(tars[i].fd, bytes[i], (size_t)found[i].st_size, 0),
				 found[i].st_size);
		(void)close(tars[i].fd);
	}
	assert_int_equal(found[0].st_size, found[1].st_size);
	assert_memory_equal(bytes[0], bytes[1], (size_t)found[0].st_size);
	assert_string_equal(bytes[0], "xa");
	assert_string_equal(bytes[0] + (size_t)25 * 1024, "xz");
	free(bytes[0]);
	free(bytes[1]);
}

static void packing_stays_in_the_folder(void **state)
{
	static const char *const outside[] = { "../outside", NULL };
	static const char *const parent[] = { "..", NULL };
	static const char *const through[] = { "up/outside", NULL };
	const struct box *box = *state;
	struct tar tar;
	struct error err;

	make_file(box->root, "outside", "outside");
	assert_int_equal(symlinkat("..", box->dir, "up"), 0);
	assert_int_equal(pack(box, box->dir, outside, &tar, &err), -EINVAL);
	(void)close(tar.fd);
	assert_int_equal(pack(box, box->dir, parent, &tar, &err), -EINVAL);
	assert_string_equal(err.text, "cannot pack '..': Invalid argument");
	(void)close(tar.fd);
	assert_int_equal(pack(box, box->dir, through, &tar, &err), -ENOTDIR);
	assert_string_equal(err.text, "'up' is no folder");
	(void)close(tar.fd);
}

static void a_file_gets_another_name_in_the_archive(void **state)
{
	static const char *const nothing[] = { NULL };
	const struct box *box = *state;
	char kernel[] = "boot/kernel", empty[] = "empty";
	struct archive_member members[2] = { { .name = kernel }, { .name = empty } };
	struct error err;
	struct tar tar;

	make_file(box->root, "vmlinuz-6.1", "a kernel");
	make_file(box->root, "nothing", "");
	members[0].fd = openat(box->root, "vmlinuz-6.1", O_RDONLY | O_CLOEXEC);
	members[1].fd = openat(box->root, "nothing", O_RDONLY | O_CLOEXEC);
	tar_open(&tar);
	assert_int_equal(archive_pack_members(tar.fd, -1, nothing, members, 2, &err), 0);
	(void)close(members[0].fd);
	(void)close(members[1].fd);

	assert_int_equal(archive_has(tar.fd, "boot/kernel", &err), 1);
	assert_int_equal(archive_has(tar.fd, "boot", &err), 1);
	assert_int_equal(archive_has(tar.fd, "./boot//kernel", &err), 1);
	assert_int_equal(archive_has(tar.fd, "boo", &err), 0);
	assert_int_equal(archive_has(tar.fd, "boot/kernel/x", &err), 0);
	assert_int_equal(archive_has(tar.fd, "../empty", &err), -EINVAL);
	assert_string_equal(err.text, "entry '../empty' leaves the folder");
	assert_int_equal(unpack(box, &tar, &err), 0);
	assert_content(box->dir, "boot/kernel", "a kernel");
	assert_content(box->dir, "empty", "");
}

static void a_hostile_archive_is_not_searched(void **state)
{
	struct error err;
	struct tar tar;

	(void)state;
	tar_open(&tar);
	tar_add(&tar, '0', "../evil", "", "x", 1);
	tar_add(&tar, '0', "good", "", "x", 1);
	tar_end(&tar);
	assert_int_equal(archive_has(tar.fd, "good", &err), -EINVAL);
	assert_string_equal(err.text, "entry '../evil' leaves the folder");
	(void)close(tar.fd);
}

static void a_reader_that_goes_away_is_an_error(void **state)
{
	static const char *const all[] = { ".", NULL };
	const struct box *box = *state;
	struct error err;
	int pair[2];

	make_file(box->dir, "a", "a");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	(void)close(pair[1]);
	assert_int_equal(archive_pack(pair[0], box->dir, all, &err), -EPIPE);
	assert_string_equal(err.text, "cannot write the archive: Broken pipe");
	(void)close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define ARCHIVE_TEST(name) cmocka_unit_test_setup_teardown(name, make_box, drop_box)
		ARCHIVE_TEST(files_folders_and_links_inside_are_unpacked),
		ARCHIVE_TEST(what_leaves_the_folder_is_refused_as_a_whole),
		ARCHIVE_TEST(what_is_neither_file_nor_folder_is_refused),
		ARCHIVE_TEST(a_name_with_control_characters_is_escaped_in_the_text),
		ARCHIVE_TEST(a_link_is_never_followed),
		ARCHIVE_TEST(a_hard_link_needs_a_file_of_the_archive),
		ARCHIVE_TEST(of_names_that_come_twice_the_last_counts),
		ARCHIVE_TEST(a_name_cannot_be_file_and_folder),
		ARCHIVE_TEST(limits_are_named_and_exact),
		ARCHIVE_TEST(folders_that_are_only_in_paths_count_too),
		ARCHIVE_TEST(names_have_limits),
		ARCHIVE_TEST(utf8_and_other_bytes_in_names_survive),
		ARCHIVE_TEST(a_truncated_archive_leaves_nothing),
		ARCHIVE_TEST(what_is_no_archive_is_refused),
		ARCHIVE_TEST(an_empty_tar_is_an_empty_folder),
		ARCHIVE_TEST(the_folder_must_be_empty),
		ARCHIVE_TEST(a_full_disk_leaves_nothing),
		ARCHIVE_TEST(gzip_xz_and_zstd_are_read),
		ARCHIVE_TEST(replacing_touches_files_of_the_same_names_only),
		ARCHIVE_TEST(what_was_packed_comes_out_again),
		ARCHIVE_TEST(the_same_folder_gives_the_same_bytes),
		ARCHIVE_TEST(packing_stays_in_the_folder),
		ARCHIVE_TEST(a_file_gets_another_name_in_the_archive),
		ARCHIVE_TEST(a_hostile_archive_is_not_searched),
		ARCHIVE_TEST(a_reader_that_goes_away_is_an_error),
	};

	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

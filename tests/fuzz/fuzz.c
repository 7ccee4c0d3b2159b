/* SPDX-License-Identifier: MIT */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/log.h"

enum {
	TURNS_MAX = 10000, /* of a loop that an input keeps busy */
};

static char folder[256];
static int folder_fd = -1;

static void drop_line(int level, const char *board, uint64_t job, const char *text, void *data)
{
	(void)level;
	(void)board;
	(void)job;
	(void)text;
	(void)data;
}

void fuzz_begin(void)
{
	static bool begun;

	if (begun)
		return;
	begun = true;
	log_set_level(LOG_DEBUG);
	log_set_sink(drop_line, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	assert(text);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

int fuzz_file(const void *data, size_t size)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	assert(fd >= 0);
	assert(file_write_all(fd, data, size, NULL) == 0);
	assert(lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

/* ---- the folder ---- */

static void remove_folder(void)
{
	fuzz_clear();
	folder_fd = close_fd(folder_fd);
	(void)rmdir(folder);
}

const char *fuzz_folder(void)
{
	const char *where = getenv("TMPDIR");

	if (folder_fd >= 0)
		return folder;
	if (!where)
		where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	(void)snprintf(folder, sizeof(folder), "%s/dut-fuzz-XXXXXX", where);
	assert(mkdtemp(folder));
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(folder_fd >= 0);
	assert(atexit(remove_folder) == 0);
	return folder;
}

int fuzz_folder_fd(void)
{
	(void)fuzz_folder();
	return folder_fd;
}

void fuzz_write(const char *name, const void *data, size_t size)
{
	const char *slash = strchr(name, '/');
	close_ int fd = -1;

	if (slash) {
		free_ char *parent = strndup(name, (size_t)(slash - name));

		assert(parent);
		(void)mkdirat(fuzz_folder_fd(), parent, 0700);
	}
	fd = openat(fuzz_folder_fd(), name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert(fd >= 0);
	assert(file_write_all(fd, data, size, NULL) == 0);
}

void fuzz_clear(void)
{
	assert(folder_clear(fuzz_folder_fd(), NULL) == 0);
}

/* ---- parts ---- */

/* The length of the first line, with its end. */
static size_t line_length(const struct fuzz_part *rest)
{
	const uint8_t *end = rest->size > 0 ? memchr(rest->data, '\n', rest->size) : NULL;

	return end ? (size_t)(end - rest->data) + 1 : rest->size;
}

static void skip(struct fuzz_part *rest, size_t size)
{
	rest->data += size;
	rest->size -= size;
}

bool fuzz_next_line(struct fuzz_part *rest, struct fuzz_part *ret)
{
	size_t length = line_length(rest);

	if (length == 0)
		return false;
	*ret = (struct fuzz_part){ rest->data, length };
	if (ret->data[length - 1] == '\n')
		ret->size--;
	skip(rest, length);
	return true;
}

bool fuzz_next_part(struct fuzz_part *rest, struct fuzz_part *ret)
{
	static const char separator[] = "----";
	size_t length;

	if (rest->size == 0)
		return false;
	*ret = (struct fuzz_part){ rest->data, 0 };
	while ((length = line_length(rest)) > 0) {
		bool is_separator = length >= strlen(separator) &&
				    memcmp(rest->data, separator, strlen(separator)) == 0;

		skip(rest, length);
		if (is_separator)
			break;
		ret->size += length;
	}
	return true;
}

void fuzz_settle(sd_event *event)
{
	for (unsigned i = 0; i < TURNS_MAX; i++)
		if (sd_event_run(event, 0) <= 0)
			return;
	/* Work without end from an input that has one. */
	abort();
}

/* SPDX-License-Identifier: MIT */

/*
 * Stands in for libFuzzer where a target is built without it: hands each file of the given folders
 * to the target, and says so in TAP.
 */

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_MAX = 64 << 20 };

static void replay(int dir_fd, const char *name, const char *shown)
{
	static unsigned number;
	close_ int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	free_ char *text = NULL;
	uint8_t *exact;
	size_t length;
	struct error err;

	/* So that a death is not without a name. */
	(void)printf("# %s\n", shown);
	(void)fflush(stdout);
	if (fd < 0)
		(void)error_errno(&err, "open");
	if (fd < 0 || file_read_fd(&text, &length, fd, INPUT_MAX, &err) < 0) {
		(void)printf("not ok %u - %s: %s\n", ++number, shown, err.text);
		return;
	}
	/* Without the NUL that hides a read beyond the end. */
	exact = malloc(length > 0 ? length : 1);
	assert(exact);
	memcpy(exact, text, length);
	(void)LLVMFuzzerTestOneInput(exact, length);
	free(exact);
	(void)printf("ok %u - %s\n", ++number, shown);
	(void)fflush(stdout);
}

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static unsigned replay_folder(const char *path)
{
	struct dirent **entries = NULL;
	close_ int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int n = dir_fd < 0 ? -1 : scandir(path, &entries, is_input, alphasort);

	if (n < 0) {
		perror(path);
		exit(EXIT_FAILURE);
	}
	for (int i = 0; i < n; i++) {
		replay(dir_fd, entries[i]->d_name, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	unsigned count = 0;

	for (int i = 1; i < argc; i++) {
		struct stat status;

		if (stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode)) {
			count += replay_folder(argv[i]);
		} else {
			const char *slash = strrchr(argv[i], '/');
			free_ char *folder = slash ? strndup(argv[i], (size_t)(slash - argv[i] + 1))
						   : strdup(".");
			close_ int dir_fd = open(folder ? folder : ".", O_PATH | O_CLOEXEC);

			replay(dir_fd, slash ? slash + 1 : argv[i], argv[i]);
			count++;
		}
	}
	(void)printf("1..%u\n", count);
	return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "executor/download.h"
#include "executor/sink.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/server.h"

/* A hostile web server, behind a proxy, so that no name is looked up. */

enum { MAX_BYTES = 3000 };

/* Retries do not wait where nobody reads stdout. */
static int leave_stdout(void)
{
	int saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10), pipes[2];

	assert(saved >= 0 && pipe2(pipes, O_CLOEXEC) == 0);
	assert(dup2(pipes[1], STDOUT_FILENO) == STDOUT_FILENO);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	return saved;
}

static void begin(void)
{
	fuzz_begin();
	assert(setenv("http_proxy", "http://127.0.0.1:9", 1) == 0);
	assert(setenv("https_proxy", "http://127.0.0.1:9", 1) == 0);
	assert(unsetenv("no_proxy") == 0 && unsetenv("NO_PROXY") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct download_limits limits = { .connect_s = 1, .stall_s = 1 };
	close_ int fd = fuzz_file("", 0);
	struct sink sink = { .fd = fd, .max_bytes = MAX_BYTES };
	struct error err = { "" };
	struct stat status;
	int saved, r;

	begin();
	fuzz_serve(data, size);
	saved = leave_stdout();
	r = download_url("http://user:secret@files.example/kernel?signature", &sink, &limits, &err);
	fuzz_serve_end();
	assert(dup2(saved, STDOUT_FILENO) == STDOUT_FILENO && close(saved) == 0);
	assert(fstat(fd, &status) == 0 && (uint64_t)status.st_size <= MAX_BYTES);
	if (r < 0)
		assert(err.text[0] && !strstr(err.text, "secret") &&
		       !strstr(err.text, "signature"));
	else
		assert((uint64_t)status.st_size == sink.size);
	return 0;
}

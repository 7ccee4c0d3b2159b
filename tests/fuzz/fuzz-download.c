/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "executor/download.h"
#include "executor/sink.h"
#include "tests/fuzz/fuzz.h"

/*
 * A hostile web server: each part of the input is what one connection answers, and the last one
 * answers all further ones. libcurl is as it is, but never gets as far as the network: whatever it
 * connects to (a proxy, so that no name is looked up) is a socket that has its answer already.
 */

enum { MAX_BYTES = 3000 };

static struct fuzz_part rest, said;
static int server = -1;

/* Of sys/socket.h, for libcurl. The other end leaves when it has said all of it. */
int socket(int domain, int type, int protocol)
{
	int pair[2];

	(void)domain;
	(void)protocol;
	assert(socketpair(AF_UNIX, SOCK_STREAM | (type & (SOCK_CLOEXEC | SOCK_NONBLOCK)), 0,
			  pair) == 0);
	(void)fuzz_next_part(&rest, &said);
	(void)send(pair[1], said.data, said.size, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)shutdown(pair[1], SHUT_WR);
	/* It stays open: what is sent to it must not fail, or the answer is not read. */
	(void)close_fd(server);
	server = pair[1];
	return pair[0];
}

/* Of sys/socket.h likewise. */
int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
	(void)fd;
	(void)address;
	(void)length;
	return 0;
}

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
	rest = (struct fuzz_part){ data, size };
	said = (struct fuzz_part){ data, 0 };
	saved = leave_stdout();
	r = download_url("http://user:secret@files.example/kernel?signature", &sink, &limits, &err);
	server = close_fd(server);
	assert(dup2(saved, STDOUT_FILENO) == STDOUT_FILENO && close(saved) == 0);
	assert(fstat(fd, &status) == 0 && (uint64_t)status.st_size <= MAX_BYTES);
	if (r < 0)
		assert(err.text[0] && !strstr(err.text, "secret") &&
		       !strstr(err.text, "signature"));
	else
		assert((uint64_t)status.st_size == sink.size);
	return 0;
}

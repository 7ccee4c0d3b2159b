/* SPDX-License-Identifier: MIT */
#include "tests/fuzz/server.h"

#include <assert.h>
#include <sys/socket.h>

#include "base/cleanup.h"

static struct fuzz_part rest, said;
static int server = -1;

void fuzz_serve(const uint8_t *data, size_t size)
{
	rest = (struct fuzz_part){ data, size };
	said = (struct fuzz_part){ data, 0 };
}

void fuzz_serve_end(void)
{
	server = close_fd(server);
}

/* Of sys/socket.h, for libcurl. */
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

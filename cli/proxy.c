/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/client.h"
#include "cli/options.h"
#include "cli/verbs.h"

/*
 * What a dut elsewhere starts by ssh, to reach the daemon here: bytes go both ways until either
 * side is done. The end of stdin alone is told to the daemon, whose answer still comes; a stdout
 * that nobody reads any more ends it, also while the daemon has nothing to say.
 */

enum { BUFFER = 64 << 10 };

struct flow {
	int from, to;
	size_t start, end; /* of what is in the buffer */
	bool ended;	   /* nothing more comes */
	bool told;	   /* that, to who reads it */
	char buffer[BUFFER];
};

static bool is_empty(const struct flow *flow)
{
	return flow->start == flow->end;
}

/* False at a failure, with errno. */
static bool take(struct flow *flow)
{
	ssize_t n = read(flow->from, flow->buffer, sizeof(flow->buffer));

	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	flow->start = 0;
	flow->end = (size_t)n;
	flow->ended = n == 0;
	return true;
}

/* No more than what surely finds room: pipe(7) says PIPE_BUF, and the fd may be shared. */
static bool give(struct flow *flow)
{
	size_t left = flow->end - flow->start;
	ssize_t n = send(flow->to, flow->buffer + flow->start, left, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK)
		n = write(flow->to, flow->buffer + flow->start, left < PIPE_BUF ? left : PIPE_BUF);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	flow->start += (size_t)n;
	return true;
}

/* What a side is polled for. */
static short wanted(const struct flow *in, const struct flow *out)
{
	short events = 0;

	if (in && !in->ended && is_empty(in))
		events |= POLLIN;
	if (out && !is_empty(out))
		events |= POLLOUT;
	return events;
}

static int lost(const char *what)
{
	return say_exit(EXIT_UNREACHABLE, "proxy: %s: %s", what, strerror(errno));
}

/* The daemon reads no more: it may have answered already. */
static void drop(struct flow *up)
{
	up->start = up->end;
	up->ended = up->told = true;
}

/* One turn. -1: go on; else the exit code. */
static int turn(struct flow *up, struct flow *down)
{
	/* One that nothing is wanted of would report its end again and again; only stdout's is
	 * always of interest. */
	struct pollfd fds[] = {
		{ .fd = wanted(up, NULL) ? STDIN_FILENO : -1, .events = POLLIN },
		{ .fd = STDOUT_FILENO, .events = wanted(NULL, down) },
		{ .fd = wanted(down, up) ? up->to : -1, .events = wanted(down, up) },
	};

	if (poll(fds, 3, -1) < 0)
		return errno == EINTR ? -1 : lost("poll");
	if (fds[0].revents && !take(up))
		return lost("stdin");
	if (fds[2].revents && !is_empty(up) && !give(up))
		drop(up);
	if (up->ended && is_empty(up) && !up->told) {
		up->told = true;
		(void)shutdown(up->to, SHUT_WR);
	}
	if (fds[2].revents & (POLLIN | POLLHUP | POLLERR) && is_empty(down) && !down->ended &&
	    !take(down))
		return lost("the daemon");
	if (fds[1].revents & POLLOUT && !give(down))
		return errno == EPIPE ? 0 : lost("stdout");
	if (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL))
		return 0;
	return down->ended && is_empty(down) ? 0 : -1;
}

static int pump(int fd)
{
	struct flow *up = calloc(1, sizeof(*up)), *down = calloc(1, sizeof(*down));
	int code = -1;

	if (up && down) {
		up->from = STDIN_FILENO;
		up->to = down->from = fd;
		down->to = STDOUT_FILENO;
		while (code < 0)
			code = turn(up, down);
	} else {
		code = say_exit(EXIT_INTERNAL, "out of memory");
	}
	free(up);
	free(down);
	return code;
}

/* Through its folder: a path may be longer than an address. 0, or an exit code (said). */
static int connect_to(const char *path, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *slash = strrchr(path, '/');
	free_ char *folder =
		slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	close_ int folder_fd = folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
			 folder_fd, slash ? slash + 1 : path);

	if (folder_fd >= 0 && n >= (int)sizeof(address.sun_path))
		errno = ENAMETOOLONG;
	else if (folder_fd >= 0 && fd >= 0 &&
		 connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
		*ret_fd = take_fd(&fd);
		return 0;
	}
	return say_exit(errno == EACCES || errno == EPERM ? EXIT_NOT_PERMITTED : EXIT_UNREACHABLE,
			"proxy: cannot reach the daemon at %s: %s", path, strerror(errno));
}

static int proxy(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 };
	close_ int fd = -1;
	int code;

	/* DUT_HOST is for others: this is the end of its way. */
	if (options_parse(&verb_proxy, NULL, cli, 0, 0, &operands, argc, argv, &code)) {
		code = connect_to(cli->socket ? cli->socket : CLIENT_DEFAULT_SOCKET, &fd);
		if (code == 0)
			code = pump(fd);
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_proxy = {
	.name = "proxy",
	.operands = "",
	.summary = "connects stdin and stdout to the daemon here, for ssh://",
	.run = proxy,
};

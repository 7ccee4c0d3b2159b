/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/spawn.h"
#include "cli/client-internal.h"

/*
 * Connections through ssh. libcurl connects to an abstract socket that we listen on ourselves; what
 * we accept there becomes stdin and stdout of `ssh USER@GATEWAY dut proxy`, a process for each
 * connection, which ends when libcurl closes it. It keeps the terminal, to ask for a password, but
 * not its Ctrl-C, which is ours to answer. (A socket of our own for libcurl, by its callbacks,
 * would be simpler; libcurl 7.88 connects it all the same.)
 */

enum { END_WAIT_MS = 2000 /* for the status of an ssh whose end of the pair is closed */ };

struct tunnel {
	struct list link; /* client.tunnels */
	int pidfd;	  /* of ssh */
};

static struct tunnel *tunnel_at(struct list *link)
{
	return CONTAINER_OF(link, struct tunnel, link);
}

static void tunnel_free(struct tunnel *tunnel)
{
	list_remove(&tunnel->link);
	(void)close_fd(tunnel->pidfd);
	free(tunnel);
}

/* The program in PATH; the caller frees it, NULL when there is none. */
static char *find_ssh(void)
{
	const char *path = getenv("PATH");
	char *found;

	for (path = path ? path : "/usr/bin:/bin"; *path; path += *path == ':') {
		size_t length = strcspn(path, ":");

		if (asprintf(&found, "%.*s/ssh", (int)length, path) < 0)
			return NULL;
		if (length > 0 && access(found, X_OK) == 0)
			return found;
		free(found);
		path += length;
	}
	return NULL;
}

static int start_ssh(int *ret_pidfd, struct endpoint *endpoint, int fd, struct error *err)
{
	char ssh[] = "ssh", flag[] = "-p", dut[] = "dut", proxy[] = "proxy";
	char *const with_port[] = { ssh, flag, endpoint->port, endpoint->target, dut, proxy, NULL };
	char *const without[] = { ssh, endpoint->target, dut, proxy, NULL };
	const struct spawn_fd fds[] = { { fd, STDIN_FILENO }, { fd, STDOUT_FILENO } };
	free_ char *path = find_ssh();
	const struct spawn_config config = {
		.path = path,
		.argv = endpoint->port ? with_port : without,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.ignore_interrupt = true,
	};
	pid_t pid;

	if (!path)
		return error_set(err, -ENOENT, "%s: there is no program ssh in PATH",
				 endpoint->name);
	return spawn(&pid, ret_pidfd, &config, err);
}

/* Those that have ended well, and those that are no more the last one, are of no interest. */
static void reap_ended(struct client *client)
{
	LIST_FOREACH_SAFE(link, after, &client->tunnels) {
		struct tunnel *tunnel = tunnel_at(link);
		siginfo_t info = { 0 };

		if (waitid(P_PIDFD, (id_t)tunnel->pidfd, &info, WEXITED | WNOHANG) == 0 &&
		    info.si_pid != 0)
			tunnel_free(tunnel);
	}
}

/* Whether it is libcurl: the socket has no mode that keeps others out. */
static bool is_ours(int fd)
{
	struct ucred peer = { 0 };
	socklen_t length = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == getpid();
}

static int on_connection(sd_event_source *source, int listen_fd, uint32_t events, void *data)
{
	struct client *client = data;
	close_ int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct tunnel *tunnel;
	int r;

	(void)source;
	(void)events;
	if (fd < 0 || !is_ours(fd))
		return 0;
	reap_ended(client);
	tunnel = malloc(sizeof(*tunnel));
	if (!tunnel) {
		(void)error_oom(&client->no_tunnel);
		return 0;
	}
	r = start_ssh(&tunnel->pidfd, &client->endpoint, fd, &client->no_tunnel);
	if (r < 0) {
		free(tunnel);
		return 0;
	}
	client->no_tunnel.text[0] = '\0';
	list_init(&tunnel->link);
	list_append(&client->tunnels, &tunnel->link);
	return 0;
}

int tunnels_open(struct client *client, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(address);
	close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	/* A name that the kernel chooses: a NUL and five digits; unix(7), autobind. */
	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address.sun_family)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0 || listen(fd, SOMAXCONN) < 0)
		return error_errno(err, "a socket for ssh");
	client->tunnel_name =
		strndup(address.sun_path + 1, length - offsetof(struct sockaddr_un, sun_path) - 1);
	if (!client->tunnel_name)
		return error_oom(err);
	r = sd_event_add_io(client->loop, &client->tunnel_source, fd, EPOLLIN, on_connection,
			    client);
	if (r >= 0)
		r = sd_event_source_set_io_fd_own(client->tunnel_source, true);
	if (r < 0)
		return error_code(err, r, "a socket for ssh");
	(void)take_fd(&fd);
	(void)sd_event_source_set_description(client->tunnel_source, "ssh");
	return 0;
}

/* How the youngest ssh has ended: its exit status; -1 when it has not, or nobody knows. */
static int end_of_ssh(const struct client *client)
{
	const struct tunnel *tunnel = CONTAINER_OF(client->tunnels.previous, struct tunnel, link);
	struct pollfd end = { .events = POLLIN };
	siginfo_t info = { 0 };

	if (list_empty(&client->tunnels))
		return -1;
	end.fd = tunnel->pidfd;
	if (poll(&end, 1, END_WAIT_MS) > 0 &&
	    waitid(P_PIDFD, (id_t)tunnel->pidfd, &info, WEXITED | WNOWAIT) == 0 &&
	    info.si_code == CLD_EXITED)
		return info.si_status;
	return -1;
}

int tunnel_explain(const struct client *client, struct error *err)
{
	const struct endpoint *endpoint = &client->endpoint;
	int status;

	if (client->no_tunnel.text[0])
		return error_set(err, -ENOTCONN, "%s", client->no_tunnel.text);
	status = end_of_ssh(client);
	switch (status) {
	case -1:
	case 0:
		return error_set(err, -ECONNRESET, "lost the daemon at %s", endpoint->name);
	case 127:
		return error_set(err, -ENOTCONN,
				 "%s: there is no program dut (status 127 of 'ssh %s dut proxy')",
				 endpoint->name, endpoint->target);
	case 255:
		return error_set(err, -ENOTCONN, "ssh cannot reach %s (its status is 255)",
				 endpoint->name);
	case EXIT_NOT_PERMITTED:
		return error_set(err, -EACCES, "%s: 'dut proxy' may not talk to the daemon there",
				 endpoint->name);
	default:
		return error_set(err, -ENOTCONN, "%s: 'ssh %s dut proxy' has ended with status %d",
				 endpoint->name, endpoint->target, status);
	}
}

void tunnels_close(struct client *client)
{
	client->tunnel_source = sd_event_source_disable_unref(client->tunnel_source);
	free(client->tunnel_name);
	reap_ended(client);
	/* Those that are still on their way out are nobody's when we have ended. */
	while (!list_empty(&client->tunnels))
		tunnel_free(tunnel_at(client->tunnels.next));
}

/* SPDX-License-Identifier: MIT */

/*
 * Asks an HTTP server on a unix socket the same again and again:
 * load SOCKET TARGET CONNECTIONS keep|new REQUESTS. Every connection has one request under way;
 * with `new` each request has a connection of its own. Prints one JSON object.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_CONNECTIONS = 256,
	BUFFER_SIZE = 65536,
	SILENCE_MS = 20000,
};

struct connection {
	int fd;
	uint64_t begun_ns;
	size_t used;
	char buffer[BUFFER_SIZE];
};

struct load {
	const char *path;
	char request[512];
	size_t request_length;
	bool keep;
	int epoll_fd;
	size_t wanted, begun, over, bad; /* requests */
	uint64_t *latency_ns;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void dial(const struct load *load, struct connection *connection)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };

	if (strlen(load->path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		die(load->path);
	}
	memcpy(address.sun_path, load->path, strlen(load->path) + 1);
	connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* Waits when the listener's queue is full. */
	if (connection->fd < 0 ||
	    connect(connection->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		die(load->path);
	if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0)
		die("epoll");
}

static void hang_up(struct connection *connection)
{
	(void)close(connection->fd);
	connection->fd = -1;
}

/* The next request, unless all have begun. */
static void ask(struct load *load, struct connection *connection)
{
	if (load->begun == load->wanted) {
		if (connection->fd >= 0)
			hang_up(connection);
		return;
	}
	load->begun++;
	connection->used = 0;
	connection->begun_ns = now_ns();
	if (connection->fd < 0)
		dial(load, connection);
	if (send(connection->fd, load->request, load->request_length, MSG_NOSIGNAL) !=
	    (ssize_t)load->request_length)
		die("send");
}

/* Whether the whole answer is in the buffer. It has a length, or ends with its connection. */
static bool is_whole(const struct connection *connection, bool *ret_closes)
{
	const char *end = strstr(connection->buffer, "\r\n\r\n");
	const char *length = strcasestr(connection->buffer, "\r\nContent-Length:");
	const char *closes = strcasestr(connection->buffer, "\r\nConnection: close");

	if (!end || !length || length > end)
		return false;
	*ret_closes = (closes && closes < end) || strncmp(connection->buffer, "HTTP/1.0", 8) == 0;
	return connection->used >=
	       (size_t)(end + 4 - connection->buffer) +
		       strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
}

static void finish(struct load *load, struct connection *connection, bool closes)
{
	load->latency_ns[load->over++] = now_ns() - connection->begun_ns;
	if (strncmp(connection->buffer + strlen("HTTP/1.1"), " 200", 4) != 0)
		load->bad++;
	if (closes || !load->keep)
		hang_up(connection);
	ask(load, connection);
}

static void on_data(struct load *load, struct connection *connection)
{
	size_t room = sizeof(connection->buffer) - 1 - connection->used;
	ssize_t n = recv(connection->fd, connection->buffer + connection->used, room, 0);
	bool closes = false;

	if (n < 0 || (n == 0 && connection->used == 0)) {
		errno = n < 0 ? errno : ECONNRESET;
		die("an answer");
	}
	connection->used += (size_t)n;
	connection->buffer[connection->used] = '\0';
	if (n == 0)
		finish(load, connection, true);
	else if (is_whole(connection, &closes))
		finish(load, connection, closes);
}

static void run(struct load *load, struct connection *connections, size_t count)
{
	for (size_t i = 0; i < count; i++)
		ask(load, &connections[i]);
	while (load->over < load->wanted) {
		struct epoll_event events[MAX_CONNECTIONS];
		int n = epoll_wait(load->epoll_fd, events, MAX_CONNECTIONS, SILENCE_MS);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n < 0 ? errno : ETIMEDOUT;
			die("an answer");
		}
		for (int i = 0; i < n; i++)
			on_data(load, events[i].data.ptr);
	}
}

static int by_size(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double percentile_us(const struct load *load, double part)
{
	return (double)load->latency_ns[(size_t)((double)(load->over - 1) * part)] / 1e3;
}

int main(int argc, char **argv)
{
	static struct connection connections[MAX_CONNECTIONS];
	struct load load = { .epoll_fd = epoll_create1(EPOLL_CLOEXEC) };
	uint64_t begun_ns, took_ns;
	size_t count;
	int length;

	if (argc != 6) {
		(void)fputs("usage: load SOCKET TARGET CONNECTIONS keep|new REQUESTS\n", stderr);
		return 64;
	}
	load.path = argv[1];
	load.keep = strcmp(argv[4], "keep") == 0;
	load.wanted = strtoul(argv[5], NULL, 10);
	count = strtoul(argv[3], NULL, 10);
	length = snprintf(load.request, sizeof(load.request),
			  "GET %s HTTP/1.1\r\nHost: bench\r\nConnection: %s\r\n\r\n", argv[2],
			  load.keep ? "keep-alive" : "close");
	load.request_length = (size_t)length;
	load.latency_ns = calloc(load.wanted, sizeof(*load.latency_ns));
	if (count < 1 || count > MAX_CONNECTIONS || load.wanted < 1 || load.epoll_fd < 0 ||
	    load.request_length >= sizeof(load.request) || !load.latency_ns)
		die("load");
	for (size_t i = 0; i < count; i++)
		connections[i].fd = -1;

	begun_ns = now_ns();
	run(&load, connections, count);
	took_ns = now_ns() - begun_ns;
	qsort(load.latency_ns, load.over, sizeof(*load.latency_ns), by_size);
	(void)printf("{\"requests\": %zu, \"bad\": %zu, \"seconds\": %.6f, \"p50_us\": %.1f, "
		     "\"p99_us\": %.1f}\n",
		     load.over, load.bad, (double)took_ns / 1e9, percentile_us(&load, 0.5),
		     percentile_us(&load, 0.99));
	free(load.latency_ns);
	return 0;
}

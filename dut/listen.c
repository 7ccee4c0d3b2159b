/* SPDX-License-Identifier: MIT */
#include "dut/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

enum {
	KEEPALIVE_IDLE_S = 60,
	KEEPALIVE_INTERVAL_S = 15,
	KEEPALIVE_COUNT = 4,
	UNACKNOWLEDGED_MS = 60000, /* bytes that were sent, before the client counts as gone */
};

bool listen_parse(struct sockaddr_storage *ret, const char *text)
{
	struct sockaddr_storage address = { 0 };
	struct sockaddr_in *ipv4 = (struct sockaddr_in *)&address;
	struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)&address;
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	char host[INET6_ADDRSTRLEN + 2];
	bool good;
	uint64_t port;

	if (length == 0 || length >= sizeof(host) ||
	    text_to_uint64(&port, colon + 1, 1, UINT16_MAX, NULL) < 0)
		return false;
	memcpy(host, text, length);
	host[length] = '\0';
	if (host[0] == '[' && host[length - 1] == ']') {
		host[length - 1] = '\0';
		ipv6->sin6_family = AF_INET6;
		ipv6->sin6_port = htons((uint16_t)port);
		good = inet_pton(AF_INET6, host + 1, &ipv6->sin6_addr) == 1;
	} else {
		ipv4->sin_family = AF_INET;
		ipv4->sin_port = htons((uint16_t)port);
		good = inet_pton(AF_INET, host, &ipv4->sin_addr) == 1;
	}
	if (good && ret)
		*ret = address;
	return good;
}

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

/* Accepted sockets inherit all of these. */
static int set_options(int fd, int family)
{
	if (set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0 ||
	    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1) < 0 ||
	    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S) < 0 ||
	    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S) < 0 ||
	    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT) < 0 ||
	    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS) < 0 ||
	    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) < 0)
		return -errno;
	/* Else "[::]" would take the port of IPv4 as well. */
	if (family == AF_INET6 && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) < 0)
		return -errno;
	return 0;
}

int listen_open(int *ret_fd, const char *text, struct error *err)
{
	struct sockaddr_storage address;
	close_ int fd = -1;

	if (!listen_parse(&address, text))
		return error_set(err, -EINVAL, "api.listen: '%s' is no address with a port", text);
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || set_options(fd, address.ss_family) < 0 ||
	    bind(fd, (const struct sockaddr *)&address,
		 address.ss_family == AF_INET ? sizeof(struct sockaddr_in)
					      : sizeof(struct sockaddr_in6)) < 0 ||
	    listen(fd, SOMAXCONN) < 0)
		return error_errno(err, "api.listen: %s", text);
	*ret_fd = take_fd(&fd);
	return 0;
}

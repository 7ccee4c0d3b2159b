/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <endian.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/http-internal.h"

/*
 * What clients may take from each other: places, memory and time. A place is given to whoever comes
 * as long as somebody who does nothing has one: the connection that has been idle for longest goes.
 * One that finds none is answered all the same, so that its user reads why; root and the user that
 * this process runs as have some places more. A client has so long for the head of a request,
 * however it drips in, and a body has to go on at a pace that any line reaches.
 */

enum {
	MAX_REFUSED = 64, /* who wait for the answer that says so */
	MAX_LEAVING = 64,
	REFUSED_TIMEOUT_S = 5, /* to the end of the head of a request that will be refused */
	ACCURACY_US = 100000,
	LITTLE = 8192, /* bytes of an answer that is never refused for lack of memory */
};

static const uint64_t USEC_PER_SEC = 1000000;

static uint64_t now(const struct http_server *server)
{
	uint64_t now_us = 0;

	(void)sd_event_now(server->config.event, CLOCK_MONOTONIC, &now_us);
	return now_us;
}

static struct http_connection *connection_at(struct list *link)
{
	return CONTAINER_OF(link, struct http_connection, link);
}

/* Whether nothing was asked yet, or all is answered. */
static bool is_idle(const struct http_connection *connection)
{
	return !connection->leaving && !(connection->request && connection->request->begun);
}

/* Its fd is MHD's, which closes it in its next run. */
static void end_connection(struct http_connection *connection)
{
	connection->leaving = true;
	connection->server->n_leaving++;
	(void)shutdown(connection->fd, SHUT_RDWR);
}

/* ---- who ---- */

/* What tells users of TCP from those of the unix socket, whose number is their uid. */
static const uint64_t USER_OF_IPV4 = UINT64_C(1) << 32, USER_OF_IPV6 = UINT64_C(1) << 63;

/* A client by IPv6 has as many addresses as it likes in its /64. */
static void name_address(struct http_peer *peer, const struct sockaddr_storage *address)
{
	const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)address;
	uint64_t prefix;

	if (address->ss_family == AF_INET) {
		(void)inet_ntop(AF_INET, &ipv4->sin_addr, peer->address, sizeof(peer->address));
		peer->user = USER_OF_IPV4 | ntohl(ipv4->sin_addr.s_addr);
	} else {
		(void)inet_ntop(AF_INET6, &ipv6->sin6_addr, peer->address, sizeof(peer->address));
		memcpy(&prefix, &ipv6->sin6_addr, sizeof(prefix));
		peer->user = USER_OF_IPV6 | be64toh(prefix);
	}
	(void)snprintf(peer->user_name, sizeof(peer->user_name), "the client at %s", peer->address);
}

void http_limits_name_peer(struct http_peer *peer, int fd, const struct sockaddr_storage *address)
{
	struct ucred credentials = { .pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	socklen_t length = sizeof(credentials);

	*peer = (struct http_peer){ .uid = (uid_t)-1, .gid = (gid_t)-1 };
	if (address->ss_family == AF_INET || address->ss_family == AF_INET6) {
		name_address(peer, address);
		return;
	}
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length);
	peer->pid = credentials.pid;
	peer->uid = credentials.uid;
	peer->gid = credentials.gid;
	peer->user = credentials.uid;
	(void)snprintf(peer->user_name, sizeof(peer->user_name), "the user with uid %u",
		       (unsigned)credentials.uid);
}

/* ---- places ---- */

enum class { CLASS_ALL, CLASS_USER, CLASS_REFUSED };

static bool is_of(const struct http_connection *connection, enum class class, uint64_t user)
{
	if (connection->leaving || (connection->refused > 0) != (class == CLASS_REFUSED))
		return false;
	return class != CLASS_USER || connection->peer.user == user;
}

static unsigned count(const struct http_connection *besides, enum class class)
{
	unsigned n = 0;

	LIST_FOREACH(link, &besides->server->connections)
		n += connection_at(link) != besides &&
		     is_of(connection_at(link), class, besides->peer.user);
	return n;
}

/* Ends the one that is idle for longest; false when there is none. */
static bool evict(const struct http_connection *besides, enum class class)
{
	struct http_connection *oldest = NULL;

	LIST_FOREACH(link, &besides->server->connections) {
		struct http_connection *other = connection_at(link);

		if (other != besides && is_idle(other) && is_of(other, class, besides->peer.user) &&
		    (!oldest || other->head_since_us < oldest->head_since_us))
			oldest = other;
	}
	if (oldest)
		end_connection(oldest);
	return oldest;
}

/* 0, or the status of the refusal. */
static unsigned find_place(const struct http_connection *connection)
{
	const struct http_config *config = &connection->server->config;
	uid_t uid = connection->peer.uid;
	unsigned more = uid == 0 || uid == geteuid() ? config->reserved_connections : 0;
	unsigned of_user = count(connection, CLASS_USER), all = count(connection, CLASS_ALL);

	if (config->max_user_connections > 0 && of_user >= config->max_user_connections &&
	    !evict(connection, CLASS_USER) && of_user >= config->max_user_connections + more)
		return MHD_HTTP_TOO_MANY_REQUESTS;
	if (all >= config->max_connections && !evict(connection, CLASS_ALL) &&
	    all >= config->max_connections + more)
		return MHD_HTTP_SERVICE_UNAVAILABLE;
	return 0;
}

bool http_limits_admit(struct http_connection *connection)
{
	struct http_server *server = connection->server;

	connection->head_since_us = now(server);
	connection->refused = find_place(connection);
	if (connection->refused && count(connection, CLASS_REFUSED) >= MAX_REFUSED &&
	    !evict(connection, CLASS_REFUSED))
		return false;
	http_limits_watch(connection);
	return true;
}

void http_request_set_user(struct http_request *request, uint64_t user, const char *name)
{
	struct http_connection *connection = request->connection;
	unsigned max = connection->server->config.max_user_connections;

	if (connection->peer.user == user)
		return;
	connection->peer.user = user;
	(void)snprintf(connection->peer.user_name, sizeof(connection->peer.user_name), "%s", name);
	if (max == 0 || count(connection, CLASS_USER) < max || evict(connection, CLASS_USER))
		return;
	connection->refused = MHD_HTTP_TOO_MANY_REQUESTS;
	http_limits_refuse(request);
}

bool http_limits_accepts(const struct http_server *server)
{
	return server->n_leaving < MAX_LEAVING;
}

unsigned http_limits_capacity(const struct http_config *config)
{
	return config->max_connections + config->reserved_connections + MAX_REFUSED + MAX_LEAVING +
	       1;
}

void http_limits_refuse(struct http_request *request)
{
	const struct http_connection *connection = request->connection;
	const struct http_config *config = &connection->server->config;

	http_reply_header(request, MHD_HTTP_HEADER_CONNECTION, "close");
	if (connection->refused == MHD_HTTP_TOO_MANY_REQUESTS)
		http_reply_error(request, connection->refused,
				 "%s has %u connections, none of them idle, which is the limit (%s "
				 "is %u, and one user gets no more than this)",
				 connection->peer.user_name, config->max_user_connections,
				 config->connections_limit, config->max_connections);
	else
		http_reply_error(request, connection->refused,
				 "%u connections are open, none of them idle, which is the limit "
				 "(%s)",
				 config->max_connections, config->connections_limit);
}

bool http_limits_admit_request(struct http_request *request)
{
	const struct http_route *route = request->route;
	const struct http_connection *connection = request->connection;
	unsigned all = 0, of_user = 0;

	if (!route || route->max_active == 0)
		return true;
	LIST_FOREACH(link, &connection->server->connections) {
		const struct http_connection *other = connection_at(link);

		if (other == connection || !other->request || other->request->route != route)
			continue;
		all++;
		of_user += other->peer.user == connection->peer.user;
	}
	if (all >= route->max_active)
		http_reply_error(request, MHD_HTTP_TOO_MANY_REQUESTS,
				 "%u requests to %s are being handled, which is the limit", all,
				 route->path);
	else if (of_user >= (route->max_active + 1) / 2)
		http_reply_error(
			request, MHD_HTTP_TOO_MANY_REQUESTS,
			"%u requests to %s of %s are being handled, which is the limit for "
			"one user",
			of_user, route->path, connection->peer.user_name);
	return !request->answered;
}

/* ---- memory ---- */

bool http_limits_hold(struct http_request *request, size_t size)
{
	struct http_server *server = request->connection->server;

	if (server->config.max_held_bytes > 0 && size > LITTLE &&
	    server->held_bytes + size > server->config.max_held_bytes)
		return false;
	server->held_bytes += size;
	request->held_bytes += size;
	return true;
}

void http_limits_release(struct http_request *request)
{
	request->connection->server->held_bytes -= request->held_bytes;
	request->held_bytes = 0;
}

void http_limits_refuse_memory(struct http_request *request)
{
	http_reply_error(request, MHD_HTTP_TOO_MANY_REQUESTS,
			 "bodies and answers of %" PRIu64 " MiB are held in memory, which is the "
			 "limit: try again",
			 request->connection->server->config.max_held_bytes >> 20);
}

/* ---- time ---- */

/* When the client will have taken too long; UINT64_MAX: it is our turn. */
static uint64_t deadline_of(const struct http_connection *connection)
{
	const struct http_request *request = connection->request;
	uint64_t timeout_s = connection->server->config.idle_timeout_s;

	if (connection->leaving || (timeout_s == 0 && !connection->refused))
		return UINT64_MAX;
	if (is_idle(connection))
		return connection->head_since_us +
		       (connection->refused ? REFUSED_TIMEOUT_S : timeout_s) * USEC_PER_SEC;
	if (timeout_s == 0 || !request->has_body || request->asked)
		return UINT64_MAX;
	return request->pace_since_us + timeout_s * USEC_PER_SEC;
}

static void cut_off(struct http_connection *connection)
{
	struct http_request *request = connection->request;

	/* A connection without a request has nobody who waits for an answer. */
	if (request && !request->answered) {
		if (request->begun)
			http_reply_error(request, MHD_HTTP_REQUEST_TIMEOUT,
					 "the body came at less than %d bytes in %u s",
					 HTTP_MIN_PACE, connection->server->config.idle_timeout_s);
		else
			http_reply_error(request, MHD_HTTP_REQUEST_TIMEOUT,
					 "the head of the request took longer than %u s",
					 connection->server->config.idle_timeout_s);
	}
	if (request)
		http_reply_raw(request);
	end_connection(connection);
}

static void arm(struct http_server *server, uint64_t when_us)
{
	if (when_us >= server->deadline_us)
		return;
	server->deadline_us = when_us;
	(void)sd_event_source_set_time(server->deadline_source, when_us);
	(void)sd_event_source_set_enabled(server->deadline_source, SD_EVENT_ONESHOT);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *data)
{
	struct http_server *server = data;
	uint64_t now_us = now(server);

	(void)source;
	(void)usec;
	server->deadline_us = UINT64_MAX;
	LIST_FOREACH(link, &server->connections) {
		struct http_connection *connection = connection_at(link);
		uint64_t when_us = deadline_of(connection);

		if (when_us <= now_us && !is_idle(connection) &&
		    connection->request->pace_bytes >= HTTP_MIN_PACE) {
			connection->request->pace_since_us = now_us;
			connection->request->pace_bytes = 0;
			when_us = deadline_of(connection);
		}
		if (when_us <= now_us)
			cut_off(connection);
		else
			arm(server, when_us);
	}
	return 0;
}

void http_limits_watch(struct http_connection *connection)
{
	uint64_t when_us = deadline_of(connection);

	if (when_us != UINT64_MAX)
		arm(connection->server, when_us);
}

void http_limits_watch_head(struct http_connection *connection)
{
	connection->head_since_us = now(connection->server);
	http_limits_watch(connection);
}

void http_limits_watch_body(struct http_request *request)
{
	request->has_body = true;
	request->pace_since_us = now(request->connection->server);
	http_limits_watch(request->connection);
}

int http_limits_init(struct http_server *server)
{
	int r;

	server->deadline_us = UINT64_MAX;
	r = sd_event_add_time(server->config.event, &server->deadline_source, CLOCK_MONOTONIC, 0,
			      ACCURACY_US, on_deadline, server);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(server->deadline_source, "http-deadline");
	return sd_event_source_set_enabled(server->deadline_source, SD_EVENT_OFF);
}

void http_limits_done(struct http_server *server)
{
	server->deadline_source = sd_event_source_disable_unref(server->deadline_source);
}

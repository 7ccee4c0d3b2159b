/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/http-internal.h"

/*
 * MHD has no thread and no listening socket here: we accept, so that MHD 0.9.75 never copies the
 * address of a client that is longer than its buffer, and so that a lack of fds does not make it
 * spin. Its epoll fd is one source of the loop, and its next timeout another. A connection that
 * waits for us is suspended: MHD does not look at it, so a source of ours watches for its client
 * leaving. All that was resumed in one turn of the loop is served by one MHD_run() in the next.
 */

enum {
	MAX_ACCEPTS = 16,	   /* a turn of the loop */
	CONNECTION_MEMORY = 16384, /* bytes: the longest head, and a piece of a body or an answer;
				      MHD clears all of it for each request */
	ACCEPT_RETRY_US = 100000,  /* after a lack of fds or memory */
	TIMER_TOLERANCE_US = 2000, /* a timer that is as near as this stays */
};

static void run_soon(struct http_server *server)
{
	if (server->soon_source)
		(void)sd_event_source_set_enabled(server->soon_source, SD_EVENT_ONESHOT);
}

void http_connection_resume(struct http_connection *connection)
{
	if (!connection->suspended)
		return;
	connection->suspended = false;
	MHD_resume_connection(connection->mhd);
	/* MHD would only see it in its next run, whenever that is. */
	run_soon(connection->server);
}

static void go_on_accepting(struct http_server *server)
{
	for (unsigned i = 0; i < server->n_listeners; i++)
		(void)sd_event_source_set_enabled(server->listeners[i].source, SD_EVENT_ON);
}

static void connection_free(struct http_connection *connection)
{
	struct http_server *server = connection->server;

	(void)sd_event_source_disable_unref(connection->watch);
	list_remove(&connection->link);
	server->n_leaving -= connection->leaving;
	free(connection);
	go_on_accepting(server);
}

/* The client has closed its socket. MHD sees it too, unless the connection is suspended. */
static int on_left(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct http_connection *connection = userdata;

	(void)fd;
	(void)revents;
	(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	connection->left = true;
	http_connection_resume(connection);
	return 0;
}

/*
 * On the unix socket no events: a hang-up is always reported, and a client that has only shut down
 * its sending side still reads. By TCP the two look the same until something is sent, which may be
 * much later, or never; a client that sends no more is taken as gone there.
 */
static int watch_client(struct http_connection *connection)
{
	uint32_t events = connection->peer.address[0] ? EPOLLRDHUP : 0;
	int r;

	if (connection->watch)
		return 0;
	r = sd_event_add_io(connection->server->config.event, &connection->watch, connection->fd,
			    events, on_left, connection);
	if (r >= 0)
		(void)sd_event_source_set_description(connection->watch, "http-client");
	return r;
}

void http_connection_suspend(struct http_connection *connection)
{
	connection->suspended = true;
	MHD_suspend_connection(connection->mhd);
	/* One that nobody could see leave would be kept for ever. */
	if (watch_client(connection) < 0) {
		connection->left = true;
		http_connection_resume(connection);
	}
}

static int connection_new(struct http_connection **ret, struct http_server *server, int fd,
			  const struct sockaddr_storage *address)
{
	struct http_connection *connection = calloc(1, sizeof(*connection));

	if (!connection)
		return -ENOMEM;
	list_init(&connection->link);
	connection->server = server;
	connection->fd = fd;
	http_limits_name_peer(&connection->peer, fd, address);
	list_append(&server->connections, &connection->link);
	*ret = connection;
	return 0;
}

static void serve(struct http_server *server, int fd, const struct sockaddr_storage *address)
{
	/* What MHD is told: nobody asks it. */
	const struct sockaddr_un nowhere = { .sun_family = AF_UNIX };

	if (connection_new(&server->accepting, server, fd, address) < 0) {
		(void)close(fd);
		return;
	}
	if (!http_limits_admit(server->accepting)) {
		connection_free(take_ptr(server->accepting));
		(void)close(fd);
		return;
	}
	/* on_connection() takes it from there. MHD owns the fd, also when it fails. */
	(void)MHD_add_connection(server->mhd, fd, (const struct sockaddr *)&nowhere,
				 sizeof(nowhere.sun_family));
	if (server->accepting)
		connection_free(take_ptr(server->accepting));
}

static int on_listen(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct http_server *server = userdata;

	(void)revents;
	for (unsigned i = 0; i < MAX_ACCEPTS; i++) {
		struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
		socklen_t length = sizeof(address);
		int client;

		if (!http_limits_accepts(server)) {
			(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
			return 0;
		}
		client = accept4(fd, (struct sockaddr *)&address, &length,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client >= 0) {
			serve(server, client, &address);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
			(void)sd_event_source_set_time_relative(server->retry_source,
								ACCEPT_RETRY_US);
			(void)sd_event_source_set_enabled(server->retry_source, SD_EVENT_ONESHOT);
		}
		return 0;
	}
	return 0;
}

static int on_retry(sd_event_source *source, uint64_t now_us, void *userdata)
{
	struct http_server *server = userdata;

	(void)source;
	(void)now_us;
	go_on_accepting(server);
	return 0;
}

static struct http_connection *connection_of(struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct http_server *server = cls;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		struct http_connection *connection = take_ptr(server->accepting);

		connection->mhd = mhd;
		*context = connection;
	} else if (*context) {
		/* MHD closes the fd after this. */
		connection_free(*context);
		*context = NULL;
	}
}

/* The first that is known of a request; what is returned becomes its context. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
	struct http_connection *connection = connection_of(mhd);

	(void)cls;
	if (!connection)
		return NULL;
	connection->request = http_request_new(connection, target);
	return connection->request;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **context,
			 enum MHD_RequestTerminationCode code)
{
	struct http_server *server = cls;
	struct http_request *request = *context;
	struct http_connection *connection;

	(void)code;
	*context = NULL;
	if (!request)
		return;
	if (request->stream)
		(void)MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT,
						server->config.idle_timeout_s);
	connection = request->connection;
	(void)http_request_free(request);
	http_limits_watch_head(connection);
}

static enum MHD_Result go_on(const struct http_request *request)
{
	/* MHD_NO closes the connection without an answer. */
	if (request->broken || request->connection->left || request->connection->leaving)
		return MHD_NO;
	return MHD_YES;
}

/*
 * A refusal is kept until the body is there: a client that is still sending does not read. It goes
 * out at once when the client waits for it (100-continue), or when the body is too long to be read
 * for nothing; MHD closes the connection then.
 */
static bool must_answer_now(const struct http_request *request)
{
	const char *expect = http_request_header(request, MHD_HTTP_HEADER_EXPECT);
	uint64_t length;

	if (request->ambiguous)
		return true;
	if (!http_request_has_body(request, &length))
		return false;
	if (expect && strcasecmp(expect, "100-continue") == 0)
		return true;
	return length != UINT64_MAX && length > http_max_dropped(request);
}

static enum MHD_Result begin(struct http_request *request, const char *method)
{
	const struct http_config *config = &request->connection->server->config;
	uint64_t length;

	request->begun = true;
	request->method = method;
	if (request->connection->refused)
		http_limits_refuse(request);
	else if (config->identify)
		config->identify(request, config->data);
	if (!request->answered)
		http_request_route(request);
	if (!request->answered && config->admit)
		config->admit(request, config->data);
	if (!request->answered && http_limits_admit_request(request) && request->route->admit)
		request->route->admit(request, config->data);
	if (!request->answered && !request->broken)
		http_body_begin(request);
	if (http_request_has_body(request, &length))
		http_limits_watch_body(request);
	if (request->response && !request->broken && must_answer_now(request) &&
	    http_reply_queue(request) < 0)
		return MHD_NO;
	return go_on(request);
}

static enum MHD_Result add(struct http_request *request, const char *data, size_t size)
{
	if (!request->answered) {
		http_body_add(request, data, size);
		return go_on(request);
	}
	request->dropped += size;
	if (request->dropped > http_max_dropped(request)) {
		http_reply_raw(request);
		return MHD_NO;
	}
	return go_on(request);
}

static void handle(struct http_request *request, const struct http_config *config)
{
	if (config->gate)
		config->gate(request, request->route->handle, config->data);
	else
		request->route->handle(request, config->data);
}

/* The whole request is there. Runs again after each time that the connection has slept. */
static enum MHD_Result finish(struct http_request *request)
{
	struct http_connection *connection = request->connection;

	if (!request->asked) {
		request->asked = true;
		if (!request->answered)
			http_body_end(request);
		if (!request->answered && !request->broken)
			handle(request, &connection->server->config);
	}
	if (go_on(request) == MHD_NO)
		return MHD_NO;
	if (request->response)
		return http_reply_queue(request) < 0 ? MHD_NO : MHD_YES;
	http_connection_suspend(connection);
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *size, void **context)
{
	struct http_request *request = *context;

	(void)cls;
	(void)mhd;
	(void)url;
	(void)version;
	if (!request)
		return MHD_NO;
	if (!request->begun)
		return begin(request, method);
	if (*size > 0) {
		size_t taken = *size;

		*size = 0;
		request->pace_bytes += taken;
		return add(request, data, taken);
	}
	return finish(request);
}

static void run(struct http_server *server)
{
	server->running = true;
	(void)MHD_run(server->mhd);
	server->running = false;
}

static int on_run(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	(void)source;
	(void)fd;
	(void)revents;
	run(userdata);
	return 0;
}

static int on_soon(sd_event_source *source, void *userdata)
{
	(void)source;
	run(userdata);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t now_us, void *userdata)
{
	struct http_server *server = userdata;

	(void)source;
	(void)now_us;
	server->timer_us = UINT64_MAX;
	run(server);
	return 0;
}

/* Before the loop waits: MHD says how long it may. */
static int on_prepare(sd_event_source *source, void *userdata)
{
	struct http_server *server = userdata;
	MHD_UNSIGNED_LONG_LONG timeout_ms;
	uint64_t now_us, when_us;

	(void)source;
	/* Nobody is there in most turns of a loop that has other things to do. */
	if (list_empty(&server->connections) && server->timer_us == UINT64_MAX)
		return 0;
	if (MHD_get_timeout(server->mhd, &timeout_ms) != MHD_YES) {
		if (server->timer_us != UINT64_MAX)
			(void)sd_event_source_set_enabled(server->timer_source, SD_EVENT_OFF);
		server->timer_us = UINT64_MAX;
		return 0;
	}
	if (timeout_ms == 0) {
		run_soon(server);
		return 0;
	}
	(void)sd_event_now(server->config.event, CLOCK_MONOTONIC, &now_us);
	when_us = now_us + timeout_ms * 1000;
	if (when_us >= server->timer_us && when_us - server->timer_us < TIMER_TOLERANCE_US)
		return 0;
	server->timer_us = when_us;
	(void)sd_event_source_set_time(server->timer_source, when_us);
	(void)sd_event_source_set_enabled(server->timer_source, SD_EVENT_ONESHOT);
	return 0;
}

static int start_mhd(struct http_server *server, struct error *err)
{
	const struct http_config *config = &server->config;
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET;

#if MHD_VERSION >= 0x00097707
	/* Else MHD_add_connection() leaves its work to a later MHD_run(). */
	flags |= MHD_USE_NO_THREAD_SAFETY;
#endif
	server->mhd = MHD_start_daemon(
		flags, 0, NULL, NULL, on_request, server, MHD_OPTION_NOTIFY_CONNECTION,
		on_connection, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
		MHD_OPTION_URI_LOG_CALLBACK, on_target, server, MHD_OPTION_CONNECTION_LIMIT,
		http_limits_capacity(config), MHD_OPTION_CONNECTION_TIMEOUT, config->idle_timeout_s,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
	if (!server->mhd)
		return error_set(err, -EIO, "cannot start the HTTP server");
	return 0;
}

static int add_time(struct http_server *server, sd_event_source **ret, const char *description,
		    sd_event_time_handler_t handler)
{
	/* An accuracy of 0 would mean the default of 250 ms. */
	int r = sd_event_add_time(server->config.event, ret, CLOCK_MONOTONIC, 0, 1, handler,
				  server);

	if (r < 0)
		return r;
	(void)sd_event_source_set_description(*ret, description);
	return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static int add_io(struct http_server *server, sd_event_source **ret, const char *description,
		  int fd, sd_event_io_handler_t handler)
{
	int r = sd_event_add_io(server->config.event, ret, fd, EPOLLIN, handler, server);

	if (r >= 0)
		(void)sd_event_source_set_description(*ret, description);
	return r;
}

static int add_sources(struct http_server *server, struct error *err)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(server->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	int r = info ? 0 : -EIO;

	if (r >= 0)
		r = add_io(server, &server->run_source, "http-run", info->epoll_fd, on_run);
	if (r >= 0)
		r = sd_event_source_set_prepare(server->run_source, on_prepare);
	if (r >= 0)
		r = sd_event_add_defer(server->config.event, &server->soon_source, on_soon, server);
	if (r >= 0)
		r = sd_event_source_set_enabled(server->soon_source, SD_EVENT_OFF);
	if (r >= 0)
		(void)sd_event_source_set_description(server->soon_source, "http-soon");
	if (r >= 0)
		r = add_time(server, &server->timer_source, "http-timer", on_timer);
	if (r >= 0)
		r = add_time(server, &server->retry_source, "http-retry", on_retry);
	if (r >= 0)
		r = http_limits_init(server);
	if (r < 0)
		return error_code(err, r, "cannot watch the HTTP server");
	return http_server_listen(server, take_fd(&server->config.listen_fd), err);
}

CLEANUP_DEFINE(struct http_server *, http_server_free)

int http_server_new(struct http_server **ret, const struct http_config *config, struct error *err)
{
	cleanup_(http_server_freep) struct http_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server) {
		(void)close_fd(config->listen_fd);
		return error_oom(err);
	}
	server->config = *config;
	server->timer_us = UINT64_MAX;
	list_init(&server->connections);
	(void)sd_event_ref(config->event);
	r = start_mhd(server, err);
	if (r < 0)
		return r;
	r = add_sources(server, err);
	if (r < 0)
		return r;
	*ret = take_ptr(server);
	return 0;
}

int http_server_listen(struct http_server *server, int listen_fd, struct error *err)
{
	struct http_listener *listener = &server->listeners[server->n_listeners];
	close_ int fd = listen_fd;
	int r;

	if (server->n_listeners == HTTP_MAX_LISTENERS)
		return error_set(err, -E2BIG, "more than %d listening sockets", HTTP_MAX_LISTENERS);
	/* One that was inherited may block, and accept() is called until nobody waits. */
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, "cannot use the listening socket");
	r = add_io(server, &listener->source, "http-listen", fd, on_listen);
	if (r < 0)
		return error_code(err, r, "cannot watch the listening socket");
	listener->fd = take_fd(&fd);
	server->n_listeners++;
	return 0;
}

void http_server_stop_listening(struct http_server *server)
{
	for (unsigned i = 0; i < server->n_listeners; i++) {
		(void)sd_event_source_disable_unref(server->listeners[i].source);
		(void)close(server->listeners[i].fd);
	}
	server->n_listeners = 0;
	server->config.listen_fd = close_fd(server->config.listen_fd);
}

void http_server_set_upload_min_free(struct http_server *server, uint64_t bytes)
{
	if (server)
		server->config.upload_min_free = bytes;
}

struct http_server *http_server_free(struct http_server *server)
{
	if (!server)
		return NULL;
	/* MHD cannot be stopped from its own callbacks. */
	assert(!server->running);
	http_server_stop_listening(server);
	/* It aborts on a connection that sleeps when it is stopped. */
	LIST_FOREACH(link, &server->connections)
		http_connection_resume(CONTAINER_OF(link, struct http_connection, link));
	/* Its epoll fd must not be closed under our source. */
	(void)sd_event_source_disable_unref(server->run_source);
	server->soon_source = sd_event_source_disable_unref(server->soon_source);
	(void)sd_event_source_disable_unref(server->timer_source);
	(void)sd_event_source_disable_unref(server->retry_source);
	if (server->mhd)
		MHD_stop_daemon(server->mhd);
	http_limits_done(server);
	(void)sd_event_unref(server->config.event);
	free(server);
	return NULL;
}

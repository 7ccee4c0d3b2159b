/* SPDX-License-Identifier: MIT */
#include "executor/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"

enum {
	BACKLOG = 8,
	QUEUE_MAX = 64,		    /* packets that wait for a dutd that does not read */
	PACKETS_AT_ONCE = 512,	    /* read before others have a turn: more than a socket holds */
	HELLO_TIMEOUT_US = 5000000, /* from connect to hello */
	HELLO_ACCURACY_US = 100000,
};

/* A packet that waits. It has no fds: only hello carries some, and that is never queued. */
struct waiting {
	struct list link; /* peer.waiting */
	json_t *packet;
};

struct peer {
	struct control *control;
	int fd;
	sd_event_source *io, *timer; /* timer: until its hello */
	struct list waiting;
	unsigned n_waiting;
};

struct control {
	struct control_config config;
	uint64_t epoch;
	sd_event_source *listening;
	struct peer *peer;	/* said hello */
	struct peer *candidate; /* has not yet */
	json_t *open;		/* the power request without an answer */
	uint64_t number;	/* of the last request */
};

static struct peer *peer_free(struct peer *peer)
{
	if (peer) {
		LIST_FOREACH_SAFE(link, after, &peer->waiting) {
			struct waiting *waiting = CONTAINER_OF(link, struct waiting, link);

			json_decref(waiting->packet);
			free(waiting);
		}
		peer->io = sd_event_source_disable_unref(peer->io);
		peer->timer = sd_event_source_disable_unref(peer->timer);
		(void)close_fd(peer->fd);
		free(peer);
	}
	return NULL;
}

CLEANUP_DEFINE(struct peer *, peer_free)

/* Ends the present connection; the open request stays open. */
static void lose_peer(struct control *control, const char *why)
{
	control->peer = peer_free(control->peer);
	log_msg(LOG_INFO, "the control connection has ended: %s", why);
	control->config.handlers->lost(control->config.data);
}

static void wait_in_queue(struct peer *peer, json_t *packet)
{
	struct waiting *waiting = malloc(sizeof(*waiting));

	if (!waiting || peer->n_waiting == QUEUE_MAX) {
		free(waiting);
		json_decref(packet);
		lose_peer(peer->control, "dutd does not read");
		return;
	}
	waiting->packet = packet;
	list_append(&peer->waiting, &waiting->link);
	if (peer->n_waiting++ == 0)
		(void)sd_event_source_set_io_events(peer->io, EPOLLIN | EPOLLOUT);
}

void control_send(struct control *control, json_t *packet)
{
	struct peer *peer = control->peer;
	struct error err;
	int r;

	if (!peer) {
		json_decref(packet);
		return;
	}
	if (peer->n_waiting > 0) {
		wait_in_queue(peer, packet);
		return;
	}
	r = packet_send(peer->fd, json_incref(packet), NULL, 0, &err);
	if (r == -EAGAIN) {
		wait_in_queue(peer, packet);
		return;
	}
	json_decref(packet);
	if (r < 0)
		lose_peer(control, err.text);
}

static void send_waiting(struct peer *peer)
{
	LIST_FOREACH_SAFE(link, after, &peer->waiting) {
		struct waiting *waiting = CONTAINER_OF(link, struct waiting, link);
		struct error err;
		int r = packet_send(peer->fd, json_incref(waiting->packet), NULL, 0, &err);

		if (r == -EAGAIN)
			return;
		if (r < 0) {
			lose_peer(peer->control, err.text);
			return;
		}
		list_remove(&waiting->link);
		json_decref(waiting->packet);
		free(waiting);
		peer->n_waiting--;
	}
	(void)sd_event_source_set_io_events(peer->io, EPOLLIN);
}

void control_ask(struct control *control, json_t *request)
{
	json_decref(control->open);
	(void)json_object_set_new(request, "n", json_integer((json_int_t)++control->number));
	control->open = request;
	control_send(control, json_incref(request));
}

bool control_is_asking(const struct control *control)
{
	return control->open;
}

void control_forget(struct control *control)
{
	json_decref(control->open);
	control->open = NULL;
}

bool control_connected(const struct control *control)
{
	return control->peer;
}

static uint64_t get_number(const json_t *packet, const char *key)
{
	json_int_t number = json_integer_value(json_object_get(packet, key));

	return number > 0 ? (uint64_t)number : 0;
}

static const char *get_text(const json_t *packet, const char *key)
{
	return json_string_value(json_object_get(packet, key));
}

/* ---- what an accepted dutd says ---- */

static void on_go(struct control *control, const json_t *packet, int fds[static PACKET_FDS_MAX])
{
	(void)packet;
	(void)fds;
	control->config.handlers->go(control->config.data);
}

static void on_lend(struct control *control, const json_t *packet, int fds[static PACKET_FDS_MAX])
{
	const struct control_loan loan = {
		.name = get_text(packet, "name") ? get_text(packet, "name") : "main",
		.generation = get_number(packet, "gen"),
		.base = get_number(packet, "base"),
		.codec = json_object_get(packet, "codec"),
		.console_fd = take_fd(&fds[0]),
		.pipe_read_fd = take_fd(&fds[1]),
		.pipe_write_fd = take_fd(&fds[2]),
		.wake_fd = take_fd(&fds[3]),
	};

	control->config.handlers->lend(&loan, control->config.data);
}

static void on_return(struct control *control, const json_t *packet, int fds[static PACKET_FDS_MAX])
{
	(void)fds;
	control->config.handlers->give_back(get_number(packet, "gen"), control->config.data);
}

static void on_done(struct control *control, const json_t *packet, int fds[static PACKET_FDS_MAX])
{
	const struct control_answer answer = {
		.ok = json_is_true(json_object_get(packet, "ok")),
		.verified = json_is_true(json_object_get(packet, "verified")),
		.state = get_text(packet, "state") ? get_text(packet, "state") : "UNKNOWN",
		.error = get_text(packet, "error") ? get_text(packet, "error")
						   : "dutd gives no reason",
	};

	(void)fds;
	/* An answer names its request; one to an older request is late and means nothing. */
	if (!control->open || get_number(packet, "n") != get_number(control->open, "n"))
		return;
	control_forget(control);
	control->config.handlers->answered(&answer, control->config.data);
}

static void on_cancel(struct control *control, const json_t *packet, int fds[static PACKET_FDS_MAX])
{
	(void)fds;
	control->config.handlers->cancel(get_text(packet, "reason"), get_text(packet, "by"),
					 get_text(packet, "why"), control->config.data);
}

/* dutd's answer to a packet that it does not know: nothing depends on it. */
static void on_unknown(struct control *control, const json_t *packet,
		       int fds[static PACKET_FDS_MAX])
{
	(void)control;
	(void)fds;
	log_msg(LOG_DEBUG, "dutd does not know the packet '%s'",
		get_text(packet, "t") ? get_text(packet, "t") : "");
}

static void handle_packet(struct control *control, const json_t *packet,
			  int fds[static PACKET_FDS_MAX])
{
	static const struct {
		const char *type;
		void (*handle)(struct control *control, const json_t *packet,
			       int fds[static PACKET_FDS_MAX]);
	} packets[] = {
		{ "go", on_go },     { "lend", on_lend },     { "return", on_return },
		{ "done", on_done }, { "cancel", on_cancel }, { "unknown", on_unknown },
	};
	const char *type = get_text(packet, "t");

	for (size_t i = 0; i < ARRAY_SIZE(packets); i++)
		if (strcmp(type, packets[i].type) == 0) {
			packets[i].handle(control, packet, fds);
			return;
		}
	control_send(control, json_pack("{s:s, s:s}", "t", "unknown", "unknown", type));
}

static void close_fds(int fds[static PACKET_FDS_MAX])
{
	for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
		fds[i] = close_fd(fds[i]);
}

/*
 * Handles what the present dutd has sent. The connection may be another one, or none, when this
 * returns.
 */
static void read_peer(struct control *control)
{
	struct peer *peer = control->peer;

	for (unsigned i = 0; i < PACKETS_AT_ONCE && peer && control->peer == peer; i++) {
		int fds[PACKET_FDS_MAX];
		json_t *packet = NULL;
		struct error err;
		int r = packet_receive(peer->fd, &packet, fds, &err);

		if (r == -EAGAIN)
			return;
		if (r == 0 || (r < 0 && r != -EBADMSG)) {
			lose_peer(control, r == 0 ? "dutd closed it" : err.text);
			return;
		}
		if (r == -EBADMSG) {
			log_msg(LOG_WARNING, "%s", err.text);
			continue;
		}
		handle_packet(control, packet, fds);
		close_fds(fds);
		json_decref(packet);
	}
}

/* ---- a dutd that comes ---- */

/* The id is a text in packets; a number says the same. */
static bool is_our_job(const struct control *control, const json_t *id)
{
	char number[24];

	if (json_is_string(id))
		return strcmp(json_string_value(id), control->config.id) == 0;
	(void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(id));
	return json_is_integer(id) && strcmp(number, control->config.id) == 0;
}

static bool hello_fits(const struct control *control, const json_t *hello, struct error *err)
{
	const char *type = get_text(hello, "t"), *nonce = get_text(hello, "nonce");

	if (strcmp(type, "hello") != 0)
		(void)error_set(err, -EPROTO, "it began with '%.32s' instead of hello", type);
	else if (get_number(hello, "v") == 0)
		(void)error_set(err, -EPROTO, "its hello has no version");
	else if (!is_our_job(control, json_object_get(hello, "job")) ||
		 get_number(hello, "attempt") != control->config.attempt || !nonce ||
		 strcmp(nonce, control->config.nonce) != 0)
		(void)error_set(err, -EPROTO, "it means another job");
	else if (get_number(hello, "epoch") < control->epoch)
		(void)error_set(err, -EPROTO,
				"it is an older dutd (epoch %" PRIu64 ", the last was %" PRIu64 ")",
				get_number(hello, "epoch"), control->epoch);
	else
		return true;
	return false;
}

/* Sends our hello, and the open request again. */
static int answer_hello(struct control *control, struct peer *peer, struct error *err)
{
	int fds[PACKET_FDS_MAX] = { -1, -1, -1, -1 };
	unsigned n_fds = 0;
	json_t *hello =
		json_pack("{s:s, s:i, s:s, s:I, s:s, s:O?}", "t", "hello", "v", PROTOCOL_VERSION,
			  "job", control->config.id, "attempt", (json_int_t)control->config.attempt,
			  "nonce", control->config.nonce, "open", control->open);

	if (!hello)
		return error_oom(err);
	control->config.handlers->describe(hello, fds, control->config.data);
	while (n_fds < PACKET_FDS_MAX && fds[n_fds] >= 0)
		n_fds++;
	return packet_send(peer->fd, hello, fds, n_fds, err);
}

/* The candidate becomes the peer. */
static void promote(struct control *control, const json_t *hello)
{
	struct peer *candidate = control->candidate;
	struct error err;
	int r;

	/* What the old one said before it went counts, in its order. Reading it may end it. */
	if (control->peer)
		read_peer(control);
	if (control->peer)
		lose_peer(control, "another dutd has come");
	control->candidate = NULL;
	candidate->timer = sd_event_source_disable_unref(candidate->timer);
	control->epoch = get_number(hello, "epoch");
	r = answer_hello(control, candidate, &err);
	if (r < 0) {
		log_msg(LOG_WARNING, "cannot answer dutd: %s", err.text);
		(void)peer_free(candidate);
		return;
	}
	control->peer = candidate;
	control->config.handlers->connected(control->config.data);
	if (control->open)
		control_send(control, json_incref(control->open));
}

static void refuse_candidate(struct control *control, const char *why)
{
	log_msg(LOG_WARNING, "refused a control connection: %s", why);
	control->candidate = peer_free(control->candidate);
}

static void read_candidate(struct control *control)
{
	int fds[PACKET_FDS_MAX];
	json_t *hello = NULL;
	struct error err;
	int r = packet_receive(control->candidate->fd, &hello, fds, &err);

	if (r == -EAGAIN)
		return;
	if (r > 0)
		close_fds(fds);
	if (r == 0)
		refuse_candidate(control, "it left without a hello");
	else if (r < 0 || !hello_fits(control, hello, &err))
		refuse_candidate(control, err.text);
	else
		promote(control, hello);
	json_decref(hello);
}

static int on_peer(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct peer *peer = data;
	struct control *control = peer->control;

	(void)source;
	(void)fd;
	if (peer == control->candidate) {
		read_candidate(control);
		return 0;
	}
	if (revents & EPOLLOUT)
		send_waiting(peer);
	/* Sending may have ended the connection. */
	if (control->peer == peer && revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_peer(control);
	return 0;
}

static int on_hello_timeout(sd_event_source *source, uint64_t usec, void *data)
{
	struct peer *peer = data;

	(void)source;
	(void)usec;
	refuse_candidate(peer->control, "it said no hello");
	return 0;
}

/* The uid at the other end, or an error. */
static int check_uid(const struct control *control, int fd, struct error *err)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return error_errno(err, "cannot read who connected");
	if (peer.uid != control->config.uid && peer.uid != 0)
		return error_set(err, -EACCES, "uid %u is not dutd", (unsigned)peer.uid);
	return 0;
}

static int peer_new(struct peer **ret, struct control *control, int fd, struct error *err)
{
	cleanup_(peer_freep) struct peer *peer = calloc(1, sizeof(*peer));
	int r;

	if (!peer) {
		(void)close_fd(fd);
		return error_oom(err);
	}
	peer->control = control;
	peer->fd = fd;
	list_init(&peer->waiting);
	r = sd_event_add_io(control->config.event, &peer->io, fd, EPOLLIN, on_peer, peer);
	if (r < 0)
		return error_code(err, r, "cannot watch a control connection");
	(void)sd_event_source_set_description(peer->io, "control connection");
	(void)sd_event_source_set_priority(peer->io, SD_EVENT_PRIORITY_IMPORTANT);
	r = sd_event_add_time_relative(control->config.event, &peer->timer, CLOCK_BOOTTIME,
				       HELLO_TIMEOUT_US, HELLO_ACCURACY_US, on_hello_timeout, peer);
	if (r < 0)
		return error_code(err, r, "cannot time a control connection");
	(void)sd_event_source_set_description(peer->timer, "wait for hello");
	*ret = take_ptr(peer);
	return 0;
}

static int on_listening(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct control *control = data;
	int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct error err;

	(void)source;
	(void)revents;
	if (connection < 0)
		return 0;
	if (check_uid(control, connection, &err) < 0) {
		log_msg(LOG_WARNING, "refused a control connection: %s", err.text);
		(void)close_fd(connection);
		return 0;
	}
	/* The newest has the word; one that came before may have said its hello by now. */
	if (control->candidate)
		read_candidate(control);
	if (control->candidate)
		refuse_candidate(control, "another one came before its hello");
	if (peer_new(&control->candidate, control, connection, &err) < 0)
		log_msg(LOG_WARNING, "%s", err.text);
	return 0;
}

int control_new(struct control **ret, const struct control_config *config, struct error *err)
{
	struct control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return error_oom(err);
	control->config = *config;
	control->epoch = config->epoch;
	if (listen(config->listen_fd, BACKLOG) < 0) {
		free(control);
		return error_errno(err, "cannot listen for dutd");
	}
	r = sd_event_add_io(config->event, &control->listening, config->listen_fd, EPOLLIN,
			    on_listening, control);
	if (r < 0) {
		free(control);
		return error_code(err, r, "cannot wait for dutd");
	}
	(void)sd_event_source_set_description(control->listening, "control socket");
	(void)sd_event_source_set_priority(control->listening, SD_EVENT_PRIORITY_IMPORTANT);
	*ret = control;
	return 0;
}

struct control *control_free(struct control *control)
{
	if (control) {
		control->listening = sd_event_source_disable_unref(control->listening);
		control->candidate = peer_free(control->candidate);
		control->peer = peer_free(control->peer);
		json_decref(control->open);
		free(control);
	}
	return NULL;
}

void control_finish(struct control *control)
{
	if (control->peer && control->peer->n_waiting > 0)
		send_waiting(control->peer);
	/* Closing a socket with unread packets would give dutd an error instead of our last words.
	 */
	read_peer(control);
}

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
#include "base/log.h"
#include "executor/peer.h"

enum {
	BACKLOG = 8,
	REFUSALS_TOLD = 20,	    /* in the log */
	PACKETS_AT_ONCE = 512,	    /* read before others have a turn: more than a socket holds */
	HELLO_TIMEOUT_US = 5000000, /* from connect to hello */
	HELLO_ACCURACY_US = 100000,
};

struct control {
	struct control_config config;
	uint64_t epoch;
	sd_event_source *listening;
	struct peer *peer;	/* said hello */
	struct peer *candidate; /* has not yet */
	sd_event_source *timer; /* how long the candidate may take */
	unsigned refused;	/* connections that the log has heard of */
	json_t *open;		/* the power request without an answer */
	uint64_t number;	/* of the last request */
};

CLEANUP_DEFINE(struct control *, control_free)

/* Ends the present connection; the open request stays open. */
static void lose_peer(struct control *control, const char *why)
{
	control->peer = peer_free(control->peer);
	log_msg(LOG_INFO, "the control connection has ended: %s", why);
	control->config.handlers->lost(control->config.data);
}

void control_send(struct control *control, json_t *packet)
{
	if (control->peer)
		peer_send(control->peer, packet);
	else
		json_decref(packet);
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

void control_loan_close(const struct control_loan *loan)
{
	(void)close_fd(loan->console_fd);
	(void)close_fd(loan->pipe_read_fd);
	(void)close_fd(loan->pipe_write_fd);
	(void)close_fd(loan->wake_fd);
}

/* ---- what an accepted dutd says ---- */

static void on_go(struct control *control, const json_t *packet)
{
	(void)packet;
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

static void on_return(struct control *control, const json_t *packet)
{
	control->config.handlers->give_back(get_number(packet, "gen"), control->config.data);
}

static void on_done(struct control *control, const json_t *packet)
{
	const struct control_answer answer = {
		.ok = json_is_true(json_object_get(packet, "ok")),
		.verified = json_is_true(json_object_get(packet, "verified")),
		.state = get_text(packet, "state") ? get_text(packet, "state") : "UNKNOWN",
		.error = get_text(packet, "error") ? get_text(packet, "error")
						   : "dutd gives no reason",
	};

	/* An answer names its request; one to an older request is late and means nothing. */
	if (!control->open || get_number(packet, "n") != get_number(control->open, "n"))
		return;
	control_forget(control);
	control->config.handlers->answered(&answer, control->config.data);
}

static void on_cancel(struct control *control, const json_t *packet)
{
	control->config.handlers->cancel(get_text(packet, "reason"), get_text(packet, "by"),
					 get_text(packet, "why"), control->config.data);
}

/* dutd's answer to a packet that it does not know: nothing depends on it. */
static void on_unknown(struct control *control, const json_t *packet)
{
	(void)control;
	log_msg(LOG_DEBUG, "dutd does not know the packet '%s'",
		get_text(packet, "t") ? get_text(packet, "t") : "");
}

static void handle_packet(struct control *control, const json_t *packet,
			  int fds[static PACKET_FDS_MAX])
{
	static const struct {
		const char *type;
		void (*handle)(struct control *control, const json_t *packet);
	} packets[] = {
		{ "go", on_go },	 { "return", on_return },   { "done", on_done },
		{ "cancel", on_cancel }, { "unknown", on_unknown },
	};
	const char *type = get_text(packet, "t");

	/* The one packet with fds. */
	if (strcmp(type, "lend") == 0) {
		on_lend(control, packet, fds);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(packets); i++)
		if (strcmp(type, packets[i].type) == 0) {
			packets[i].handle(control, packet);
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
		int r = peer_receive(peer, &packet, fds, &err);

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
	return peer_send_fds(peer, hello, fds, n_fds, err);
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
	(void)sd_event_source_set_enabled(control->timer, SD_EVENT_OFF);
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

/* Whoever comes again and again does not fill the log. */
static void complain(struct control *control, const char *why)
{
	if (control->refused < REFUSALS_TOLD)
		log_msg(LOG_WARNING, "refused a control connection: %s%s", why,
			control->refused == REFUSALS_TOLD - 1 ? "; more of them are not told" : "");
	if (control->refused < REFUSALS_TOLD)
		control->refused++;
}

static void refuse_candidate(struct control *control, const char *why)
{
	complain(control, why);
	control->candidate = peer_free(control->candidate);
	(void)sd_event_source_set_enabled(control->timer, SD_EVENT_OFF);
}

static void read_candidate(struct control *control)
{
	int fds[PACKET_FDS_MAX];
	json_t *hello = NULL;
	struct error err;
	int r = peer_receive(control->candidate, &hello, fds, &err);

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

/* A connection has packets: the present one's or the candidate's. */
static void on_readable(void *data)
{
	struct control *control = data;

	if (control->candidate)
		read_candidate(control);
	if (control->peer)
		read_peer(control);
}

static int on_hello_timeout(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	refuse_candidate(data, "it said no hello");
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

/* Waits for the hello of a new connection; takes over fd. */
static int admit(struct control *control, int fd, struct error *err)
{
	int r = check_uid(control, fd, err);

	if (r < 0) {
		(void)close_fd(fd);
		return r;
	}
	/* The newest has the word; one that came before may have said its hello by now. */
	if (control->candidate)
		read_candidate(control);
	if (control->candidate)
		refuse_candidate(control, "another one came before its hello");
	r = sd_event_source_set_time_relative(control->timer, HELLO_TIMEOUT_US);
	if (r >= 0)
		r = sd_event_source_set_enabled(control->timer, SD_EVENT_ONESHOT);
	if (r < 0) {
		(void)close_fd(fd);
		return error_code(err, r, "cannot time a control connection");
	}
	return peer_new(&control->candidate, control->config.event, fd, on_readable, control, err);
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
	if (admit(control, connection, &err) < 0)
		complain(control, err.text);
	return 0;
}

static int open_sources(struct control *control, struct error *err)
{
	sd_event *event = control->config.event;
	int r;

	r = sd_event_add_io(event, &control->listening, control->config.listen_fd, EPOLLIN,
			    on_listening, control);
	if (r >= 0)
		r = sd_event_source_set_priority(control->listening, SD_EVENT_PRIORITY_IMPORTANT);
	if (r >= 0)
		r = sd_event_add_time(event, &control->timer, CLOCK_BOOTTIME, 0, HELLO_ACCURACY_US,
				      on_hello_timeout, control);
	if (r >= 0)
		r = sd_event_source_set_enabled(control->timer, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "cannot wait for dutd");
	(void)sd_event_source_set_description(control->listening, "control socket");
	(void)sd_event_source_set_description(control->timer, "wait for hello");
	return 0;
}

int control_new(struct control **ret, const struct control_config *config, struct error *err)
{
	cleanup_(control_freep) struct control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return error_oom(err);
	control->config = *config;
	control->epoch = config->epoch;
	r = open_sources(control, err);
	if (r < 0)
		return r;
	if (listen(config->listen_fd, BACKLOG) < 0)
		return error_errno(err, "cannot listen for dutd");
	*ret = take_ptr(control);
	return 0;
}

struct control *control_free(struct control *control)
{
	if (control) {
		control->listening = sd_event_source_disable_unref(control->listening);
		control->timer = sd_event_source_disable_unref(control->timer);
		control->candidate = peer_free(control->candidate);
		control->peer = peer_free(control->peer);
		json_decref(control->open);
		free(control);
	}
	return NULL;
}

void control_finish(struct control *control)
{
	if (!control->peer)
		return;
	peer_flush(control->peer);
	/* Closing a socket with unread packets would give dutd an error instead of our last words.
	 */
	read_peer(control);
}

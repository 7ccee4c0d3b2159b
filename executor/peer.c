/* SPDX-License-Identifier: MIT */
#include "executor/peer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"

/* A packet that waits. It has no fds: only hello carries some, and that is never queued. */
struct waiting {
	struct list link; /* peer.waiting */
	json_t *packet;
};

struct peer {
	int fd;
	sd_event_source *io;
	void (*readable)(void *data);
	void *data;
	struct list waiting;
	unsigned n_waiting;
	bool broken; /* takes no packets any more */
	bool reset;  /* has told so with ECONNRESET, which comes before the last packets */
};

struct peer *peer_free(struct peer *peer)
{
	if (peer) {
		LIST_FOREACH_SAFE(link, after, &peer->waiting) {
			struct waiting *waiting = CONTAINER_OF(link, struct waiting, link);

			json_decref(waiting->packet);
			free(waiting);
		}
		peer->io = sd_event_source_disable_unref(peer->io);
		(void)close_fd(peer->fd);
		free(peer);
	}
	return NULL;
}

CLEANUP_DEFINE(struct peer *, peer_free)

static int on_event(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct peer *peer = data;

	(void)source;
	(void)fd;
	if (revents & EPOLLOUT)
		peer_flush(peer);
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		peer->readable(peer->data);
	return 0;
}

int peer_new(struct peer **ret, sd_event *event, int fd, void (*readable)(void *data), void *data,
	     struct error *err)
{
	cleanup_(peer_freep) struct peer *peer = calloc(1, sizeof(*peer));
	int r;

	if (!peer) {
		(void)close_fd(fd);
		return error_oom(err);
	}
	peer->fd = fd;
	peer->readable = readable;
	peer->data = data;
	list_init(&peer->waiting);
	r = sd_event_add_io(event, &peer->io, fd, EPOLLIN, on_event, peer);
	if (r < 0)
		return error_code(err, r, "cannot watch a control connection");
	(void)sd_event_source_set_description(peer->io, "control connection");
	(void)sd_event_source_set_priority(peer->io, SD_EVENT_PRIORITY_IMPORTANT);
	*ret = take_ptr(peer);
	return 0;
}

/* What it sent is still read; its end is noticed there. */
static void give_up_sending(struct peer *peer, const char *why)
{
	log_msg(LOG_DEBUG, "dutd takes no packets: %s", why);
	peer->broken = true;
	(void)sd_event_source_set_io_events(peer->io, EPOLLIN);
}

static void wait_in_queue(struct peer *peer, json_t *packet)
{
	struct waiting *waiting = malloc(sizeof(*waiting));

	if (!waiting || peer->n_waiting == PEER_QUEUE_MAX) {
		free(waiting);
		json_decref(packet);
		/* One that does not read for so long is hung: a new connection may do better. */
		(void)shutdown(peer->fd, SHUT_RDWR);
		give_up_sending(peer, "too many wait for it");
		return;
	}
	waiting->packet = packet;
	list_append(&peer->waiting, &waiting->link);
	if (peer->n_waiting++ == 0)
		(void)sd_event_source_set_io_events(peer->io, EPOLLIN | EPOLLOUT);
}

void peer_send(struct peer *peer, json_t *packet)
{
	struct error err;
	int r;

	if (peer->broken) {
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
		give_up_sending(peer, err.text);
}

int peer_send_fds(struct peer *peer, json_t *packet, const int *fds, unsigned n_fds,
		  struct error *err)
{
	return packet_send(peer->fd, packet, fds, n_fds, err);
}

void peer_flush(struct peer *peer)
{
	if (peer->broken)
		return;
	LIST_FOREACH_SAFE(link, after, &peer->waiting) {
		struct waiting *waiting = CONTAINER_OF(link, struct waiting, link);
		struct error err;
		int r = packet_send(peer->fd, json_incref(waiting->packet), NULL, 0, &err);

		if (r == -EAGAIN)
			return;
		if (r < 0) {
			give_up_sending(peer, err.text);
			return;
		}
		list_remove(&waiting->link);
		json_decref(waiting->packet);
		free(waiting);
		peer->n_waiting--;
	}
	(void)sd_event_source_set_io_events(peer->io, EPOLLIN);
}

int peer_receive(struct peer *peer, json_t **ret, int ret_fds[static PACKET_FDS_MAX],
		 struct error *err)
{
	int r = packet_receive(peer->fd, ret, ret_fds, err);

	if (r == -ECONNRESET && !peer->reset) {
		peer->reset = true;
		r = packet_receive(peer->fd, ret, ret_fds, err);
	}
	return r;
}

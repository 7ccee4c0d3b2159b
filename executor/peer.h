/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/protocol.h"

/*
 * One control connection: packets leave in their order, also when the other side does not read for
 * a while, and never block. A connection that takes no more packets can still be read to its end.
 */

enum { PEER_QUEUE_MAX = 64 /* packets that wait; with more the connection is given up */ };

struct peer;

/* Takes over fd (non-blocking), also on failure. readable runs when there may be packets. */
int peer_new(struct peer **ret, sd_event *event, int fd, void (*readable)(void *data), void *data,
	     struct error *err);
struct peer *peer_free(struct peer *peer);

/* Sends a packet, now or later; takes the reference. */
void peer_send(struct peer *peer, json_t *packet);

/* Sends one with fds, now or not at all. */
int peer_send_fds(struct peer *peer, json_t *packet, const int *fds, unsigned n_fds,
		  struct error *err);

/* Tries to send what waits. */
void peer_flush(struct peer *peer);

/* As packet_receive(). */
int peer_receive(struct peer *peer, json_t **ret, int ret_fds[static PACKET_FDS_MAX],
		 struct error *err);

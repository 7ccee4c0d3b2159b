/* SPDX-License-Identifier: MIT */
#pragma once

#include <curl/curl.h>

#include "base/list.h"
#include "cli/client.h"
#include "cli/endpoint.h"

/* What the files of the client share: client.c has the loop and the lives, client-request.c what is
 * sent and what comes back. */

struct client {
	sd_event *loop;
	CURLM *multi;
	sd_event_source *timer;
	struct endpoint endpoint;
	char *connect_path;		/* ENDPOINT_SOCKET: its path for connect(2) */
	int folder_fd;			/* -1, or of a path that is too long for a socket address */
	struct list tunnels;		/* ENDPOINT_SSH: tunnel.link */
	sd_event_source *tunnel_source; /* what libcurl connects to instead */
	char *tunnel_name;		/* its abstract name */
	struct error no_tunnel;		/* why ssh could not be started, or empty */
};

struct transfer {
	struct client *client;
	CURL *easy;
	curl_mime *form;
	struct curl_slist *headers;
	char *body; /* of the request */
	void (*on_head)(struct transfer *transfer, void *data);
	void (*on_bytes)(struct transfer *transfer, const char *bytes, size_t length, void *data);
	void (*on_done)(struct transfer *transfer, struct answer *answer, void *data);
	void *data;

	bool paused;
	bool over;
	bool is_sent;
	bool too_long;
	char *text; /* of the answer */
	size_t length, space;
	char *reason;
	bool has_offset;
	uint64_t console_offset;
	char words[CURL_ERROR_SIZE];
};

/* Sets everything that libcurl has to know of a request. */
int transfer_set_options(struct transfer *transfer, const struct client_request *request,
			 struct error *err);

/* ---- client-tunnel.c: connections through ssh ---- */

int tunnels_open(struct client *client, struct error *err);
void tunnels_close(struct client *client);

/* Why one has failed. */
int tunnel_explain(const struct client *client, struct error *err);

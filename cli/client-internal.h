/* SPDX-License-Identifier: MIT */
#pragma once

#include <curl/curl.h>

#include "cli/client.h"

/* What the files of the client share: client.c has the loop and the lives, client-request.c what is
 * sent and what comes back. */

struct client {
	sd_event *loop;
	CURLM *multi;
	sd_event_source *timer;
	char *socket_path;    /* as the caller named it */
	char *connect_path;   /* the same for connect(2) */
	int folder_fd;	      /* -1, or of a path that is too long for a socket address */
	unsigned n_transfers; /* that live */
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

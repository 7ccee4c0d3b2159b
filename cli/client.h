/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/error.h"

/*
 * A client of dutd's API, wherever that is (endpoint.h): libcurl's multi interface in the event
 * loop. The only file of dut that knows libcurl. Each request is a transfer; several run at a time.
 */

struct client;
struct endpoint;
struct transfer;

#define CLIENT_DEFAULT_SOCKET "/run/dutd/dutd.sock"

enum {
	CLIENT_ANSWER_MAX = 64 * 1024 * 1024, /* bytes of an answer that is no stream */
	CLIENT_ANSWER_TIMEOUT_S = 60,	      /* for an answer that needs nothing but dutd */
};

/* Owns: the endpoint is taken over, also on failure. */
int client_new(struct client **ret, sd_event *loop, struct endpoint *endpoint, struct error *err);

/* All its transfers must be gone. */
struct client *client_free(struct client *client);
CLEANUP_DEFINE(struct client *, client_free)

/* Part of a multipart form: a text, or (fd >= 0) a file from its start. Borrowed until done. */
struct client_part {
	const char *name;
	const char *type; /* the Content-Type, or NULL */
	const void *text;
	uint64_t length; /* of text, or of the file */
	int fd;
};

struct answer {
	/* 0: there is a whole answer, with an HTTP status. Else why there is none: -ECONNREFUSED,
	 * -ENOENT, -EACCES ... nobody could be reached; -ECONNRESET the connection broke later;
	 * -ETIMEDOUT; -EFBIG; -ENOMEM; -ECANCELED the caller's own end. */
	int r;
	struct error err; /* when r < 0 */
	unsigned status;
	json_t *json; /* the body, when it was JSON and no stream; else NULL */
	char *reason; /* the header Dut-Error, or NULL */
};

void answer_done(struct answer *answer);

struct client_request {
	const char *method;		 /* GET, PUT, POST */
	const char *path;		 /* below /api/v1, with its query; see client_path() */
	const json_t *body;		 /* or NULL; sent at once, not kept */
	const struct client_part *parts; /* or NULL; ends with a name of NULL */
	unsigned timeout_s;		 /* 0: none */

	/* Runs when the headers of a successful answer are there, or NULL. Must not free the
	 * transfer. */
	void (*on_head)(struct transfer *transfer, void *data);

	/*
	 * Gets the body of a successful answer piece by piece, or NULL: it is collected and parsed.
	 * Must not free the transfer, but may pause it.
	 */
	void (*on_bytes)(struct transfer *transfer, const char *bytes, size_t length, void *data);

	/*
	 * Runs once, from the loop, when the transfer is over; the transfer may be freed in it (and
	 * has to be, some time). The answer is the callee's: answer_done().
	 */
	void (*on_done)(struct transfer *transfer, struct answer *answer, void *data);
	void *data;
};

int client_start(struct transfer **ret, struct client *client, const struct client_request *request,
		 struct error *err);

/* Gives up a transfer that is not over (on_done does not run), and frees it. Takes NULL. */
struct transfer *transfer_free(struct transfer *transfer);
CLEANUP_DEFINE(struct transfer *, transfer_free)

/* No more on_bytes until it is resumed, whatever the daemon sends; the daemon notices by a full
 * socket. */
void transfer_pause(struct transfer *transfer);
void transfer_resume(struct transfer *transfer);

/* Whether everything that the request has to say was sent. */
bool transfer_is_sent(const struct transfer *transfer);

/* The header Console-Offset; false when there is none (yet). */
bool transfer_console_offset(const struct transfer *transfer, uint64_t *ret);

/*
 * A path of the API: each "%s" of format is a text that becomes one escaped segment or value, "%"
 * of anything else is not there.
 *
 * Owns: the caller frees it; NULL when memory ran out.
 */
char *client_path(const char *format, ...) printf_(1, 2);

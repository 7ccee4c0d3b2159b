/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/attr.h"
#include "base/error.h"
#include "base/jsontext.h"

/*
 * HTTP/1.1 over a unix socket, in the event loop, on libmicrohttpd. A handler answers at once or
 * later (the connection sleeps until then); a body is either small and in memory, or a form whose
 * big parts go to unlinked files; an answer is either one piece or a stream that is asked for bytes
 * when the socket has room, so that nothing is queued for a client that does not read. A body that
 * is refused is read and dropped, up to 64 MiB, because a client that is still sending does not
 * read the answer.
 */

struct http_server;
struct http_request;
struct http_stream;

enum { HTTP_ADDRESS_SIZE = 64, HTTP_USER_SIZE = 96 };

/* Who is at the other end. */
struct http_peer {
	/* Of the unix socket, SO_PEERCRED of unix(7); -1: by TCP. */
	pid_t pid;
	uid_t uid;
	gid_t gid;
	char address[HTTP_ADDRESS_SIZE]; /* by TCP: "192.0.2.1"; empty: the unix socket */
	uint64_t user;			 /* whose limits count: of a uid, an address, or what
					    http_request_set_user() said */
	char user_name[HTTP_USER_SIZE];	 /* for texts: "the user with uid 0" */
};

typedef void (*http_handler_fn)(struct http_request *request, void *data);

/* A part of a multipart/form-data body. */
struct http_part {
	const char *name;
	uint64_t max_bytes;
	const char *limit; /* the name of that limit, for the refusal: "limits.bucket" */
	const char *what;  /* what people call the part: "the bucket" */
	bool to_file;	   /* into an unlinked file in config.upload_dir_fd, else into memory */
};

struct http_route {
	const char *method;	/* a GET route answers HEAD too */
	const char *path;	/* "/api/v1/dut/{id}/power"; {x} stands for one segment */
	http_handler_fn handle; /* the whole body is there */
	http_handler_fn admit;	/* only the headers are there: may refuse by replying now; to return
				   without a reply admits. NULL: none */
	const struct http_part
		*parts;	     /* ends with a name of NULL; NULL: the body is taken as it is */
	unsigned max_active; /* requests of this route at once, from their heads on, half of them of
				one user; more get 429. 0: no limit */
	unsigned tag;	     /* the owner's own: http_request_tag() */
};

struct http_config {
	sd_event *event;
	int listen_fd;			 /* bound and listening; taken over, also on failure */
	const struct http_route *routes; /* ends with a path of NULL */
	void *data;			 /* for the handlers */
	/* Sees the head of each request before its route is known; refuses by replying. Or NULL. */
	http_handler_fn identify;
	/* The same when the route is known, before the body comes. Or NULL. */
	http_handler_fn admit;
	/* Stands before the routes' handlers: calls handle(request, data), at once or later, or
	 * replies itself. NULL: they are called. */
	void (*gate)(struct http_request *request, http_handler_fn handle, void *data);
	size_t max_body_bytes; /* of a body that is no form */
	unsigned max_connections;
	unsigned max_user_connections; /* of one uid; 0: no limit */
	unsigned reserved_connections; /* beyond both, of root and of this process's own user */
	const char *connections_limit; /* the name of that limit, for refusals */
	uint64_t max_held_bytes;       /* of bodies and answers in memory; 0: no limit */
	unsigned idle_timeout_s; /* to the end of the head of a request, from the answer before; and
				    of a client that does not read; and in which a body has to bring
				    16 KiB or its end; 0: none */
	uint64_t upload_min_free; /* bytes that uploads leave on the disk: 507 */
	int upload_dir_fd;	  /* borrowed; -1 when no route has a part with to_file */
};

int http_server_new(struct http_server **ret, const struct http_config *config, struct error *err);

/*
 * Ends every connection (streams get done(), sleeping requests gone(), both inside this call) and
 * closes the listening sockets. Not from a handler, read() or other callback of the server.
 */
struct http_server *http_server_free(struct http_server *server);

/* Another http_config.upload_min_free, from now on. NULL is allowed. */
void http_server_set_upload_min_free(struct http_server *server, uint64_t bytes);

/*
 * Listens on one more socket, such as one of TCP.
 *
 * Errors: -E2BIG over HTTP_MAX_LISTENERS.
 * Owns:   the fd is taken over, also on failure.
 */
enum { HTTP_MAX_LISTENERS = 16 };
int http_server_listen(struct http_server *server, int listen_fd, struct error *err);

/* Stops accepting; connections that live go on. */
void http_server_stop_listening(struct http_server *server);

/* What was asked. Texts live as long as the request; NULL when absent. */
const char *http_request_method(const struct http_request *request);
const char *http_request_path(const struct http_request *request);
const char *http_request_argument(const struct http_request *request, const char *name);
const char *http_request_query(const struct http_request *request, const char *name);
const char *http_request_header(const struct http_request *request, const char *name);
const struct http_peer *http_request_peer(const struct http_request *request);
unsigned http_request_tag(const struct http_request *request); /* of its route; 0: none */
const char *http_request_body(const struct http_request *request, size_t *ret_length);
const char *http_request_part(const struct http_request *request, const char *name,
			      size_t *ret_length);
int http_request_part_fd(const struct http_request *request,
			 const char *name); /* borrowed, or -1 */

/*
 * From identify(): who it is that asks, for the limits and their texts. It holds for the whole
 * connection. Replies when that user has too many connections.
 */
void http_request_set_user(struct http_request *request, uint64_t user, const char *name);

/* From identify(), which is about to refuse: not much of the body is read for that. */
void http_request_distrust(struct http_request *request);

/* What the owner keeps with the request; freed with it. */
void http_request_set_context(struct http_request *request, void *context,
			      void (*free_context)(void *context));
void *http_request_context(const struct http_request *request);

/*
 * For a handler that answers later: gone(data) runs once if the client leaves, or the server is
 * freed, before the reply; the request is invalid afterwards. It does not run after a reply.
 */
void http_request_on_gone(struct http_request *request, void (*gone)(void *data), void *data);

/* A header of the answer to come. Bytes outside printable ASCII become '?'. */
void http_reply_header(struct http_request *request, const char *name, const char *value);

/* One reply a request; the request is invalid afterwards. The body is copied. */
void http_reply(struct http_request *request, unsigned status, const char *content_type,
		const void *body, size_t length);

/* Takes the reference to object. */
void http_reply_json(struct http_request *request, unsigned status, json_t *object);

/* Takes over what was written. */
void http_reply_jsontext(struct http_request *request, unsigned status, struct jsontext *json);

/* {"error": TEXT, "error_msg": TEXT} and the header Dut-Error (printable ASCII, at most 200 bytes).
 */
void http_reply_error(struct http_request *request, unsigned status, const char *format, ...)
	printf_(3, 4);

/* The same with further members of extra (reference taken). */
void http_reply_error_json(struct http_request *request, unsigned status, json_t *extra,
			   const char *text);

/* The media type of a JSON object a line: job events, everywhere. */
#define HTTP_JSON_LINES "application/jsonl"

enum { HTTP_STREAM_END = -1, HTTP_STREAM_ABORT = -2 };

struct http_source {
	/* Up to size bytes into buffer: their number, 0 for "none now, I shall call
	 * http_stream_wake()", or END or ABORT. */
	ssize_t (*read)(void *data, char *buffer, size_t size);
	/* Runs once, at the end or when the client left; the stream is invalid afterwards. */
	void (*done)(void *data);
};

/*
 * Answers with a stream. Neither read() nor done() runs in this call. NULL when memory ran out: the
 * connection is closed then, and done() runs as ever.
 */
struct http_stream *http_reply_stream(struct http_request *request, unsigned status,
				      const char *content_type, const struct http_source *source,
				      void *data);

/* There is more to read, or the end. NULL is allowed. */
void http_stream_wake(struct http_stream *stream);

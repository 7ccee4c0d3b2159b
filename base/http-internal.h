/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/http.h"
#include "base/list.h"

/*
 * What the files of the HTTP server share. http.c has the sockets and MHD's callbacks,
 * http-request.c what was asked, http-body.c bodies and forms, http-reply.c answers and streams.
 */

struct MHD_Connection;
struct MHD_Daemon;
struct MHD_PostProcessor;
struct MHD_Response;
struct sockaddr_storage;

enum {
	HTTP_MAX_SEGMENTS = 16, /* of a path */
	HTTP_MAX_QUERIES = 16,	/* arguments behind the '?' */
	HTTP_MIN_PACE = 16384,	/* bytes of a body in each idle_timeout_s */
};

/* Bytes of a refused body that are read and dropped, so that its sender comes to read the answer;
 * and of one whose sender nobody knows. */
#define HTTP_MAX_DROPPED	  (64ULL << 20)
#define HTTP_MAX_DROPPED_STRANGER (256ULL << 10)

struct http_server {
	struct http_config config; /* listen_fd: -1, it is the first of the listeners */
	struct MHD_Daemon *mhd;
	struct http_listener {
		int fd;
		sd_event_source *source; /* accepts */
	} listeners[HTTP_MAX_LISTENERS];
	unsigned n_listeners;		  /* 0: it does not listen any more */
	sd_event_source *retry_source;	  /* accepts again after a lack of fds or memory */
	sd_event_source *run_source;	  /* MHD's epoll */
	sd_event_source *soon_source;	  /* MHD has work that no fd tells of */
	sd_event_source *timer_source;	  /* MHD's next timeout */
	uint64_t timer_us;		  /* when that is; UINT64_MAX: never */
	sd_event_source *deadline_source; /* the next client that takes too long */
	uint64_t deadline_us;		  /* when; UINT64_MAX: none */
	uint64_t held_bytes;		  /* of bodies and answers in memory */
	unsigned n_leaving;	 /* connections that we have shut down, and MHD has not closed */
	struct list connections; /* of http_connection.link */
	struct http_connection *accepting; /* not yet MHD's */
	bool running;			   /* in MHD_run(): handlers may run */
};

struct http_connection {
	struct http_server *server;
	struct list link; /* http_server.connections */
	struct MHD_Connection *mhd;
	struct http_request *request; /* the present one */
	struct http_peer peer;
	int fd;			/* MHD's */
	uint64_t head_since_us; /* CLOCK_MONOTONIC: accepted, or the last answer was out */
	unsigned refused;	/* the status that each request gets, or 0 */
	bool leaving;		/* shut down by us */
	sd_event_source *watch; /* sees the client leave while MHD does not look; NULL before */
	bool suspended;		/* and not resumed since */
	bool left;		/* the client has closed its socket */
};

struct http_query {
	const char *name, *value;
};

struct http_header {
	char *name, *value;
};

/* A part of a form while it comes in. */
struct http_upload {
	char *text;	 /* in memory, terminated */
	uint64_t length; /* bytes so far */
	size_t size;	 /* of text */
	int fd;		 /* to a file, or -1 */
	bool seen;
};

struct http_request {
	struct http_connection *connection;
	const struct http_route *route; /* NULL until the headers are there, or none fits */
	const char *method;
	char *path;    /* as it was asked, without the query */
	char *decoded; /* holds the segments */
	const char *segments[HTTP_MAX_SEGMENTS];
	unsigned n_segments;
	struct http_query queries[HTTP_MAX_QUERIES];
	unsigned n_queries;
	const char *malformed; /* what is wrong with the target, or NULL */
	bool ambiguous;	       /* where its body ends: nothing more is read */

	struct http_upload body;
	struct http_upload *uploads; /* one for each of route->parts */
	struct MHD_PostProcessor *form;
	uint64_t dropped; /* bytes of a refused body */
	bool stranger;	  /* http_request_distrust() */
	void *context;
	void (*free_context)(void *context);
	uint64_t held_bytes;
	bool has_body;
	uint64_t pace_since_us, pace_bytes; /* of the body */

	bool begun; /* the headers were looked at */
	bool asked; /* the handler has run */
	void (*gone)(void *data);
	void *gone_data;

	bool answered;		       /* a reply was made; the caller is done with the request */
	bool broken;		       /* no reply could be made: the connection is closed */
	struct MHD_Response *response; /* until MHD has it */
	unsigned status;
	char *error_body;	/* of an error, for http_reply_raw() */
	char error_header[201]; /* Dut-Error */
	struct http_header *headers;
	size_t n_headers;
	struct http_stream *stream;	 /* until MHD drops the response */
	void (*failed_done)(void *data); /* of a stream that there was no memory for */
	void *failed_data;
};

/* Takes a request's target, as it stands in the request line. NULL when memory ran out. */
struct http_request *http_request_new(struct http_connection *connection, const char *target);

/* Runs gone() where it is due. */
struct http_request *http_request_free(struct http_request *request);

/* Finds the route, and replies when there is none. */
void http_request_route(struct http_request *request);

/* Whether a body follows, and how long it is; UINT64_MAX when that is not said. */
bool http_request_has_body(const struct http_request *request, uint64_t *ret_length);

/* Looks at what the headers say of the body, and replies when it cannot be taken. */
void http_body_begin(struct http_request *request);

/* Takes the next bytes; replies when they go over a limit or are no form. */
void http_body_add(struct http_request *request, const char *data, size_t size);

/* Replies when the body has ended too early. */
void http_body_end(struct http_request *request);

void http_body_free(struct http_request *request);

/* Lets a connection that sleeps run on. */
void http_connection_resume(struct http_connection *connection);

void http_connection_suspend(struct http_connection *connection);

/* Hands the reply to MHD. -EIO when MHD does not take it. */
int http_reply_queue(struct http_request *request);

/* Frees what a reply needed beside its response, and lets go of the stream. */
void http_reply_forget(struct http_request *request);

/* Writes an error reply straight to the socket, for a connection that will be closed in the middle
 * of its body. */
void http_reply_raw(const struct http_request *request);

/* ---- http-limits.c ---- */

int http_limits_init(struct http_server *server);
void http_limits_done(struct http_server *server);

/* Whether another client may be accepted now; how many connections there can be at once. */
bool http_limits_accepts(const struct http_server *server);
unsigned http_limits_capacity(const struct http_config *config);

/* Gives a new connection a place, or notes that its request is to be refused. False when it cannot
 * even be answered. */
bool http_limits_admit(struct http_connection *connection);

/* Replies to the request of a connection that has no place. */
void http_limits_refuse(struct http_request *request);

/* Says who a new connection's peer is, as far as the socket tells. */
void http_limits_name_peer(struct http_peer *peer, int fd, const struct sockaddr_storage *address);

/* How much of a refused body is read for nothing. */
static inline uint64_t http_max_dropped(const struct http_request *request)
{
	return request->stranger ? HTTP_MAX_DROPPED_STRANGER : HTTP_MAX_DROPPED;
}

/* Whether the route has room for one more; else it is answered. */
bool http_limits_admit_request(struct http_request *request);

/* Counts memory that the request needs until it is freed; false when there is too much of it. */
bool http_limits_hold(struct http_request *request, size_t size);
void http_limits_release(struct http_request *request);
void http_limits_refuse_memory(struct http_request *request);

/* The client's time runs: to the head of its next request; for a body. */
void http_limits_watch(struct http_connection *connection);
void http_limits_watch_head(struct http_connection *connection);
void http_limits_watch_body(struct http_request *request);

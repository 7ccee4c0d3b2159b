/* SPDX-License-Identifier: MIT */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/http-internal.h"

/*
 * MHD decodes a target before we see it, so that "a%2Fb" and "a/b" look alike. Therefore the raw
 * target is taken from its log callback, and cut and decoded here.
 */

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/* Decodes %XX in place, and '+' when it stands for a blank. False for a bad escape and for NUL. */
static bool decode(char *text, bool plus_is_blank)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		if (*from == '%') {
			int high = hex_digit(from[1]);
			int low = high < 0 ? -1 : hex_digit(from[2]);

			if (low < 0 || high + low == 0)
				return false;
			*to++ = (char)(high * 16 + low);
			from += 2;
		} else {
			*to++ = *from;
			if (*from == '+' && plus_is_blank)
				to[-1] = ' ';
		}
	}
	*to = '\0';
	return true;
}

static const char *cut_path(struct http_request *request)
{
	char *rest = request->decoded;

	if (*rest++ != '/')
		return "the path does not start with '/'";
	while (rest) {
		char *segment = strsep(&rest, "/");

		if (!decode(segment, false))
			return "the path has a bad escape";
		if (strchr(segment, '/'))
			return "the path has an escaped '/'";
		/* No route is as long. */
		if (request->n_segments == HTTP_MAX_SEGMENTS)
			return "the path has too many segments";
		request->segments[request->n_segments++] = segment;
	}
	return NULL;
}

static const char *cut_query(struct http_request *request, char *rest)
{
	while (rest) {
		char *value = strsep(&rest, "&");
		char *name = strsep(&value, "=");

		if (!*name)
			continue;
		if (!decode(name, true) || (value && !decode(value, true)))
			return "the query has a bad escape";
		if (request->n_queries == HTTP_MAX_QUERIES)
			return "the query has too many arguments";
		request->queries[request->n_queries++] =
			(struct http_query){ .name = name, .value = value ? value : "" };
	}
	return NULL;
}

struct http_request *http_request_new(struct http_connection *connection, const char *target)
{
	struct http_request *request = calloc(1, sizeof(*request));
	char *query = NULL;

	if (!request)
		return NULL;
	request->connection = connection;
	request->body.fd = -1;
	request->path = strdup(target ? target : "");
	if (request->path) {
		query = strchr(request->path, '?');
		if (query)
			*query++ = '\0';
		request->decoded = strdup(request->path);
	}
	if (!request->decoded) {
		free(request->path);
		free(request);
		return NULL;
	}
	request->malformed = cut_path(request);
	if (!request->malformed)
		request->malformed = cut_query(request, query);
	return request;
}

struct http_request *http_request_free(struct http_request *request)
{
	if (!request)
		return NULL;
	if (request->gone && !request->answered) {
		request->answered = true;
		request->gone(request->gone_data);
	}
	if (request->failed_done)
		request->failed_done(request->failed_data);
	if (request->response)
		MHD_destroy_response(request->response);
	if (request->free_context)
		request->free_context(request->context);
	http_reply_forget(request);
	http_body_free(request);
	http_limits_release(request);
	request->connection->request = NULL;
	free(request->path);
	free(request->decoded);
	free(request);
	return NULL;
}

/* The segment of a route's path at *at, which moves on; its length in *ret_length. NULL at the end.
 */
static const char *next_segment(const char **at, size_t *ret_length)
{
	const char *segment = *at;

	if (*segment != '/')
		return NULL;
	segment++;
	*ret_length = (size_t)(strchrnul(segment, '/') - segment);
	*at = segment + *ret_length;
	return segment;
}

static bool is_argument(const char *segment, size_t length)
{
	return length > 2 && segment[0] == '{' && segment[length - 1] == '}';
}

static bool path_fits(const struct http_request *request, const char *path)
{
	const char *segment;
	size_t length;
	unsigned i = 0;

	for (; (segment = next_segment(&path, &length)); i++) {
		if (i == request->n_segments)
			return false;
		if (is_argument(segment, length)) {
			if (!request->segments[i][0])
				return false;
		} else if (strlen(request->segments[i]) != length ||
			   memcmp(request->segments[i], segment, length) != 0) {
			return false;
		}
	}
	return i == request->n_segments;
}

static bool method_fits(const struct http_request *request, const char *method)
{
	return strcmp(request->method, method) == 0 ||
	       (strcmp(request->method, "HEAD") == 0 && strcmp(method, "GET") == 0);
}

/* Says which methods this path has, if it has any. */
static void refuse(struct http_request *request)
{
	char allow[128] = "";
	size_t used = 0;

	for (const struct http_route *route = request->connection->server->config.routes;
	     route->path; route++) {
		if (!path_fits(request, route->path) || used >= sizeof(allow))
			continue;
		used += (size_t)snprintf(allow + used, sizeof(allow) - used, "%s%s%s",
					 used > 0 ? ", " : "", route->method,
					 strcmp(route->method, "GET") == 0 ? ", HEAD" : "");
	}
	if (used == 0) {
		http_reply_error(request, MHD_HTTP_NOT_FOUND, "there is nothing at %.200s",
				 request->path);
		return;
	}
	http_reply_header(request, MHD_HTTP_HEADER_ALLOW, allow);
	http_reply_error(request, MHD_HTTP_METHOD_NOT_ALLOWED, "%.200s has %s, not %.20s",
			 request->path, allow, request->method);
}

struct framing {
	unsigned lengths, encodings;
	bool chunked;
};

static enum MHD_Result note_framing(void *cls, enum MHD_ValueKind kind, const char *name,
				    const char *value)
{
	struct framing *framing = cls;

	(void)kind;
	if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0)
		framing->lengths++;
	if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
		framing->encodings++;
		framing->chunked = value && strcasecmp(value, "chunked") == 0;
	}
	return MHD_YES;
}

/*
 * A body that two readers could see end at different places is not read at all.
 *
 * Source: RFC 9112, section 6.3.
 */
static void check_framing(struct http_request *request)
{
	struct framing framing = { 0 };

	(void)MHD_get_connection_values(request->connection->mhd, MHD_HEADER_KIND, note_framing,
					&framing);
	if (framing.encodings > 0 && framing.lengths > 0)
		request->malformed = "there is a Content-Length beside a Transfer-Encoding";
	else if (framing.lengths > 1)
		request->malformed = "there are several Content-Lengths";
	else if (framing.encodings > 1 || (framing.encodings > 0 && !framing.chunked))
		request->malformed = "the Transfer-Encoding is not chunked";
	else
		return;
	request->ambiguous = true;
}

void http_request_route(struct http_request *request)
{
	check_framing(request);
	if (request->malformed) {
		http_reply_error(request, MHD_HTTP_BAD_REQUEST, "%s", request->malformed);
		return;
	}
	for (const struct http_route *route = request->connection->server->config.routes;
	     route->path; route++) {
		if (method_fits(request, route->method) && path_fits(request, route->path)) {
			request->route = route;
			return;
		}
	}
	refuse(request);
}

const char *http_request_method(const struct http_request *request)
{
	return request->method;
}

const char *http_request_path(const struct http_request *request)
{
	return request->path;
}

const char *http_request_argument(const struct http_request *request, const char *name)
{
	const char *path = request->route ? request->route->path : "";
	const char *segment;
	size_t length;

	for (unsigned i = 0; (segment = next_segment(&path, &length)); i++)
		if (is_argument(segment, length) && strlen(name) == length - 2 &&
		    memcmp(segment + 1, name, length - 2) == 0)
			return request->segments[i];
	return NULL;
}

const char *http_request_query(const struct http_request *request, const char *name)
{
	for (unsigned i = 0; i < request->n_queries; i++)
		if (strcmp(request->queries[i].name, name) == 0)
			return request->queries[i].value;
	return NULL;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection->mhd, MHD_HEADER_KIND, name);
}

const struct http_peer *http_request_peer(const struct http_request *request)
{
	return &request->connection->peer;
}

unsigned http_request_tag(const struct http_request *request)
{
	return request->route ? request->route->tag : 0;
}

void http_request_distrust(struct http_request *request)
{
	request->stranger = true;
}

void http_request_set_context(struct http_request *request, void *context,
			      void (*free_context)(void *context))
{
	request->context = context;
	request->free_context = free_context;
}

void *http_request_context(const struct http_request *request)
{
	return request->context;
}

void http_request_on_gone(struct http_request *request, void (*gone)(void *data), void *data)
{
	request->gone = gone;
	request->gone_data = data;
}

bool http_request_has_body(const struct http_request *request, uint64_t *ret_length)
{
	const char *length = http_request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);

	*ret_length = UINT64_MAX;
	if (http_request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING))
		return true;
	/* MHD has refused what is no number. */
	*ret_length = length ? strtoull(length, NULL, 10) : 0;
	return *ret_length > 0;
}

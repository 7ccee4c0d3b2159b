/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/http-internal.h"
#include "base/jsontext.h"

/*
 * An answer is made at any time and kept in the request. Only MHD's own callbacks in http.c give it
 * to MHD, because MHD takes answers nowhere else; a connection that sleeps is woken for that.
 */

enum {
	STREAM_BLOCK = 4096,   /* bytes a read for clients of HTTP/1.0; 1.1 has MHD's own buffer */
	MAX_ERROR_TEXT = 1024, /* bytes */
};

static const char json_media_type[] = "application/json";

struct http_stream {
	struct http_request *request; /* NULL when MHD is done with it */
	struct http_source source;
	void *data;
	bool woken; /* since the last read began */
};

static char *printable_copy(const char *text)
{
	char *copy = strdup(text);

	for (char *at = copy; at && *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
	return copy;
}

void http_reply_header(struct http_request *request, const char *name, const char *value)
{
	struct http_header header = { .name = printable_copy(name),
				      .value = printable_copy(value) };
	struct http_header *headers =
		realloc(request->headers, (request->n_headers + 1) * sizeof(*headers));

	if (headers)
		request->headers = headers;
	if (!headers || !header.name || !header.value) {
		free(header.name);
		free(header.value);
		request->broken = true;
		return;
	}
	headers[request->n_headers++] = header;
}

/* The end of every reply: takes the response over, NULL for none that could be made. */
static void answer(struct http_request *request, unsigned status, const char *content_type,
		   struct MHD_Response *response)
{
	/* Two replies to one request are a mistake of the handler. */
	assert(!request->answered);
	if (response && content_type &&
	    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) !=
		    MHD_YES)
		request->broken = true;
	for (size_t i = 0; response && i < request->n_headers; i++)
		if (MHD_add_response_header(response, request->headers[i].name,
					    request->headers[i].value) != MHD_YES)
			request->broken = true;
	request->answered = true;
	request->status = status;
	request->response = response;
	if (!response)
		request->broken = true;
	http_connection_resume(request->connection);
}

/* Takes over body, which was allocated with malloc(). */
static void reply_owned(struct http_request *request, unsigned status, const char *content_type,
			void *body, size_t length)
{
	struct MHD_Response *response = NULL;

	if (!http_limits_hold(request, length)) {
		free(body);
		http_limits_refuse_memory(request);
		return;
	}
	if (body)
		response = MHD_create_response_from_buffer(length, body, MHD_RESPMEM_MUST_FREE);
	if (!response)
		free(body);
	answer(request, status, content_type, response);
}

void http_reply(struct http_request *request, unsigned status, const char *content_type,
		const void *body, size_t length)
{
	void *copy = malloc(length + 1);

	if (copy && length > 0)
		memcpy(copy, body, length);
	reply_owned(request, status, content_type, copy, length);
}

void http_reply_jsontext(struct http_request *request, unsigned status, struct jsontext *json)
{
	size_t length = 0;
	char *text = jsontext_finish(json, &length);

	if (text)
		reply_owned(request, status, json_media_type, text, length);
	else
		answer(request, status, NULL, NULL);
}

void http_reply_json(struct http_request *request, unsigned status, json_t *object)
{
	struct jsontext json = { 0 };

	jsontext_tree(&json, NULL, object);
	http_reply_jsontext(request, status, &json);
}

/* Dut-Error: a byte for a character, so that a text in UTF-8 stays readable. */
static void fill_error_header(struct http_request *request, const char *text)
{
	size_t used = 0;

	for (; *text && used < sizeof(request->error_header) - 1; text++) {
		if ((*text & 0xc0) == 0x80)
			continue;
		request->error_header[used++] = *text;
	}
	request->error_header[used] = '\0';
}

void http_reply_error_json(struct http_request *request, unsigned status, json_t *extra,
			   const char *text)
{
	struct jsontext json = { 0 };
	json_t *object = json_object();
	size_t length = 0;

	if (json_object_set_new(object, "error", jsontext_new(text)) < 0 ||
	    json_object_set_new(object, "error_msg", jsontext_new(text)) < 0 ||
	    (extra && json_object_update_missing(object, extra) < 0))
		request->broken = true;
	json_decref(extra);
	fill_error_header(request, text);
	http_reply_header(request, "Dut-Error", request->error_header);
	jsontext_tree(&json, NULL, object);
	request->error_body = jsontext_finish(&json, &length);
	if (request->error_body)
		http_reply(request, status, json_media_type, request->error_body, length);
	else
		answer(request, status, NULL, NULL);
}

void http_reply_error(struct http_request *request, unsigned status, const char *format, ...)
{
	char text[MAX_ERROR_TEXT];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	http_reply_error_json(request, status, NULL, text);
}

void http_reply_raw(const struct http_request *request)
{
	const union MHD_ConnectionInfo *info;
	char text[4096];
	int length;

	if (!request->error_body)
		return;
	length = snprintf(text, sizeof(text),
			  "HTTP/1.1 %u Refused\r\nConnection: close\r\nContent-Type: %s\r\n"
			  "Content-Length: %zu\r\n",
			  request->status, json_media_type, strlen(request->error_body));
	for (size_t i = 0; i < request->n_headers && length < (int)sizeof(text); i++)
		length += snprintf(text + length, sizeof(text) - (size_t)length, "%s: %s\r\n",
				   request->headers[i].name, request->headers[i].value);
	if (length < (int)sizeof(text))
		length += snprintf(text + length, sizeof(text) - (size_t)length, "\r\n%s",
				   request->error_body);
	if (length >= (int)sizeof(text))
		return;
	info = MHD_get_connection_info(request->connection->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	/* A client that has no room for this does not read. */
	if (info && send(info->connect_fd, text, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
}

static ssize_t on_read(void *cls, uint64_t position, char *buffer, size_t size)
{
	struct http_stream *stream = cls;
	struct http_connection *connection = stream->request->connection;
	ssize_t n = HTTP_STREAM_ABORT;

	(void)position;
	if (!connection->left) {
		stream->woken = false;
		n = stream->source.read(stream->data, buffer, size);
	}
	if (n > 0)
		return n;
	if (n == 0) {
		if (!stream->woken)
			http_connection_suspend(connection);
		return 0;
	}
	/* MHD 0.9.75 forgets to look again at a connection that its own callback has closed, and
	 * would keep it for ever; one that was resumed is always looked at. */
	http_connection_suspend(connection);
	http_connection_resume(connection);
	return n == HTTP_STREAM_END ? MHD_CONTENT_READER_END_OF_STREAM
				    : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void on_done(void *cls)
{
	struct http_stream *stream = cls;
	void (*done)(void *data) = stream->source.done;
	void *data = stream->data;

	if (stream->request)
		stream->request->stream = NULL;
	free(stream);
	done(data);
}

struct http_stream *http_reply_stream(struct http_request *request, unsigned status,
				      const char *content_type, const struct http_source *source,
				      void *data)
{
	struct http_stream *stream = calloc(1, sizeof(*stream));
	struct MHD_Response *response = NULL;

	if (stream) {
		*stream = (struct http_stream){
			.request = request,
			.source = *source,
			.data = data,
		};
		response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK,
							     on_read, stream, on_done);
	}
	if (!response) {
		free(stream);
		request->failed_done = source->done;
		request->failed_data = data;
		answer(request, status, NULL, NULL);
		return NULL;
	}
	/* MHD 0.9.75 sends the last chunk of a stream also to HEAD, where it would stand before the
	 * next answer; without chunks it closes the connection instead. */
	if (strcmp(request->method, "HEAD") == 0)
		(void)MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT,
					       MHD_RO_END);
	request->stream = stream;
	answer(request, status, content_type, response);
	return stream;
}

void http_stream_wake(struct http_stream *stream)
{
	if (!stream)
		return;
	stream->woken = true;
	if (stream->request)
		http_connection_resume(stream->request->connection);
}

int http_reply_queue(struct http_request *request)
{
	struct MHD_Response *response = take_ptr(request->response);
	struct MHD_Connection *mhd = request->connection->mhd;
	enum MHD_Result taken;

	/* A viewer that stops reading for a while is not idle. */
	if (request->stream)
		(void)MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
	taken = MHD_queue_response(mhd, request->status, response);
	MHD_destroy_response(response);
	return taken == MHD_YES ? 0 : -EIO;
}

void http_reply_forget(struct http_request *request)
{
	if (request->stream)
		request->stream->request = NULL;
	for (size_t i = 0; i < request->n_headers; i++) {
		free(request->headers[i].name);
		free(request->headers[i].value);
	}
	free(request->headers);
	free(request->error_body);
}

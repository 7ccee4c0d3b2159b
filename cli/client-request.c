/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/client-internal.h"

enum {
	CONNECT_TIMEOUT_S = 10,
	REASON_MAX = 200, /* bytes of Dut-Error */
	KEEPALIVE_IDLE_S = 60,
	KEEPALIVE_INTERVAL_S = 15,
};

/* One open part that is a file. */
struct part_reader {
	int fd;
	uint64_t at, end;
};

/* ---- what comes back ---- */

static int collect(struct transfer *transfer, const char *bytes, size_t length)
{
	if (length > CLIENT_ANSWER_MAX - transfer->length) {
		transfer->too_long = true;
		return -EFBIG;
	}
	if (transfer->length + length > transfer->space) {
		size_t space = (transfer->length + length) * 2;
		char *text = realloc(transfer->text, space);

		if (!text)
			return -ENOMEM;
		transfer->text = text;
		transfer->space = space;
	}
	memcpy(transfer->text + transfer->length, bytes, length);
	transfer->length += length;
	return 0;
}

static bool is_success(const struct transfer *transfer)
{
	long status = 0;

	(void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	return status >= 200 && status < 300;
}

static size_t take_bytes(char *bytes, size_t one, size_t length, void *data)
{
	struct transfer *transfer = data;
	(void)one;
	if (transfer->paused)
		return CURL_WRITEFUNC_PAUSE;
	if (transfer->on_bytes && is_success(transfer)) {
		transfer->on_bytes(transfer, bytes, length, transfer->data);
		return length;
	}
	return collect(transfer, bytes, length) < 0 ? 0 : length;
}

/* The value of a header line, which ends in CR LF, when it is this header. */
static char *header_value(const char *line, size_t length, const char *name)
{
	size_t skip = strlen(name);

	if (length <= skip || strncasecmp(line, name, skip) != 0 || line[skip] != ':')
		return NULL;
	for (skip++; skip < length && (line[skip] == ' ' || line[skip] == '\t');)
		skip++;
	while (length > skip && (line[length - 1] == '\r' || line[length - 1] == '\n'))
		length--;
	return strndup(line + skip, length - skip < REASON_MAX ? length - skip : REASON_MAX);
}

static size_t take_header(char *line, size_t one, size_t length, void *data)
{
	struct transfer *transfer = data;
	free_ char *offset = header_value(line, length, "Console-Offset");
	char *reason = header_value(line, length, "Dut-Error");

	(void)one;
	if (reason) {
		free(transfer->reason);
		transfer->reason = reason;
	}
	if (offset && text_to_uint64(&transfer->console_offset, offset, 0, UINT64_MAX, NULL) >= 0)
		transfer->has_offset = true;
	/* The empty line behind the headers. */
	if (line[0] == '\r' && transfer->on_head && is_success(transfer))
		transfer->on_head(transfer, transfer->data);
	return length;
}

static int note_progress(void *data, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
			 curl_off_t up)
{
	struct transfer *transfer = data;

	(void)down_total;
	(void)down;
	if (up_total > 0 && up >= up_total)
		transfer->is_sent = true;
	return 0;
}

/* ---- what is sent ---- */

static size_t part_read(char *buffer, size_t one, size_t size, void *data)
{
	struct part_reader *reader = data;
	uint64_t left = reader->end - reader->at;
	ssize_t n;

	(void)one;
	if (size > left)
		size = (size_t)left;
	if (size == 0)
		return 0;
	do
		n = pread(reader->fd, buffer, size, (off_t)reader->at);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return CURL_READFUNC_ABORT;
	reader->at += (uint64_t)n;
	return (size_t)n;
}

static int part_seek(void *data, curl_off_t offset, int origin)
{
	struct part_reader *reader = data;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > reader->end)
		return CURL_SEEKFUNC_CANTSEEK;
	reader->at = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static CURLcode add_part(struct transfer *transfer, const struct client_part *part)
{
	curl_mimepart *mime = curl_mime_addpart(transfer->form);
	CURLcode code = mime ? curl_mime_name(mime, part->name) : CURLE_OUT_OF_MEMORY;
	struct part_reader *reader;

	if (code == CURLE_OK && part->type)
		code = curl_mime_type(mime, part->type);
	if (code != CURLE_OK)
		return code;
	if (part->fd < 0)
		return curl_mime_data(mime, part->text, (size_t)part->length);
	reader = malloc(sizeof(*reader));
	if (!reader)
		return CURLE_OUT_OF_MEMORY;
	*reader = (struct part_reader){ .fd = part->fd, .end = part->length };
	/* Frees the reader, also when this call fails. */
	return curl_mime_data_cb(mime, (curl_off_t)part->length, part_read, part_seek, free,
				 reader);
}

static bool add_header(struct transfer *transfer, const char *header)
{
	struct curl_slist *headers = curl_slist_append(transfer->headers, header);

	if (headers)
		transfer->headers = headers;
	return headers;
}

/* A console's stream may be silent for hours: whoever is between must not forget it, and an end
 * that nobody tells of has to be seen. */
static void set_keepalive(CURL *easy)
{
	(void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
	(void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_INTERVAL_S);
}

/* A lab's own authority: libcurl looks at its own defaults alone. */
static CURLcode set_trust(CURL *easy)
{
	const char *file = getenv("SSL_CERT_FILE"), *folder = getenv("SSL_CERT_DIR");
	CURLcode code = CURLE_OK;

	if (file && *file)
		code = curl_easy_setopt(easy, CURLOPT_CAINFO, file);
	if (code == CURLE_OK && folder && *folder)
		code = curl_easy_setopt(easy, CURLOPT_CAPATH, folder);
	return code;
}

static int set_endpoint(struct transfer *transfer, struct error *err)
{
	const struct client *client = transfer->client;
	CURL *easy = transfer->easy;
	char header[512];

	switch (client->endpoint.kind) {
	case ENDPOINT_SOCKET:
		if (curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, client->connect_path) !=
		    CURLE_OK)
			return error_oom(err);
		break;
	case ENDPOINT_SSH:
		if (curl_easy_setopt(easy, CURLOPT_ABSTRACT_UNIX_SOCKET, client->tunnel_name) !=
		    CURLE_OK)
			return error_oom(err);
		break;
	case ENDPOINT_HTTP:
		set_keepalive(easy);
		if (set_trust(easy) != CURLE_OK)
			return error_set(err, -EINVAL, "cannot use SSL_CERT_FILE and SSL_CERT_DIR");
		if (!client->endpoint.token)
			break;
		(void)snprintf(header, sizeof(header), "Authorization: Bearer %s",
			       client->endpoint.token);
		if (!add_header(transfer, header))
			return error_oom(err);
		explicit_bzero(header, sizeof(header));
		break;
	}
	return 0;
}

static int set_body(struct transfer *transfer, const struct client_request *request,
		    struct error *err)
{
	CURLcode code = CURLE_OK;

	if (request->parts) {
		transfer->form = curl_mime_init(transfer->easy);
		code = transfer->form ? CURLE_OK : CURLE_OUT_OF_MEMORY;
		for (const struct client_part *part = request->parts;
		     code == CURLE_OK && part->name; part++)
			code = add_part(transfer, part);
		if (code == CURLE_OK)
			code = curl_easy_setopt(transfer->easy, CURLOPT_MIMEPOST, transfer->form);
	} else if (request->body) {
		transfer->body = json_dumps(request->body, JSON_COMPACT);
		if (!transfer->body || !add_header(transfer, "Content-Type: application/json"))
			return error_oom(err);
		code = curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, transfer->body);
	}
	return code == CURLE_OK ? 0 : error_set(err, -ENOMEM, "%s", curl_easy_strerror(code));
}

int transfer_set_options(struct transfer *transfer, const struct client_request *request,
			 struct error *err)
{
	CURL *easy = transfer->easy;
	free_ char *url = NULL;
	int r;

	/* The path is sent as it is, with its dots. */
	if (asprintf(&url, "%s/api/v1%s", transfer->client->endpoint.base, request->path) < 0) {
		url = NULL;
		return error_oom(err);
	}
	if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK)
		return error_oom(err);
	r = set_endpoint(transfer, err);
	if (r < 0)
		return r;
	(void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	(void)curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long)request->timeout_s);
	(void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->words);
	(void)curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_bytes);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
	(void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, note_progress);
	(void)curl_easy_setopt(easy, CURLOPT_XFERINFODATA, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_NOPROGRESS, request->parts ? 0L : 1L);
	r = set_body(transfer, request, err);
	if (r < 0)
		return r;
	if (transfer->headers)
		(void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	if (strcmp(request->method, "GET") != 0)
		(void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	return 0;
}

/* ---- paths ---- */

char *client_path(const char *format, ...)
{
	char *path = strdup("");
	va_list arguments;

	va_start(arguments, format);
	while (path && *format) {
		size_t length = strcspn(format, "%");
		free_ char *before = path;
		char *value = NULL;

		if (format[length] == '%')
			value = curl_easy_escape(NULL, va_arg(arguments, const char *), 0);
		if ((format[length] == '%' && !value) ||
		    asprintf(&path, "%s%.*s%s", before, (int)length, format, value ? value : "") <
			    0)
			path = NULL;
		curl_free(value);
		format += length + (format[length] == '%' ? 2 : 0);
	}
	va_end(arguments);
	return path;
}

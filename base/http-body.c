/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/http-internal.h"
#include "base/space.h"
#include "base/text.h"

/*
 * A body goes into memory or, as parts of a form, into unlinked files. Whatever is wrong with it
 * becomes an ordinary reply; http.c then drops the rest, so that the client gets to reading it.
 */

enum {
	FORM_BUFFER = 65536,   /* bytes of MHD's form parser; a part's headers must fit */
	FORM_OVERHEAD = 65536, /* bytes that a form's headers and boundaries may add */
	MIN_BUFFER = 1024,     /* bytes */
	MAX_NAME_TRIES = 100,
};

/* Where the filesystem has no O_TMPFILE: a file under a name that nobody guesses, unlinked at
 * once. */
static int open_named(int dir_fd)
{
	for (unsigned tries = 0; tries < MAX_NAME_TRIES; tries++) {
		char name[32];
		uint64_t number;
		int fd;

		if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
			return -1;
		(void)snprintf(name, sizeof(name), ".upload-%016" PRIx64, number);
		fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0) {
			(void)unlinkat(dir_fd, name, 0);
			return fd;
		}
		if (errno != EEXIST)
			return -1;
	}
	return -1;
}

static int open_unlinked(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	/* EISDIR is what a kernel says that does not know the flag. */
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
		fd = open_named(dir_fd);
	return fd;
}

static void refuse_storage(struct http_request *request, int number)
{
	/* EFBIG: the process's own limit on file sizes, RLIMIT_FSIZE. */
	bool is_full = number == ENOSPC || number == EDQUOT || number == EFBIG;

	http_reply_error(request,
			 is_full ? MHD_HTTP_INSUFFICIENT_STORAGE : MHD_HTTP_INTERNAL_SERVER_ERROR,
			 "cannot store the upload: %s", strerror(number));
}

/* False when memory ran out, or too much of it is held: that is answered. */
static bool append_text(struct http_request *request, struct http_upload *upload, const char *data,
			size_t size)
{
	size_t needed = (size_t)upload->length + size + 1;

	if (needed > upload->size) {
		size_t bigger = upload->size * 2 > needed ? upload->size * 2 : needed;
		char *text;

		if (bigger < MIN_BUFFER)
			bigger = MIN_BUFFER;
		if (!http_limits_hold(request, bigger - upload->size)) {
			http_limits_refuse_memory(request);
			return false;
		}
		text = realloc(upload->text, bigger);
		if (!text) {
			request->broken = true;
			return false;
		}
		upload->text = text;
		upload->size = bigger;
	}
	if (size > 0)
		memcpy(upload->text + upload->length, data, size);
	upload->length += size;
	upload->text[upload->length] = '\0';
	return true;
}

/* 0 or an errno. */
static int append_file(struct http_upload *upload, int dir_fd, uint64_t min_free, const char *data,
		       size_t size)
{
	if (upload->fd < 0) {
		upload->fd = open_unlinked(dir_fd);
		if (upload->fd < 0)
			return errno;
	}
	/* Many may come at once: what the length said at the beginning is not enough. */
	if (upload->length / SPACE_STEP != (upload->length + size) / SPACE_STEP &&
	    space_is_low(dir_fd, min_free))
		return ENOSPC;
	while (size > 0) {
		ssize_t n = pwrite(upload->fd, data, size, (off_t)upload->length);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return errno;
		}
		upload->length += (uint64_t)n;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

static const struct http_part *find_part(const struct http_request *request, const char *name,
					 struct http_upload **ret)
{
	const struct http_part *parts = request->uploads ? request->route->parts : NULL;

	for (size_t i = 0; parts && parts[i].name; i++) {
		if (strcmp(parts[i].name, name) == 0) {
			*ret = &request->uploads[i];
			return &parts[i];
		}
	}
	return NULL;
}

static void add_to_part(struct http_request *request, const struct http_part *part,
			struct http_upload *upload, const char *data, uint64_t offset, size_t size)
{
	const struct http_config *config = &request->connection->server->config;
	char size_text[TEXT_SIZE_SIZE];
	struct error err;
	int r;

	if (upload->seen && offset != upload->length) {
		http_reply_error(request, MHD_HTTP_BAD_REQUEST,
				 "part '%s' stands in the form twice", part->name);
		return;
	}
	upload->seen = true;
	if (size > part->max_bytes - upload->length) {
		http_reply_error(request, MHD_HTTP_CONTENT_TOO_LARGE, "%s is larger than %s (%s)",
				 part->what, part->limit,
				 text_format_size(size_text, sizeof(size_text), part->max_bytes));
		return;
	}
	if (!part->to_file) {
		(void)append_text(request, upload, data, size);
		return;
	}
	r = append_file(upload, config->upload_dir_fd, config->upload_min_free, data, size);
	if (r == ENOSPC && space_check(config->upload_dir_fd, config->upload_min_free, &err) < 0)
		http_reply_error(request, MHD_HTTP_INSUFFICIENT_STORAGE, "cannot store %s: %s",
				 part->what, err.text);
	else if (r != 0)
		refuse_storage(request, r);
}

static enum MHD_Result on_form_data(void *cls, enum MHD_ValueKind kind, const char *name,
				    const char *filename, const char *content_type,
				    const char *encoding, const char *data, uint64_t offset,
				    size_t size)
{
	struct http_request *request = cls;
	struct http_upload *upload = NULL;
	const struct http_part *part = name ? find_part(request, name, &upload) : NULL;

	(void)kind;
	(void)filename;
	(void)content_type;
	(void)encoding;
	if (request->answered || request->broken)
		return MHD_NO;
	if (part)
		add_to_part(request, part, upload, data, offset, size);
	else if (name)
		http_reply_error(request, MHD_HTTP_BAD_REQUEST, "unknown part '%.100s'", name);
	else
		http_reply_error(request, MHD_HTTP_BAD_REQUEST, "a part without a name");
	return request->answered || request->broken ? MHD_NO : MHD_YES;
}

/* The most that a whole form may have, and the part that has most of it. */
static uint64_t form_limit(const struct http_part *parts, const struct http_part **ret_largest)
{
	uint64_t sum = FORM_OVERHEAD;

	*ret_largest = parts;
	for (const struct http_part *part = parts; part->name; part++) {
		sum = part->max_bytes > UINT64_MAX - sum ? UINT64_MAX : sum + part->max_bytes;
		if (part->max_bytes > (*ret_largest)->max_bytes)
			*ret_largest = part;
	}
	return sum;
}

static void begin_form(struct http_request *request, uint64_t length)
{
	static const char type[] = MHD_HTTP_POST_ENCODING_MULTIPART_FORMDATA;
	const char *asked = http_request_header(request, MHD_HTTP_HEADER_CONTENT_TYPE);
	const struct http_part *parts = request->route->parts, *largest;
	char size_text[TEXT_SIZE_SIZE];
	size_t n_parts = 0;

	if (!asked || strncasecmp(asked, type, strlen(type)) != 0) {
		http_reply_error(request, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "the body must be %s",
				 type);
		return;
	}
	if (length != UINT64_MAX && length > form_limit(parts, &largest)) {
		http_reply_error(
			request, MHD_HTTP_CONTENT_TOO_LARGE,
			"a form of %" PRIu64 " bytes is larger than %s (%s)", length,
			largest->limit,
			text_format_size(size_text, sizeof(size_text), largest->max_bytes));
		return;
	}
	while (parts[n_parts].name)
		n_parts++;
	request->uploads = calloc(n_parts + 1, sizeof(*request->uploads));
	if (!request->uploads) {
		request->broken = true;
		return;
	}
	for (size_t i = 0; i < n_parts; i++)
		request->uploads[i].fd = -1;
	request->form = MHD_create_post_processor(request->connection->mhd, FORM_BUFFER,
						  on_form_data, request);
	if (!request->form)
		http_reply_error(request, MHD_HTTP_BAD_REQUEST, "the form has no boundary");
}

static void refuse_length(struct http_request *request)
{
	http_reply_error(request, MHD_HTTP_CONTENT_TOO_LARGE,
			 "the body is longer than %zu bytes, which is the limit",
			 request->connection->server->config.max_body_bytes);
}

void http_body_begin(struct http_request *request)
{
	uint64_t length;

	(void)http_request_has_body(request, &length);
	if (request->route->parts)
		begin_form(request, length);
	else if (length != UINT64_MAX &&
		 length > request->connection->server->config.max_body_bytes)
		refuse_length(request);
	else
		(void)append_text(request, &request->body, NULL, 0);
}

void http_body_add(struct http_request *request, const char *data, size_t size)
{
	if (request->route->parts) {
		if (MHD_post_process(request->form, data, size) != MHD_YES && !request->answered &&
		    !request->broken)
			http_reply_error(request, MHD_HTTP_BAD_REQUEST, "the form is malformed");
		return;
	}
	if (size > request->connection->server->config.max_body_bytes - request->body.length)
		refuse_length(request);
	else
		(void)append_text(request, &request->body, data, size);
}

void http_body_end(struct http_request *request)
{
	struct MHD_PostProcessor *form = take_ptr(request->form);

	if (form && MHD_destroy_post_processor(form) != MHD_YES && !request->answered)
		http_reply_error(request, MHD_HTTP_BAD_REQUEST,
				 "the form ends in the middle of a part");
}

void http_body_free(struct http_request *request)
{
	if (request->form)
		(void)MHD_destroy_post_processor(request->form);
	for (size_t i = 0; request->uploads && request->route->parts[i].name; i++) {
		free(request->uploads[i].text);
		(void)close_fd(request->uploads[i].fd);
	}
	free(request->uploads);
	free(request->body.text);
}

const char *http_request_body(const struct http_request *request, size_t *ret_length)
{
	if (ret_length)
		*ret_length = (size_t)request->body.length;
	return request->body.text;
}

const char *http_request_part(const struct http_request *request, const char *name,
			      size_t *ret_length)
{
	struct http_upload *upload = NULL;

	if (ret_length)
		*ret_length = 0;
	if (!find_part(request, name, &upload))
		return NULL;
	if (ret_length && upload->text)
		*ret_length = (size_t)upload->length;
	return upload->text;
}

int http_request_part_fd(const struct http_request *request, const char *name)
{
	struct http_upload *upload = NULL;

	return find_part(request, name, &upload) ? upload->fd : -1;
}

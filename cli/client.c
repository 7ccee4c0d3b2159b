/* SPDX-License-Identifier: MIT */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/client.h"

enum {
	CONNECT_TIMEOUT_S = 10,
	REASON_MAX = 200, /* bytes of Dut-Error */
};

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

/* One open part that is a file. */
struct part_reader {
	int fd;
	uint64_t at, end;
};

void answer_done(struct answer *answer)
{
	json_decref(answer->json);
	free(answer->reason);
	answer->json = NULL;
	answer->reason = NULL;
}

/* ---- the event loop ---- */

static void conclude(struct transfer *transfer, CURLcode code);

static void collect_ends(struct client *client)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(client->multi, &left))) {
		struct transfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		conclude(transfer, message->data.result);
	}
}

static void act(struct client *client, curl_socket_t fd, int what)
{
	int running;

	(void)curl_multi_socket_action(client->multi, fd, what, &running);
	collect_ends(client);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	act(data, CURL_SOCKET_TIMEOUT, 0);
	return 0;
}

static int on_socket(sd_event_source *source, int fd, uint32_t events, void *data)
{
	int what = 0;

	(void)source;
	if (events & (EPOLLIN | EPOLLHUP))
		what |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		what |= CURL_CSELECT_ERR;
	act(data, fd, what);
	return 0;
}

static int want_timer(CURLM *multi, long timeout_ms, void *data)
{
	struct client *client = data;

	(void)multi;
	if (timeout_ms < 0)
		return sd_event_source_set_enabled(client->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
	if (sd_event_source_set_time_relative(client->timer, (uint64_t)timeout_ms * 1000) < 0)
		return -1;
	return sd_event_source_set_enabled(client->timer, SD_EVENT_ONESHOT) < 0 ? -1 : 0;
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *source_data)
{
	static const uint32_t events[] = {
		[CURL_POLL_NONE] = 0,
		[CURL_POLL_IN] = EPOLLIN,
		[CURL_POLL_OUT] = EPOLLOUT,
		[CURL_POLL_INOUT] = EPOLLIN | EPOLLOUT,
	};
	struct client *client = data;
	sd_event_source *source = source_data;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		(void)sd_event_source_disable_unref(source);
		return 0;
	}
	if (source)
		return sd_event_source_set_io_events(source, events[what]) < 0 ? -1 : 0;
	if (sd_event_add_io(client->loop, &source, fd, events[what], on_socket, client) < 0)
		return -1;
	(void)sd_event_source_set_description(source, "dutd's socket");
	(void)curl_multi_assign(client->multi, fd, source);
	return 0;
}

/* ---- the client ---- */

/* A socket address holds 107 bytes of path; a longer one is reached through its folder. */
static int set_connect_path(struct client *client, const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');
	free_ char *folder = NULL;

	if (strlen(path) < sizeof(((struct sockaddr_un *)0)->sun_path)) {
		client->connect_path = strdup(path);
		return client->connect_path ? 0 : error_oom(err);
	}
	if (!slash)
		return error_set(err, -ENAMETOOLONG, "the name of the daemon's socket is too long");
	folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!folder)
		return error_oom(err);
	client->folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (client->folder_fd < 0)
		return error_errno(err, "the folder of the daemon's socket");
	if (asprintf(&client->connect_path, "/proc/self/fd/%d/%s", client->folder_fd, slash + 1) <
	    0) {
		client->connect_path = NULL;
		return error_oom(err);
	}
	return 0;
}

static int set_up_multi(struct client *client, struct error *err)
{
	int r;

	if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK)
		return error_oom(err);
	client->multi = curl_multi_init();
	if (!client->multi)
		return error_oom(err);
	r = sd_event_add_time_relative(client->loop, &client->timer, CLOCK_BOOTTIME, 0, 1, on_timer,
				       client);
	if (r >= 0)
		r = sd_event_source_set_enabled(client->timer, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "timer of the client");
	(void)sd_event_source_set_description(client->timer, "libcurl");
	(void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	(void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
	(void)curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	(void)curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
	return 0;
}

int client_new(struct client **ret, sd_event *loop, const char *socket_path, struct error *err)
{
	cleanup_(client_freep) struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return error_oom(err);
	client->folder_fd = -1;
	client->loop = sd_event_ref(loop);
	client->socket_path = strdup(socket_path);
	if (!client->socket_path)
		return error_oom(err);
	r = set_connect_path(client, socket_path, err);
	if (r < 0)
		return r;
	r = set_up_multi(client, err);
	if (r < 0)
		return r;
	*ret = take_ptr(client);
	return 0;
}

struct client *client_free(struct client *client)
{
	if (!client)
		return NULL;
	if (client->multi)
		(void)curl_multi_cleanup(client->multi);
	(void)sd_event_source_disable_unref(client->timer);
	(void)sd_event_unref(client->loop);
	(void)close_fd(client->folder_fd);
	free(client->connect_path);
	free(client->socket_path);
	free(client);
	return NULL;
}

/* ---- a transfer ---- */

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
		transfer->headers = curl_slist_append(NULL, "Content-Type: application/json");
		if (!transfer->body || !transfer->headers)
			return error_oom(err);
		code = curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, transfer->body);
		if (code == CURLE_OK)
			code = curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER,
						transfer->headers);
	}
	return code == CURLE_OK ? 0 : error_set(err, -ENOMEM, "%s", curl_easy_strerror(code));
}

static int set_options(struct transfer *transfer, const struct client_request *request,
		       struct error *err)
{
	CURL *easy = transfer->easy;
	free_ char *url = NULL;
	int r;

	/* The host is only for the Host header; the path is sent as it is, with its dots. */
	if (asprintf(&url, "http://dutd/api/v1%s", request->path) < 0) {
		url = NULL;
		return error_oom(err);
	}
	if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, transfer->client->connect_path) !=
		    CURLE_OK)
		return error_oom(err);
	(void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
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
	if (strcmp(request->method, "GET") != 0)
		(void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	return 0;
}

int client_start(struct transfer **ret, struct client *client, const struct client_request *request,
		 struct error *err)
{
	cleanup_(transfer_freep) struct transfer *transfer = calloc(1, sizeof(*transfer));
	CURLMcode code;
	int r;

	if (!transfer)
		return error_oom(err);
	transfer->client = client;
	transfer->on_head = request->on_head;
	transfer->on_bytes = request->on_bytes;
	transfer->on_done = request->on_done;
	transfer->data = request->data;
	transfer->easy = curl_easy_init();
	if (!transfer->easy)
		return error_oom(err);
	r = set_options(transfer, request, err);
	if (r < 0)
		return r;
	code = curl_multi_add_handle(client->multi, transfer->easy);
	if (code != CURLM_OK)
		return error_set(err, -ENOMEM, "%s", curl_multi_strerror(code));
	*ret = take_ptr(transfer);
	return 0;
}

struct transfer *transfer_free(struct transfer *transfer)
{
	if (!transfer)
		return NULL;
	if (transfer->easy) {
		(void)curl_multi_remove_handle(transfer->client->multi, transfer->easy);
		curl_easy_cleanup(transfer->easy);
	}
	curl_mime_free(transfer->form);
	curl_slist_free_all(transfer->headers);
	free(transfer->body);
	free(transfer->text);
	free(transfer->reason);
	free(transfer);
	return NULL;
}

void transfer_pause(struct transfer *transfer)
{
	transfer->paused = true;
}

void transfer_resume(struct transfer *transfer)
{
	if (!transfer->paused)
		return;
	transfer->paused = false;
	if (!transfer->over)
		(void)curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
}

bool transfer_is_sent(const struct transfer *transfer)
{
	return transfer->is_sent;
}

bool transfer_console_offset(const struct transfer *transfer, uint64_t *ret)
{
	if (transfer->has_offset)
		*ret = transfer->console_offset;
	return transfer->has_offset;
}

/* ---- its end ---- */

static int no_connection(const struct transfer *transfer, struct error *err)
{
	const char *path = transfer->client->socket_path;
	long code = 0;

	(void)curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &code);
	switch (code) {
	case ENOENT:
	case ENOTDIR:
		return error_set(err, (int)-code,
				 "no daemon at %s; start dutd, or name its socket with --socket or "
				 "DUT_SOCKET",
				 path);
	case EACCES:
	case EPERM:
		return error_set(err, -EACCES,
				 "you may not talk to the daemon at %s; its socket's group may "
				 "(see api.socket in dutd.yaml)",
				 path);
	case 0:
		return error_set(err, -ENOTCONN, "cannot reach the daemon at %s: %s", path,
				 transfer->words);
	default:
		return error_code(err, (int)-code,
				  "no daemon listens at %s (try 'systemctl status dutd')", path);
	}
}

static int explain(const struct transfer *transfer, CURLcode code, struct error *err)
{
	const char *path = transfer->client->socket_path;

	if (code == CURLE_COULDNT_CONNECT)
		return no_connection(transfer, err);
	if (code == CURLE_OPERATION_TIMEDOUT)
		return error_set(err, -ETIMEDOUT, "the daemon at %s does not answer", path);
	if (transfer->too_long)
		return error_set(err, -EFBIG, "the daemon's answer is over %d MiB",
				 CLIENT_ANSWER_MAX / 1048576);
	if (code == CURLE_OUT_OF_MEMORY || code == CURLE_WRITE_ERROR)
		return error_oom(err);
	if (code == CURLE_ABORTED_BY_CALLBACK)
		return error_set(err, -EIO, "cannot read what is to be sent");
	return error_set(err, -ECONNRESET, "lost the daemon at %s (%s)", path,
			 *transfer->words ? transfer->words : curl_easy_strerror(code));
}

static void conclude(struct transfer *transfer, CURLcode code)
{
	struct answer answer = { 0 };
	long status = 0;

	transfer->over = true;
	(void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	answer.status = (unsigned)status;
	answer.reason = take_ptr(transfer->reason);
	/* A daemon that refuses an upload early need not read the rest of it. */
	if (code == CURLE_SEND_ERROR && status >= 400)
		code = CURLE_OK;
	if (code != CURLE_OK)
		answer.r = explain(transfer, code, &answer.err);
	else if (transfer->length > 0)
		answer.json = json_loadb(transfer->text, transfer->length,
					 JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	transfer->on_done(transfer, &answer, transfer->data);
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

/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/http-internal.h"
#include "base/list.h"
#include "tests/fuzz/fuzz.h"

/*
 * Several clients of one server with small limits, against handlers that answer at once, later, or
 * with a stream. A line of the input is sent by the present client with CR LF behind it; one with a
 * '!' is done:
 *
 *   !N         client N is the present one; it connects if it has not
 *   !raw TEXT  sent without CR LF
 *   !shut      the client sends no more;  !close: it leaves
 *   !answer    the request that waits for longest is answered
 *   !more      streams have something more to say;  !end: and nothing any more
 */

enum { CLIENTS = 6, TURNS_MAX = 1000 };

struct waiting {
	struct list link; /* lab.waiting */
	struct http_request *request;
};

struct streaming {
	struct list link; /* lab.streams */
	struct http_stream *stream;
	unsigned left; /* bytes that it may say */
	bool ends;
};

static struct lab {
	sd_event *event;
	struct http_server *server;
	int clients[CLIENTS];
	unsigned present;
	struct list waiting, streams;
} lab;

/* ---- handlers ---- */

static void on_now(struct http_request *request, void *data)
{
	const char *id = http_request_argument(request, "id");
	const char *query = http_request_query(request, "q");
	const char *header = http_request_header(request, "X");

	(void)data;
	assert(id && *id && http_request_path(request) && http_request_method(request));
	http_reply_header(request, "X", header ? header : "");
	http_reply_header(request, "Q", query ? query : "");
	http_reply_error(request, 418, "%s", id);
}

static void on_gone(void *data)
{
	struct waiting *waiting = data;

	list_remove(&waiting->link);
	free(waiting);
}

static void on_later(struct http_request *request, void *data)
{
	struct waiting *waiting = malloc(sizeof(*waiting));

	(void)data;
	assert(waiting);
	waiting->request = request;
	list_append(&lab.waiting, &waiting->link);
	http_request_on_gone(request, on_gone, waiting);
}

static ssize_t on_read(void *data, char *buffer, size_t size)
{
	struct streaming *streaming = data;
	size_t n = streaming->left < size ? streaming->left : size;

	if (n == 0)
		return streaming->ends ? HTTP_STREAM_END : 0;
	memset(buffer, 'x', n);
	streaming->left -= (unsigned)n;
	return (ssize_t)n;
}

static void on_stream_done(void *data)
{
	struct streaming *streaming = data;

	list_remove(&streaming->link);
	free(streaming);
}

static void on_stream(struct http_request *request, void *data)
{
	static const struct http_source source = { .read = on_read, .done = on_stream_done };
	struct streaming *streaming = calloc(1, sizeof(*streaming));

	(void)data;
	assert(streaming);
	streaming->left = 10;
	list_append(&lab.streams, &streaming->link);
	streaming->stream = http_reply_stream(request, 200, "text/plain", &source, streaming);
}

static void on_form(struct http_request *request, void *data)
{
	size_t length = 0;
	const char *text = http_request_part(request, "a", &length);
	int fd = http_request_part_fd(request, "b");
	struct stat status;

	(void)data;
	assert(!text || (length <= 100 && text[length] == '\0'));
	if (fd >= 0)
		assert(fstat(fd, &status) == 0 && status.st_size <= 1000 && status.st_nlink == 0);
	http_reply(request, 200, "text/plain", text ? text : "", length);
}

static void on_body(struct http_request *request, void *data)
{
	size_t length = 0;
	const char *text = http_request_body(request, &length);

	(void)data;
	assert(length <= 500);
	http_reply(request, 200, "text/plain", text, text ? length : 0);
}

static void admit(struct http_request *request, void *data)
{
	(void)data;
	if (http_request_query(request, "no"))
		http_reply_json(request, 403, json_object());
}

static const struct http_part parts[] = {
	{ .name = "a", .max_bytes = 100, .limit = "limits.a", .what = "the a" },
	{ .name = "b", .max_bytes = 1000, .limit = "limits.b", .what = "the b", .to_file = true },
	{ .name = NULL },
};

static const struct http_route routes[] = {
	{ .method = "GET", .path = "/now/{id}", .handle = on_now },
	{ .method = "GET", .path = "/later", .handle = on_later, .max_active = 2 },
	{ .method = "GET", .path = "/stream", .handle = on_stream, .admit = admit },
	{ .method = "POST", .path = "/form", .handle = on_form, .admit = admit, .parts = parts },
	{ .method = "PUT", .path = "/body", .handle = on_body, .admit = admit },
	{ .method = "POST", .path = "/later", .handle = on_later },
	{ .path = NULL },
};

/* ---- the script ---- */

static void answer_first(void)
{
	struct waiting *waiting;

	if (list_empty(&lab.waiting))
		return;
	waiting = CONTAINER_OF(lab.waiting.next, struct waiting, link);
	http_reply_json(waiting->request, 200, json_pack("{s:i}", "a", 1));
	on_gone(waiting);
}

static void wake_streams(bool end)
{
	LIST_FOREACH_SAFE(link, after, &lab.streams) {
		struct streaming *streaming = CONTAINER_OF(link, struct streaming, link);

		streaming->left += 3;
		streaming->ends = streaming->ends || end;
		http_stream_wake(streaming->stream);
	}
}

static void choose(unsigned number)
{
	lab.present = number;
	if (lab.clients[number] < 0)
		assert(file_connect_socket(&lab.clients[number], fuzz_folder_fd(), "socket",
					   SOCK_STREAM, NULL) == 0);
}

static void say(const void *data, size_t size)
{
	int fd = lab.clients[lab.present];
	char buffer[4096];

	if (fd < 0)
		return;
	(void)send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	fuzz_settle(lab.event);
	while (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		;
}

static bool starts(const struct fuzz_part *line, const char *word)
{
	return line->size >= strlen(word) && memcmp(line->data, word, strlen(word)) == 0;
}

static void act(const struct fuzz_part *line)
{
	static const char raw[] = "!raw ";
	int *fd = &lab.clients[lab.present];

	if (line->size == 2 && line->data[1] >= '0' && line->data[1] < '0' + CLIENTS)
		choose((unsigned)(line->data[1] - '0'));
	else if (starts(line, raw))
		say(line->data + strlen(raw), line->size - strlen(raw));
	else if (starts(line, "!shut"))
		(void)shutdown(*fd, SHUT_WR);
	else if (starts(line, "!close"))
		*fd = close_fd(*fd);
	else if (starts(line, "!answer"))
		answer_first();
	else if (starts(line, "!more") || starts(line, "!end"))
		wake_streams(line->data[1] == 'e');
}

static void start(void)
{
	struct http_config config = {
		.routes = routes,
		.max_body_bytes = 500,
		.max_connections = 3,
		.max_user_connections = 2,
		.reserved_connections = 1,
		.connections_limit = "limits.connections",
		.max_held_bytes = 20000,
		.idle_timeout_s = 60,
		.upload_dir_fd = fuzz_folder_fd(),
	};

	list_init(&lab.waiting);
	list_init(&lab.streams);
	for (unsigned i = 0; i < CLIENTS; i++)
		lab.clients[i] = -1;
	assert(sd_event_new(&lab.event) >= 0);
	config.event = lab.event;
	assert(file_listen_socket(&config.listen_fd, fuzz_folder_fd(), "socket", SOCK_STREAM, 0600,
				  NULL) == 0);
	assert(http_server_new(&lab.server, &config, NULL) == 0);
}

static void end(bool leave_first)
{
	for (unsigned i = 0; i < CLIENTS && leave_first; i++)
		lab.clients[i] = close_fd(lab.clients[i]);
	for (unsigned i = 0; leave_first && !list_empty(&lab.server->connections); i++) {
		assert(i < TURNS_MAX);
		(void)sd_event_run(lab.event, 1000);
	}
	assert(!leave_first || lab.server->held_bytes == 0);
	lab.server = http_server_free(lab.server);
	/* Whoever waits was told, however it ended. */
	assert(list_empty(&lab.waiting) && list_empty(&lab.streams));
	for (unsigned i = 0; i < CLIENTS; i++)
		(void)close_fd(lab.clients[i]);
	lab.event = sd_event_unref(lab.event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_part rest = { data, size }, line;

	fuzz_begin();
	start();
	choose(0);
	while (fuzz_next_line(&rest, &line)) {
		if (line.size > 0 && line.data[0] == '!') {
			act(&line);
		} else {
			say(line.data, line.size);
			say("\r\n", 2);
		}
		fuzz_settle(lab.event);
	}
	end(size % 2 == 0);
	return 0;
}

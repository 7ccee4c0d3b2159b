/* SPDX-License-Identifier: MIT */
#include "tests/fuzz/http.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/http-internal.h"
#include "base/list.h"
#include "tests/fuzz/fuzz.h"

enum {
	PIECE = 7,
	PIECES_MAX = 300,
	TURNS_MAX = 1000, /* of a loop that a server does not come to an end with */
};

/* The answer as far as its first head is not over. */
struct answer {
	char head[4096];
	size_t length;
};

/* Nothing of the request, or of a file, gets into a head raw. */
static void check_head(const struct answer *answer)
{
	static const char start[] = "HTTP/1.1 ";
	const char *end = memmem(answer->head, answer->length, "\r\n\r\n", 4);
	size_t length = end ? (size_t)(end - answer->head) : answer->length;

	if (length == 0)
		return;
	assert(length >= strlen(start) && memcmp(answer->head, start, strlen(start)) == 0);
	for (size_t i = 0; i < length; i++) {
		char c = answer->head[i];

		assert((c >= ' ' && c <= '~') || c == '\r' || c == '\n');
	}
}

static void receive(int fd, struct answer *answer)
{
	char buffer[16384];
	ssize_t n;

	while ((n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0) {
		size_t room = sizeof(answer->head) - answer->length;
		size_t length = (size_t)n < room ? (size_t)n : room;

		memcpy(answer->head + answer->length, buffer, length);
		answer->length += length;
	}
}

static void send_all(sd_event *event, int fd, const uint8_t *data, size_t size, size_t piece,
		     struct answer *answer)
{
	unsigned full = 0;

	/* A server that streams an answer does not read on; two turns are enough to know. */
	for (size_t at = 0; at < size && full < 2;) {
		ssize_t n = send(fd, data + at, size - at < piece ? size - at : piece,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		full = n > 0 ? 0 : full + 1;
		if (n > 0)
			at += (size_t)n;
		fuzz_settle(event);
		receive(fd, answer);
	}
}

void fuzz_http(sd_event *event, const struct http_server *server, int dir_fd, const char *name,
	       const uint8_t *data, size_t size)
{
	bool in_pieces = size > 0 && size < PIECES_MAX * PIECE && data[size / 2] % 4 == 0;
	struct answer answer = { .length = 0 };
	int fd;

	assert(file_connect_socket(&fd, dir_fd, name, SOCK_STREAM, NULL) == 0);
	send_all(event, fd, data, size, in_pieces ? PIECE : size, &answer);
	(void)shutdown(fd, SHUT_WR);
	fuzz_settle(event);
	receive(fd, &answer);
	check_head(&answer);
	(void)close(fd);
	for (unsigned i = 0; server && !list_empty(&server->connections); i++) {
		assert(i < TURNS_MAX);
		(void)sd_event_run(event, 1000);
	}
	fuzz_settle(event);
	assert(!server || server->held_bytes == 0);
}

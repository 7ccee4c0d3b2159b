/* SPDX-License-Identifier: MIT */

/*
 * What an HTTP server with a JSON answer costs at least: libmicrohttpd and nothing else, one
 * thread, no event loop of its own, no JSON library. Started like dut-executor: it listens on fd 3
 * and says so with one byte on fd 7. limit-http [SIZE]: the answer has at least SIZE bytes.
 */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	FD_SOCKET = 3,
	FD_READY = 7,
	BACKLOG = 64,
	CONNECTIONS = 64,
	ANSWER_MAX = 16384,
	KEPT_HEAP = 1 << 20, /* bytes */
};

static size_t wanted_size;
static unsigned long served;

/* A text of that many bytes, so that the answer is as long as the one that it is compared with. */
static size_t make_answer(char answer[static ANSWER_MAX])
{
	static const char filler[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	int n = snprintf(answer, ANSWER_MAX,
			 "{\"state\":\"%s\",\"job\":{\"id\":\"%s\",\"name\":\"%s\"},"
			 "\"phase\":\"%s\",\"boot\":%d,\"elapsed\":%.6f,\"served\":%lu,\"text\":\"",
			 "RUNNING", "17", "bisect", "running", 1, 12.5, ++served);
	size_t used = n > 0 ? (size_t)n : 0;

	while (used + 2 < wanted_size && used + 2 < ANSWER_MAX) {
		answer[used] = filler[used % (sizeof(filler) - 1)];
		used++;
	}
	answer[used++] = '"';
	answer[used++] = '}';
	return used;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *size, void **context)
{
	static int seen;
	struct MHD_Response *response;
	char answer[ANSWER_MAX];
	enum MHD_Result result;

	(void)cls;
	(void)url;
	(void)method;
	(void)version;
	(void)data;
	*size = 0;
	if (!*context) {
		*context = &seen;
		return MHD_YES;
	}
	response =
		MHD_create_response_from_buffer(make_answer(answer), answer, MHD_RESPMEM_MUST_COPY);
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	result = MHD_queue_response(connection, MHD_HTTP_OK, response);
	MHD_destroy_response(response);
	return result;
}

int main(int argc, char **argv)
{
	struct MHD_Daemon *daemon;

	/* A connection's memory serves the next one. */
	(void)mallopt(M_TRIM_THRESHOLD, KEPT_HEAP);
	if (argc > 1)
		wanted_size = strtoul(argv[1], NULL, 10);
	(void)signal(SIGPIPE, SIG_IGN);
	if (listen(FD_SOCKET, BACKLOG) < 0 || fcntl(FD_SOCKET, F_SETFL, O_NONBLOCK) < 0) {
		perror("limit-http: fd 3");
		return 1;
	}
	daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, NULL,
				  MHD_OPTION_LISTEN_SOCKET, FD_SOCKET, MHD_OPTION_CONNECTION_LIMIT,
				  (unsigned)CONNECTIONS, MHD_OPTION_END);
	if (!daemon) {
		(void)fputs("limit-http: cannot start\n", stderr);
		return 1;
	}
	if (write(FD_READY, "R", 1) == 1)
		(void)close(FD_READY);
	while (MHD_run_wait(daemon, -1) == MHD_YES)
		;
	return 1;
}

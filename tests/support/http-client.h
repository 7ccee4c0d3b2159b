/* SPDX-License-Identifier: MIT */
#pragma once

#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/http.h"

/*
 * Raw HTTP clients in the process of the server: while a client waits, the server's loop runs. What
 * does not come within 20 s fails the test.
 */

enum { CLIENT_PATIENCE_US = 20000000, CLIENT_TURN_US = 5000 };

struct lab {
	char path[64];
	int dir_fd;
	sd_event *event;
};

struct client {
	struct lab *lab;
	int fd;
	char *text; /* received and not yet taken; terminated */
	size_t length;
	bool ended; /* the server has closed */
};

static inline void lab_init(struct lab *lab)
{
	(void)snprintf(lab->path, sizeof(lab->path), "/tmp/test-http-XXXXXX");
	assert_non_null(mkdtemp(lab->path));
	lab->dir_fd = open(lab->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(lab->dir_fd >= 0);
	assert_true(sd_event_new(&lab->event) >= 0);
}

static inline void lab_done(struct lab *lab)
{
	lab->event = sd_event_unref(lab->event);
	(void)unlinkat(lab->dir_fd, "socket", 0);
	(void)unlinkat(lab->dir_fd, "client", 0);
	(void)close(lab->dir_fd);
	/* Whatever else is there was left by the server. */
	assert_int_equal(rmdir(lab->path), 0);
}

static inline int lab_listen(struct lab *lab)
{
	struct error err;
	int fd = -1;

	assert_int_equal(file_bind_socket(&fd, lab->dir_fd, "socket", SOCK_STREAM, 0600, &err), 0);
	assert_int_equal(listen(fd, 64), 0);
	/* As an inherited one may be. */
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	return fd;
}

/* A server of this lab: event, listen_fd and upload_dir_fd are set here. */
static inline struct http_server *lab_serve(struct lab *lab, struct http_config config)
{
	struct http_server *server = NULL;
	struct error err;

	config.event = lab->event;
	config.listen_fd = lab_listen(lab);
	config.upload_dir_fd = lab->dir_fd;
	if (http_server_new(&server, &config, &err) < 0)
		fail_msg("%s", err.text);
	return server;
}

static inline void lab_turn(struct lab *lab, uint64_t timeout_us)
{
	assert_true(sd_event_run(lab->event, timeout_us) >= 0);
}

/* Lets everything happen that can happen now. */
static inline void lab_settle(struct lab *lab)
{
	for (unsigned quiet = 0; quiet < 3;)
		quiet = sd_event_run(lab->event, 1000) > 0 ? 0 : quiet + 1;
}

#define LAB_WAIT(lab, condition)                                                  \
	do {                                                                      \
		uint64_t until_us_ = clock_now_us() + CLIENT_PATIENCE_US;         \
		while (!(condition)) {                                            \
			if (clock_now_us() > until_us_)                           \
				fail_msg("did not come to pass: %s", #condition); \
			lab_turn(lab, CLIENT_TURN_US);                            \
		}                                                                 \
	} while (0)

static inline struct client client_open(struct lab *lab)
{
	struct client client = { .lab = lab, .fd = -1, .text = calloc(1, 1) };
	struct error err;

	assert_int_equal(file_connect_socket(&client.fd, lab->dir_fd, "socket", SOCK_STREAM, &err),
			 0);
	return client;
}

static inline void client_close(struct client *client)
{
	(void)close(client->fd);
	free(client->text);
	client->fd = -1;
	client->text = NULL;
}

/* Sends all of it; false when the server has closed before. */
static inline bool client_send_bytes(struct client *client, const void *data, size_t length)
{
	uint64_t until_us = clock_now_us() + CLIENT_PATIENCE_US;
	const char *at = data;

	while (length > 0) {
		ssize_t n = send(client->fd, at, length, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return false;
		if (n > 0) {
			at += n;
			length -= (size_t)n;
		} else if (clock_now_us() > until_us) {
			fail_msg("the server does not read");
		}
		lab_turn(client->lab, n > 0 ? 0 : CLIENT_TURN_US);
	}
	return true;
}

static inline void client_send(struct client *client, const char *text)
{
	assert_true(client_send_bytes(client, text, strlen(text)));
}

/* Takes in what is there; does not wait. */
static inline void client_receive(struct client *client)
{
	for (;;) {
		char buffer[65536];
		ssize_t n = recv(client->fd, buffer, sizeof(buffer), 0);

		if (n <= 0) {
			if (n == 0 || errno != EAGAIN)
				client->ended = true;
			return;
		}
		client->text = realloc(client->text, client->length + (size_t)n + 1);
		memcpy(client->text + client->length, buffer, (size_t)n);
		client->length += (size_t)n;
		client->text[client->length] = '\0';
	}
}

static inline void client_wait_turn(struct client *client, uint64_t until_us, const char *what)
{
	client_receive(client);
	if (clock_now_us() > until_us)
		fail_msg("waited for %s, got: %s", what, client->text);
	lab_turn(client->lab, CLIENT_TURN_US);
}

static inline void client_wait_for(struct client *client, const char *text)
{
	uint64_t until_us = clock_now_us() + CLIENT_PATIENCE_US;

	while (client_receive(client), !strstr(client->text, text)) {
		if (client->ended)
			fail_msg("waited for %s, the server closed after: %s", text, client->text);
		client_wait_turn(client, until_us, text);
	}
}

static inline void client_wait_end(struct client *client)
{
	uint64_t until_us = clock_now_us() + CLIENT_PATIENCE_US;

	while (client_receive(client), !client->ended)
		client_wait_turn(client, until_us, "the end");
}

/* Takes one response with a Content-Length off what was received; the caller frees it. */
static inline char *client_take_response(struct client *client)
{
	uint64_t until_us = clock_now_us() + CLIENT_PATIENCE_US;
	const char *header;
	size_t length;
	char *taken;

	client_wait_for(client, "\r\n\r\n");
	header = strstr(client->text, "Content-Length: ");
	length = (size_t)(strstr(client->text, "\r\n\r\n") - client->text) + 4;
	if (header && header < client->text + length)
		length += strtoul(header + strlen("Content-Length: "), NULL, 10);
	while (client_receive(client), client->length < length)
		client_wait_turn(client, until_us, "a body");
	taken = malloc(length + 1);
	memcpy(taken, client->text, length);
	taken[length] = '\0';
	client->length -= length;
	memmove(client->text, client->text + length, client->length + 1);
	return taken;
}

/* One request on a connection of its own; the caller frees the response. */
static inline char *lab_ask(struct lab *lab, const char *request)
{
	struct client client = client_open(lab);
	char *response;

	client_send(&client, request);
	response = client_take_response(&client);
	client_close(&client);
	return response;
}

static inline bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static inline const char *body_of(const char *response)
{
	return strstr(response, "\r\n\r\n") + 4;
}

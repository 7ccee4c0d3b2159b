/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/http-internal.h"
#include "tests/support/http-client.h"

/* What clients may take from each other: places, memory and time. */

enum { LARGE = 20000, HELD = 2 * LARGE + LARGE / 2 };

struct fixture {
	struct lab lab;
	struct http_server *server;
	struct http_request *sleeping[8];
	unsigned n_sleeping, gone, handled;
	unsigned max_user_connections;
};

static void on_show(struct http_request *request, void *data)
{
	(void)data;
	http_reply_json(request, 200,
			json_pack("{s:s}", "id", http_request_argument(request, "id")));
}

static void on_gone(void *data)
{
	struct fixture *f = data;

	f->gone++;
}

static void on_sleep(struct http_request *request, void *data)
{
	struct fixture *f = data;

	http_request_on_gone(request, on_gone, f);
	f->sleeping[f->n_sleeping++] = request;
}

static void on_set(struct http_request *request, void *data)
{
	struct fixture *f = data;

	f->handled++;
	http_reply(request, 204, NULL, NULL, 0);
}

/* More than a socket takes, so that it is held. */
static void on_large(struct http_request *request, void *data)
{
	free_ char *body = calloc(1, LARGE);

	(void)data;
	assert_non_null(body);
	http_reply(request, 200, "text/plain", body, LARGE);
}

static const struct http_route routes[] = {
	{ .method = "GET", .path = "/api/show/{id}", .handle = on_show },
	{ .method = "PUT", .path = "/api/show/{id}", .handle = on_set },
	{ .method = "GET", .path = "/api/sleep", .handle = on_sleep },
	{ .method = "GET", .path = "/api/few", .handle = on_sleep, .max_active = 4 },
	{ .method = "GET", .path = "/api/large", .handle = on_large },
	{ .path = NULL },
};

static struct http_server *make_server(struct fixture *f, unsigned max_connections,
				       unsigned idle_timeout_s)
{
	return lab_serve(&f->lab, (struct http_config){
					  .routes = routes,
					  .data = f,
					  .max_body_bytes = 1000,
					  .max_connections = max_connections,
					  .max_user_connections = f->max_user_connections,
					  .connections_limit = "limits.test",
					  .max_held_bytes = HELD,
					  .idle_timeout_s = idle_timeout_s,
				  });
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	lab_init(&f->lab);
	f->server = make_server(f, 16, 60);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->server = http_server_free(f->server);
	lab_done(&f->lab);
	free(f);
	return 0;
}

static void whoever_comes_gets_the_place_of_who_is_idle(void **state)
{
	struct fixture *f = *state;
	struct client busy, idle, third, fourth;

	f->server = http_server_free(f->server);
	f->server = make_server(f, 2, 0);
	busy = client_open(&f->lab);
	client_send(&busy, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	idle = client_open(&f->lab);
	client_send(&idle, "GET /api/show/2 HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_for(&idle, "\"id\":\"2\"");
	third = client_open(&f->lab);
	client_send(&third, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_end(&idle);
	LAB_WAIT(&f->lab, f->n_sleeping == 2);
	/* All are busy now: that is said, and the connection ends. */
	fourth = client_open(&f->lab);
	client_send(&fourth, "GET /api/show/4 HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_end(&fourth);
	assert_true(starts_with(fourth.text, "HTTP/1.1 503 "));
	assert_non_null(strstr(fourth.text, "Dut-Error: 2 connections are open, none of them idle, "
					    "which is the limit (limits.test)\r\n"));
	client_close(&fourth);
	client_close(&idle);
	client_close(&busy);
	LAB_WAIT(&f->lab, f->gone == 1);
	fourth = client_open(&f->lab);
	client_send(&fourth, "GET /api/show/4 HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_for(&fourth, "\"id\":\"4\"");
	client_close(&fourth);
	client_close(&third);
}

static void one_user_does_not_get_all_connections(void **state)
{
	struct fixture *f = *state;
	struct client busy[3];

	f->max_user_connections = 2;
	f->server = http_server_free(f->server);
	f->server = make_server(f, 16, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(busy); i++) {
		busy[i] = client_open(&f->lab);
		client_send(&busy[i], "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
		lab_settle(&f->lab);
	}
	client_wait_end(&busy[2]);
	assert_true(starts_with(busy[2].text, "HTTP/1.1 429 "));
	assert_non_null(strstr(busy[2].text, " has 2 connections, none of them idle"));
	for (unsigned i = 0; i < ARRAY_SIZE(busy); i++)
		client_close(&busy[i]);
}

/* A byte every 20 ms until the server has had enough. */
static unsigned drip(struct fixture *f, struct client *client)
{
	uint64_t begun_us = clock_now_us();
	unsigned sent = 0;

	while (!client->ended) {
		uint64_t now_us = clock_now_us();

		assert_true(now_us - begun_us < CLIENT_PATIENCE_US);
		if (now_us - begun_us >= sent * UINT64_C(20000) &&
		    send(client->fd, "x", 1, MSG_NOSIGNAL) == 1)
			sent++;
		lab_turn(&f->lab, 5000);
		client_receive(client);
	}
	return sent;
}

static void a_head_that_drips_in_is_cut_off(void **state)
{
	struct fixture *f = *state;
	struct client client;

	f->server = http_server_free(f->server);
	f->server = make_server(f, 16, 1);
	client = client_open(&f->lab);
	client_send(&client, "GET /api/show/1 HTTP/1.1\r\nX: ");
	/* Each byte is activity; the head is not there for all that. */
	assert_true(drip(f, &client) > 10);
	assert_true(starts_with(client.text, "HTTP/1.1 408 "));
	assert_non_null(strstr(client.text, "the head of the request took longer than 1 s"));
	client_close(&client);
}

/* The time of a head begins anew behind each answer. */
static void the_next_head_that_drips_in_is_cut_off_too(void **state)
{
	struct fixture *f = *state;
	struct client client;

	f->server = http_server_free(f->server);
	f->server = make_server(f, 16, 1);
	client = client_open(&f->lab);
	/* We take longer than a client may: that is our own time. */
	client_send(&client, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	for (uint64_t until_us = clock_now_us() + 1500000; clock_now_us() < until_us;)
		lab_turn(&f->lab, 50000);
	http_reply(f->sleeping[0], 200, "text/plain", "awake", 5);
	client_wait_for(&client, "awake");
	client.length = 0;
	client.text[0] = '\0';
	client_send(&client, "GET /api/show/2 HTTP/1.1\r\nX: ");
	assert_true(drip(f, &client) > 10);
	assert_true(starts_with(client.text, "HTTP/1.1 408 "));
	client_close(&client);
}

static void a_body_that_drips_in_is_cut_off(void **state)
{
	struct fixture *f = *state;
	struct client client;

	f->server = http_server_free(f->server);
	f->server = make_server(f, 16, 1);
	client = client_open(&f->lab);
	client_send(&client, "PUT /api/show/1 HTTP/1.1\r\nHost: x\r\n"
			     "Content-Length: 900\r\n\r\n");
	assert_true(drip(f, &client) > 10);
	assert_true(starts_with(client.text, "HTTP/1.1 408 "));
	assert_non_null(strstr(client.text, "the body came at less than 16384 bytes in 1 s"));
	assert_int_equal(f->handled, 0);
	client_close(&client);
}

static void a_body_whose_end_is_ambiguous_is_not_read(void **state)
{
	static const char *const cases[][2] = {
		{ "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
		  "there are several Content-Lengths" },
		{ "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		  "there is a Content-Length beside a Transfer-Encoding" },
		{ "Transfer-Encoding: gzip\r\n\r\n{}", "the Transfer-Encoding is not chunked" },
		{ "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		  "the Transfer-Encoding is not chunked" },
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct client client = client_open(&f->lab);

		client_send(&client, "PUT /api/show/1 HTTP/1.1\r\nHost: x\r\n");
		client_send(&client, cases[i][0]);
		client_wait_end(&client);
		assert_true(starts_with(client.text, "HTTP/1.1 400 "));
		/* A newer libmicrohttpd refuses some by itself, in its own words. */
		assert_true(strstr(client.text, cases[i][1]) || strstr(client.text, "<html>"));
		assert_int_equal(f->handled, 0);
		client_close(&client);
	}
}

static void a_route_takes_so_many_at_once(void **state)
{
	struct fixture *f = *state;
	struct client clients[3];

	for (unsigned i = 0; i < ARRAY_SIZE(clients); i++) {
		clients[i] = client_open(&f->lab);
		client_send(&clients[i], "GET /api/few HTTP/1.1\r\nHost: x\r\n\r\n");
		lab_settle(&f->lab);
	}
	client_wait_for(&clients[2], "\"error\"");
	assert_true(starts_with(clients[2].text, "HTTP/1.1 429 "));
	assert_non_null(strstr(clients[2].text, "2 requests to /api/few of the user with uid "));
	http_reply(f->sleeping[0], 200, "text/plain", "awake", 5);
	client_wait_for(&clients[0], "awake");
	client_send(&clients[2], "GET /api/few HTTP/1.1\r\nHost: x\r\n\r\n");
	LAB_WAIT(&f->lab, f->n_sleeping == 3);
	for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
		client_close(&clients[i]);
}

static void answers_that_nobody_reads_are_counted(void **state)
{
	struct fixture *f = *state;
	struct client clients[3];
	const int room = 4608;

	for (unsigned i = 0; i < ARRAY_SIZE(clients); i++) {
		clients[i] = client_open(&f->lab);
		(void)setsockopt(clients[i].fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
		client_send(&clients[i], "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n"
					 "GET /api/large HTTP/1.1\r\nHost: x\r\n\r\n");
		lab_settle(&f->lab);
	}
	client_wait_for(&clients[2], "\"error\"");
	assert_true(starts_with(clients[2].text, "HTTP/1.1 429 "));
	/* Small ones are answered all the same, and who reads makes room. */
	client_close(&clients[0]);
	client_close(&clients[1]);
	client_send(&clients[2], "GET /api/show/9 HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_for(&clients[2], "\"id\":\"9\"");
	client_close(&clients[2]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static struct http_peer peer_of(const char *address)
{
	struct sockaddr_storage storage = { .ss_family =
						    strchr(address, ':') ? AF_INET6 : AF_INET };
	struct http_peer peer;

	assert_int_equal(inet_pton(storage.ss_family, address,
				   storage.ss_family == AF_INET
					   ? (void *)&((struct sockaddr_in *)&storage)->sin_addr
					   : (void *)&((struct sockaddr_in6 *)&storage)->sin6_addr),
			 1);
	http_limits_name_peer(&peer, -1, &storage);
	assert_string_equal(peer.address, address);
	assert_int_equal(peer.uid, (uid_t)-1);
	return peer;
}

static void limits_count_by_user_and_by_address(void **state)
{
	const struct sockaddr_storage local = { .ss_family = AF_UNIX };
	struct http_peer user, ipv4 = peer_of("192.0.2.1"), ipv6 = peer_of("2001:db8::1");
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	http_limits_name_peer(&user, pair[0], &local);
	assert_int_equal(user.uid, geteuid());
	assert_int_equal(user.user, geteuid());
	assert_string_equal(user.address, "");
	assert_string_equal(ipv4.user_name, "the client at 192.0.2.1");
	assert_true(ipv4.user == peer_of("192.0.2.1").user);
	assert_true(ipv4.user != peer_of("192.0.2.2").user);
	/* Whoever has a network has all of its addresses. */
	assert_true(ipv6.user == peer_of("2001:db8::ffff:1").user);
	assert_true(ipv6.user != peer_of("2001:db8:0:1::1").user);
	/* Nobody by TCP is taken for a user of the socket. */
	assert_true(peer_of("0.0.0.0").user > UINT32_MAX);
	assert_true(peer_of("::1").user > UINT32_MAX);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_count_by_user_and_by_address),
		TEST(whoever_comes_gets_the_place_of_who_is_idle),
		TEST(one_user_does_not_get_all_connections),
		TEST(a_head_that_drips_in_is_cut_off),
		TEST(the_next_head_that_drips_in_is_cut_off_too),
		TEST(a_body_that_drips_in_is_cut_off),
		TEST(a_body_whose_end_is_ambiguous_is_not_read),
		TEST(a_route_takes_so_many_at_once),
		TEST(answers_that_nobody_reads_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

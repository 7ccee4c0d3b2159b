/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <sys/un.h>

#include "base/cleanup.h"
#include "base/http.h"
#include "tests/support/http-client.h"

/* Requests, replies now and later, and the life of connections. Bodies: test-http-body.c; streams:
 * test-http-stream.c. */

struct fixture {
	struct lab lab;
	struct http_server *server;
	struct http_request *sleeping[8];
	unsigned n_sleeping;
	unsigned gone;
};

static void on_show(struct http_request *request, void *data)
{
	const char *query = http_request_query(request, "q");
	const char *header = http_request_header(request, "x-test");
	const struct http_peer *peer = http_request_peer(request);

	(void)data;
	assert_null(http_request_argument(request, "other"));
	assert_null(http_request_query(request, "none"));
	http_reply_json(request, 200,
			json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:b}", "method",
				  http_request_method(request), "path", http_request_path(request),
				  "id", http_request_argument(request, "id"), "q", query, "header",
				  header, "peer", peer->pid == getpid() && peer->uid == getuid()));
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
	(void)data;
	http_reply(request, 204, NULL, NULL, 0);
}

static void on_evil(struct http_request *request, void *data)
{
	(void)data;
	http_reply_header(request, "X-Value", "a\r\nEvil: yes\x7f\x01");
	http_reply_error(request, 409, "held by \xc3\xa9lise\r\nEvil: yes");
}

static void on_invalid(struct http_request *request, void *data)
{
	(void)data;
	http_reply_error_json(request, 400, json_pack("{s:i, s:s}", "line", 7, "error", "lost"),
			      "bytes \xff\xfe that are no text");
}

static const struct http_route routes[] = {
	{ .method = "GET", .path = "/api/show/{id}", .handle = on_show },
	{ .method = "GET", .path = "/api/show/{id}/more", .handle = on_show },
	{ .method = "PUT", .path = "/api/show/{id}", .handle = on_set },
	{ .method = "GET", .path = "/api/sleep", .handle = on_sleep },
	{ .method = "GET", .path = "/api/evil", .handle = on_evil },
	{ .method = "GET", .path = "/api/invalid", .handle = on_invalid },
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

static void a_handler_sees_what_was_asked(void **state)
{
	struct fixture *f = *state;
	free_ char *response = lab_ask(&f->lab, "GET /api/show/bbb-1?q=a%26b+c&x=y HTTP/1.1\r\n"
						"Host: x\r\nX-Test: hello\r\n\r\n");

	assert_true(starts_with(response, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(response, "\r\nContent-Type: application/json\r\n"));
	assert_string_equal(body_of(response),
			    "{\"method\":\"GET\",\"path\":\"/api/show/bbb-1\",\"id\":\"bbb-1\","
			    "\"q\":\"a&b c\",\"header\":\"hello\",\"peer\":true}\n");
}

static void arguments_are_decoded_one_by_one(void **state)
{
	static const struct {
		const char *target, *status, *contains;
	} cases[] = {
		{ "/api/show/de%3Aad%20%c3%a9+x", "200", "\"id\":\"de:ad \u00e9+x\"" },
		{ "/api/show/a/more", "200", "\"id\":\"a\"" },
		{ "/api/sho%77/a", "200", "\"id\":\"a\"" },
		{ "/api/show/a%2Fmore", "400", "the path has an escaped '/'" },
		{ "/api/show/a%00b", "400", "the path has a bad escape" },
		{ "/api/show/a%zz", "400", "the path has a bad escape" },
		{ "/api/show/a%2", "400", "the path has a bad escape" },
		{ "/api/show/a?q=%00", "400", "the query has a bad escape" },
		{ "/api/show/a?q&q=2&&", "200", "\"q\":\"\"" },
		{ "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", "400", "too many segments" },
		{ "/x?a=&a=&a=&a=&a=&a=&a=&a=&a=&a=&a=&a=&a=&a=&a=&a=&a=", "400",
		  "too many arguments" },
		{ "api", "400", "does not start with '/'" },
		{ "/api/show/", "404", "there is nothing at /api/show/" },
		{ "/api/show", "404", "there is nothing at /api/show" },
		{ "/api/show/a/b", "404", "there is nothing at /api/show/a/b" },
		{ "/api/show/a/", "404", "there is nothing" },
		{ "/api/shows/a", "404", "there is nothing" },
		{ "//api/show/a", "404", "there is nothing" },
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		char request[256];
		free_ char *response = NULL;

		(void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n",
			       cases[i].target);
		response = lab_ask(&f->lab, request);
		if (strncmp(response + strlen("HTTP/1.1 "), cases[i].status, 3) != 0 ||
		    !strstr(response, cases[i].contains))
			fail_msg("%s: %s", cases[i].target, response);
	}
}

static void a_wrong_method_is_told_the_right_ones(void **state)
{
	struct fixture *f = *state;
	free_ char *response = lab_ask(&f->lab, "DELETE /api/show/a HTTP/1.1\r\nHost: x\r\n\r\n");

	assert_true(starts_with(response, "HTTP/1.1 405 Method Not Allowed\r\n"));
	assert_non_null(strstr(response, "\r\nAllow: GET, HEAD, PUT\r\n"));
	assert_non_null(
		strstr(response, "\r\nDut-Error: /api/show/a has GET, HEAD, PUT, not DELETE\r\n"));
	assert_string_equal(body_of(response),
			    "{\"error\":\"/api/show/a has GET, HEAD, PUT, not DELETE\","
			    "\"error_msg\":\"/api/show/a has GET, HEAD, PUT, not DELETE\"}\n");
}

static void head_answers_without_the_body(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	/* The second answer must start where the first one's header ends. */
	client_send(&client, "HEAD /api/show/a HTTP/1.1\r\nHost: x\r\n\r\n"
			     "GET /api/show/b HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_for(&client, "\"id\":\"b\"");
	assert_non_null(strstr(client.text, "Content-Length: 83\r\n"));
	assert_null(strstr(client.text, "\"id\":\"a\""));
	assert_true(starts_with(body_of(client.text), "HTTP/1.1 200 OK\r\n"));
	client_close(&client);
}

static void an_answer_may_come_later(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);
	free_ char *response = NULL;

	client_send(&client, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	LAB_WAIT(&f->lab, f->n_sleeping == 1);
	lab_settle(&f->lab);
	client_receive(&client);
	assert_int_equal(client.length, 0);
	http_reply(f->sleeping[0], 200, "text/plain", "awake", 5);
	response = client_take_response(&client);
	assert_non_null(strstr(response, "\r\nContent-Type: text/plain\r\n"));
	assert_string_equal(body_of(response), "awake");
	client_close(&client);
	lab_settle(&f->lab);
	assert_int_equal(f->gone, 0);
}

static void many_sleepers_are_woken_in_any_order(void **state)
{
	static const unsigned order[] = { 2, 0, 4, 1, 3 };
	struct fixture *f = *state;
	struct client clients[5];

	for (unsigned i = 0; i < 5; i++) {
		clients[i] = client_open(&f->lab);
		client_send(&clients[i], "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
		LAB_WAIT(&f->lab, f->n_sleeping == i + 1);
	}
	for (unsigned i = 0; i < 5; i++) {
		char text[2] = { (char)('0' + order[i]), '\0' };

		http_reply(f->sleeping[order[i]], 200, "text/plain", text, 1);
	}
	for (unsigned i = 0; i < 5; i++) {
		free_ char *response = client_take_response(&clients[i]);

		assert_int_equal(body_of(response)[0], '0' + (int)i);
		client_close(&clients[i]);
	}
}

static void a_client_that_leaves_while_it_sleeps_is_noticed_once(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	client_send(&client, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	LAB_WAIT(&f->lab, f->n_sleeping == 1);
	lab_settle(&f->lab);
	client_close(&client);
	assert_int_equal(f->gone, 0);
	LAB_WAIT(&f->lab, f->gone == 1);
	lab_settle(&f->lab);
	assert_int_equal(f->gone, 1);
}

static void a_reply_to_a_client_that_has_just_left_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	client_send(&client, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	LAB_WAIT(&f->lab, f->n_sleeping == 1);
	client_close(&client);
	http_reply(f->sleeping[0], 200, "text/plain", "late", 4);
	lab_settle(&f->lab);
	assert_int_equal(f->gone, 0);
}

static void a_client_that_has_only_stopped_sending_is_answered(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	client_send(&client, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
	LAB_WAIT(&f->lab, f->n_sleeping == 1);
	lab_settle(&f->lab);
	assert_int_equal(f->gone, 0);
	http_reply(f->sleeping[0], 200, "text/plain", "awake", 5);
	client_wait_end(&client);
	assert_non_null(strstr(client.text, "\r\n\r\nawake"));
	client_close(&client);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);
	static const char *const ids[] = { "\"id\":\"1\"", "awake", "nothing at /none",
					   "\"id\":\"2\"" };

	client_send(&client, "GET /api/show/1 HTTP/1.1\r\nHost: x\r\n\r\n"
			     "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n"
			     "GET /none HTTP/1.1\r\nHost: x\r\n\r\n"
			     "GET /api/show/2 HTTP/1.1\r\nHost: x\r\n\r\n");
	LAB_WAIT(&f->lab, f->n_sleeping == 1);
	http_reply(f->sleeping[0], 200, "text/plain", "awake", 5);
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		free_ char *response = client_take_response(&client);

		assert_non_null(strstr(body_of(response), ids[i]));
	}
	client_close(&client);
}

static void control_characters_never_reach_a_header(void **state)
{
	struct fixture *f = *state;
	free_ char *response = lab_ask(&f->lab, "GET /api/evil HTTP/1.1\r\nHost: x\r\n\r\n");

	assert_true(starts_with(response, "HTTP/1.1 409 Conflict\r\n"));
	assert_non_null(strstr(response, "\r\nX-Value: a??Evil: yes??\r\n"));
	assert_non_null(strstr(response, "\r\nDut-Error: held by ?lise??Evil: yes\r\n"));
	assert_non_null(
		strstr(body_of(response), "\"error\":\"held by \xc3\xa9lise\\r\\nEvil: yes\""));
}

static void an_error_is_json_whatever_its_text(void **state)
{
	struct fixture *f = *state;
	free_ char *response = lab_ask(&f->lab, "GET /api/invalid HTTP/1.1\r\nHost: x\r\n\r\n");

	assert_string_equal(body_of(response),
			    "{\"error\":\"bytes \ufffd\ufffd that are no text\","
			    "\"error_msg\":\"bytes \ufffd\ufffd that are no text\","
			    "\"line\":7}\n");
}

static void what_is_no_http_harms_nobody(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);
	free_ char *response = NULL;

	client_send(&client, "\x16\x03\x01 hello\r\n\r\n");
	client_wait_end(&client);
	client_close(&client);
	response = lab_ask(&f->lab, "GET /api/show/a HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(starts_with(response, "HTTP/1.1 200"));
}

static void a_client_with_a_long_address_is_served(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct client client = { .lab = &f->lab, .text = calloc(1, 1) };
	free_ char *response = NULL;

	client.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path),
		       "%s/.////////////////////////////////////////////////client", f->lab.path);
	assert_int_equal(bind(client.fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", f->lab.path);
	assert_int_equal(connect(client.fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	client_send(&client, "GET /api/show/a HTTP/1.1\r\nHost: x\r\n\r\n");
	response = client_take_response(&client);
	assert_non_null(strstr(response, "\"peer\":true"));
	client_close(&client);
}

static void a_connection_that_sends_nothing_is_closed(void **state)
{
	struct fixture *f = *state;
	struct client silent, slow, sleeping;

	f->server = http_server_free(f->server);
	f->server = make_server(f, 16, 1);
	silent = client_open(&f->lab);
	slow = client_open(&f->lab);
	client_send(&slow, "GET /api/show/1 HTT");
	sleeping = client_open(&f->lab);
	client_send(&sleeping, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_end(&silent);
	client_wait_end(&slow);
	/* We let this one wait, not it us. */
	client_receive(&sleeping);
	assert_false(sleeping.ended);
	http_reply(f->sleeping[0], 200, "text/plain", "awake", 5);
	client_wait_for(&sleeping, "awake");
	client_close(&silent);
	client_close(&slow);
	client_close(&sleeping);
}

static void a_server_that_stops_listening_serves_who_is_there(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);
	struct error err;
	int fd = -1;

	client_send(&client, "GET /api/show/1 HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_for(&client, "\"id\":\"1\"");
	http_server_stop_listening(f->server);
	assert_int_equal(file_connect_socket(&fd, f->lab.dir_fd, "socket", SOCK_STREAM, &err),
			 -ECONNREFUSED);
	client_send(&client, "GET /api/show/2 HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_for(&client, "\"id\":\"2\"");
	client_close(&client);
}

static void a_freed_server_leaves_nobody_behind(void **state)
{
	struct fixture *f = *state;
	struct client idle = client_open(&f->lab), half = client_open(&f->lab);
	struct client sleeping = client_open(&f->lab), queued = client_open(&f->lab);
	struct client unseen;

	client_send(&half, "PUT /api/show/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc");
	client_send(&sleeping, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	client_send(&queued, "GET /api/sleep HTTP/1.1\r\nHost: x\r\n\r\n");
	LAB_WAIT(&f->lab, f->n_sleeping == 2);
	lab_settle(&f->lab);
	unseen = client_open(&f->lab);
	/* One has its reply already, but the loop has not run since. */
	http_reply(f->sleeping[1], 200, "text/plain", "late", 4);
	f->server = http_server_free(f->server);
	assert_int_equal(f->gone, 1);
	client_wait_end(&idle);
	client_wait_end(&half);
	client_wait_end(&sleeping);
	client_wait_end(&queued);
	client_wait_end(&unseen);
	client_close(&idle);
	client_close(&half);
	client_close(&sleeping);
	client_close(&queued);
	client_close(&unseen);
	assert_int_equal(f->gone, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_handler_sees_what_was_asked),
		TEST(arguments_are_decoded_one_by_one),
		TEST(a_wrong_method_is_told_the_right_ones),
		TEST(head_answers_without_the_body),
		TEST(an_answer_may_come_later),
		TEST(many_sleepers_are_woken_in_any_order),
		TEST(a_client_that_leaves_while_it_sleeps_is_noticed_once),
		TEST(a_reply_to_a_client_that_has_just_left_is_dropped),
		TEST(a_client_that_has_only_stopped_sending_is_answered),
		TEST(pipelined_requests_are_answered_in_order),
		TEST(control_characters_never_reach_a_header),
		TEST(an_error_is_json_whatever_its_text),
		TEST(what_is_no_http_harms_nobody),
		TEST(a_client_with_a_long_address_is_served),
		TEST(a_connection_that_sends_nothing_is_closed),
		TEST(a_server_that_stops_listening_serves_who_is_there),
		TEST(a_freed_server_leaves_nobody_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

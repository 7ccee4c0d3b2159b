/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include "base/cleanup.h"
#include "base/http.h"
#include "tests/support/http-client.h"

/* Streams: asked for bytes when there is room, asleep when there are none. */

enum { MAX_VIEWERS = 8 };

#define WATCH "GET /watch HTTP/1.1\r\nHost: x\r\n\r\n"

struct fixture;

struct viewer {
	struct fixture *fixture;
	struct http_stream *stream;
	uint64_t asked_bytes; /* given to the server so far */
	unsigned reads, done;
	bool in_handler;
};

struct fixture {
	struct lab lab;
	struct http_server *server;
	struct viewer viewers[MAX_VIEWERS];
	unsigned n_viewers;
	uint64_t available; /* bytes that a viewer may have by now */
	int at_end;	    /* END or ABORT after these, else 0 */
	bool wake_in_read;
};

static char byte_at(uint64_t offset)
{
	return (char)('a' + offset % 23);
}

static ssize_t on_read(void *data, char *buffer, size_t size)
{
	struct viewer *viewer = data;
	struct fixture *f = viewer->fixture;
	uint64_t left = f->available - viewer->asked_bytes;

	assert_false(viewer->in_handler);
	assert_int_equal(viewer->done, 0);
	viewer->reads++;
	if (left == 0 && f->wake_in_read && f->available == 0) {
		f->available = 5;
		http_stream_wake(viewer->stream);
		return 0;
	}
	if (left == 0)
		return f->at_end;
	if (size > left)
		size = left;
	for (size_t i = 0; i < size; i++)
		buffer[i] = byte_at(viewer->asked_bytes + i);
	viewer->asked_bytes += size;
	return (ssize_t)size;
}

static void on_done(void *data)
{
	struct viewer *viewer = data;

	assert_false(viewer->in_handler);
	viewer->done++;
}

static const struct http_source source = { .read = on_read, .done = on_done };

static void on_watch(struct http_request *request, void *data)
{
	struct fixture *f = data;
	struct viewer *viewer = &f->viewers[f->n_viewers++];

	*viewer = (struct viewer){ .fixture = f, .in_handler = true };
	http_reply_header(request, "Console-Offset", "17");
	viewer->stream =
		http_reply_stream(request, 200, "application/octet-stream", &source, viewer);
	assert_non_null(viewer->stream);
	viewer->in_handler = false;
}

static void on_hello(struct http_request *request, void *data)
{
	(void)data;
	http_reply(request, 200, "text/plain", "hello", 5);
}

static const struct http_route routes[] = {
	{ .method = "GET", .path = "/watch", .handle = on_watch },
	{ .method = "GET", .path = "/hello", .handle = on_hello },
	{ .path = NULL },
};

static struct http_server *make_server(struct fixture *f, unsigned max_connections,
				       unsigned idle_timeout_s)
{
	return lab_serve(&f->lab, (struct http_config){
					  .routes = routes,
					  .data = f,
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
	for (unsigned i = 0; i < f->n_viewers; i++)
		assert_int_equal(f->viewers[i].done, 1);
	lab_done(&f->lab);
	free(f);
	return 0;
}

/* Waits until a viewer has had all there is, and sleeps. */
static void wait_asleep(struct fixture *f, unsigned n)
{
	LAB_WAIT(&f->lab, f->n_viewers > n && f->viewers[n].reads > 0 &&
				  f->viewers[n].asked_bytes == f->available);
	lab_settle(&f->lab);
}

static void bytes_come_as_they_are_there(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	client_send(&client, WATCH);
	client_wait_for(&client, "\r\n\r\n");
	assert_non_null(strstr(client.text, "\r\nConsole-Offset: 17\r\n"));
	assert_non_null(strstr(client.text, "\r\nTransfer-Encoding: chunked\r\n"));
	wait_asleep(f, 0);
	f->available = 3;
	http_stream_wake(f->viewers[0].stream);
	client_wait_for(&client, "\r\n3\r\nabc\r\n");
	f->available = 5;
	http_stream_wake(f->viewers[0].stream);
	client_wait_for(&client, "\r\n2\r\nde\r\n");

	/* An end is an end, and the connection goes on. */
	f->at_end = HTTP_STREAM_END;
	http_stream_wake(f->viewers[0].stream);
	client_wait_for(&client, "\r\n0\r\n\r\n");
	LAB_WAIT(&f->lab, f->viewers[0].done == 1);
	client_send(&client, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_for(&client, "\r\n\r\nhello");
	client_close(&client);
}

static void a_stream_that_sleeps_is_not_asked(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);
	unsigned reads;

	client_send(&client, WATCH);
	wait_asleep(f, 0);
	reads = f->viewers[0].reads;
	lab_settle(&f->lab);
	assert_int_equal(f->viewers[0].reads, reads);
	/* Many wakes in one turn are one read. */
	for (unsigned i = 0; i < 100; i++)
		http_stream_wake(f->viewers[0].stream);
	assert_int_equal(f->viewers[0].reads, reads);
	lab_settle(&f->lab);
	assert_int_equal(f->viewers[0].reads, reads + 1);
	client_close(&client);
}

static void a_wake_inside_a_read_is_not_lost(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	f->wake_in_read = true;
	client_send(&client, WATCH);
	client_wait_for(&client, "\r\n5\r\nabcde\r\n");
	client_close(&client);
}

static void an_abort_is_no_end(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	f->available = 3;
	client_send(&client, WATCH);
	client_wait_for(&client, "\r\n3\r\nabc\r\n");
	wait_asleep(f, 0);
	f->at_end = HTTP_STREAM_ABORT;
	http_stream_wake(f->viewers[0].stream);
	client_wait_end(&client);
	assert_null(strstr(client.text, "\r\n0\r\n\r\n"));
	assert_int_equal(f->viewers[0].done, 1);
	client_close(&client);
}

static void a_stream_that_is_over_gives_its_place_back(void **state)
{
	static const struct {
		const char *request;
		int end;
	} cases[] = {
		{ "GET /watch HTTP/1.0\r\n\r\n", HTTP_STREAM_END },
		{ "GET /watch HTTP/1.0\r\n\r\n", HTTP_STREAM_ABORT },
		{ WATCH, HTTP_STREAM_ABORT },
		{ "GET /watch HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", HTTP_STREAM_END },
	};
	struct fixture *f = *state;
	struct client clients[ARRAY_SIZE(cases) * 2], idle;

	/* Neither a timeout nor the client ends the connection here: only the server itself. */
	f->server = http_server_free(f->server);
	f->server = make_server(f, 2, 0);
	idle = client_open(&f->lab);
	lab_settle(&f->lab);
	for (unsigned i = 0; i < ARRAY_SIZE(clients); i++) {
		f->at_end = 0;
		f->available = 4;
		clients[i] = client_open(&f->lab);
		client_send(&clients[i], cases[i / 2].request);
		client_wait_for(&clients[i], "abcd");
		/* Each case from sleep, and from the first read on. */
		if (i % 2)
			wait_asleep(f, i);
		f->at_end = cases[i / 2].end;
		http_stream_wake(f->viewers[i].stream);
		LAB_WAIT(&f->lab, f->viewers[i].done == 1);
		client_wait_end(&clients[i]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
		client_close(&clients[i]);
	client_close(&idle);
}

static void head_of_a_stream_has_no_body(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	f->available = 1000;
	client_send(&client, "HEAD /watch HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_end(&client);
	assert_true(starts_with(client.text, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(client.text, "\r\nConsole-Offset: 17\r\n"));
	assert_string_equal(body_of(client.text), "");
	assert_int_equal(f->viewers[0].reads, 0);
	assert_int_equal(f->viewers[0].done, 1);
	client_close(&client);
}

static void a_client_that_leaves_a_sleeping_stream_is_noticed(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	client_send(&client, WATCH);
	wait_asleep(f, 0);
	client_close(&client);
	LAB_WAIT(&f->lab, f->viewers[0].done == 1);
	lab_settle(&f->lab);
	assert_int_equal(f->viewers[0].done, 1);
}

static void a_client_that_leaves_in_the_middle_is_noticed(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	f->available = UINT64_MAX;
	client_send(&client, WATCH);
	lab_settle(&f->lab);
	assert_int_equal(f->viewers[0].done, 0);
	client_close(&client);
	LAB_WAIT(&f->lab, f->viewers[0].done == 1);
	lab_settle(&f->lab);
}

/* Takes the chunks off what was received, and checks their bytes against *offset. */
static void check_chunks(struct client *client, uint64_t *offset)
{
	size_t at = 0;

	for (;;) {
		char *end = NULL;
		size_t length = strtoul(client->text + at, &end, 16);
		size_t start = (size_t)(end - client->text) + 2;

		if (start > client->length || start + length + 2 > client->length)
			break;
		for (size_t i = 0; i < length; i++)
			if (client->text[start + i] != byte_at(*offset + i))
				fail_msg("byte %llu is wrong", (unsigned long long)(*offset + i));
		*offset += length;
		at = start + length + 2;
	}
	client->length -= at;
	memmove(client->text, client->text + at, client->length + 1);
}

static void a_slow_reader_queues_nothing_and_delays_nobody(void **state)
{
	enum { ENOUGH = 4 << 20, MAX_AHEAD = 1 << 20 };
	struct fixture *f = *state;
	struct client slow = client_open(&f->lab), other = client_open(&f->lab);
	uint64_t offset = 0, before;
	size_t header;

	f->available = UINT64_MAX;
	client_send(&slow, WATCH);
	lab_settle(&f->lab);
	before = f->viewers[0].asked_bytes;
	assert_true(before > 0 && before < MAX_AHEAD);
	client_send(&other, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	client_wait_for(&other, "\r\n\r\nhello");
	lab_settle(&f->lab);
	assert_int_equal(f->viewers[0].asked_bytes, before);

	client_wait_for(&slow, "\r\n\r\n");
	header = (size_t)(body_of(slow.text) - slow.text);
	slow.length -= header;
	memmove(slow.text, slow.text + header, slow.length + 1);
	while (offset < ENOUGH) {
		lab_turn(&f->lab, CLIENT_TURN_US);
		client_receive(&slow);
		check_chunks(&slow, &offset);
		assert_true(f->viewers[0].asked_bytes < offset + slow.length + MAX_AHEAD);
	}
	client_close(&slow);
	client_close(&other);
}

static void a_reader_that_pauses_is_not_idle(void **state)
{
	struct fixture *f = *state;
	struct client asleep, stopped, other;

	f->server = http_server_free(f->server);
	f->server = make_server(f, 16, 1);
	asleep = client_open(&f->lab);
	client_send(&asleep, WATCH);
	wait_asleep(f, 0);
	stopped = client_open(&f->lab);
	f->available = 1 << 20;
	client_send(&stopped, WATCH);
	LAB_WAIT(&f->lab, f->n_viewers == 2);
	/* Until long after one that was idle from now on is gone. */
	for (unsigned i = 0; i < 2; i++) {
		other = client_open(&f->lab);
		client_wait_end(&other);
		client_close(&other);
	}
	assert_int_equal(f->viewers[0].done + f->viewers[1].done, 0);

	/* After the stream the ordinary rule is back. */
	f->at_end = HTTP_STREAM_END;
	http_stream_wake(f->viewers[0].stream);
	client_wait_end(&stopped);
	client_wait_end(&asleep);
	assert_non_null(strstr(asleep.text, "\r\n0\r\n\r\n"));
	client_close(&stopped);
	client_close(&asleep);
}

static void a_freed_server_is_done_with_every_stream(void **state)
{
	struct fixture *f = *state;
	struct client asleep = client_open(&f->lab), woken = client_open(&f->lab);
	struct client stopped = client_open(&f->lab), fresh = client_open(&f->lab);

	client_send(&asleep, WATCH);
	wait_asleep(f, 0);
	client_send(&woken, WATCH);
	wait_asleep(f, 1);
	f->available = UINT64_MAX;
	client_send(&stopped, WATCH);
	lab_settle(&f->lab);
	assert_int_equal(f->n_viewers, 3);
	client_send(&fresh, WATCH);
	http_stream_wake(f->viewers[1].stream);
	f->server = http_server_free(f->server);
	for (unsigned i = 0; i < f->n_viewers; i++)
		assert_int_equal(f->viewers[i].done, 1);
	client_wait_end(&asleep);
	assert_null(strstr(asleep.text, "\r\n0\r\n\r\n"));
	client_close(&asleep);
	client_close(&woken);
	client_close(&stopped);
	client_close(&fresh);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bytes_come_as_they_are_there),
		TEST(a_stream_that_sleeps_is_not_asked),
		TEST(a_wake_inside_a_read_is_not_lost),
		TEST(an_abort_is_no_end),
		TEST(a_stream_that_is_over_gives_its_place_back),
		TEST(head_of_a_stream_has_no_body),
		TEST(a_client_that_leaves_a_sleeping_stream_is_noticed),
		TEST(a_client_that_leaves_in_the_middle_is_noticed),
		TEST(a_slow_reader_queues_nothing_and_delays_nobody),
		TEST(a_reader_that_pauses_is_not_idle),
		TEST(a_freed_server_is_done_with_every_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <sys/stat.h>

#include "base/cleanup.h"
#include "executor/jobsock.h"
#include "tests/support/http-client.h"

enum { BASE = 1000 };

struct fixture {
	struct lab lab;
	struct jobsock *jobsock;
	struct stream *stream; /* NULL before the first loan */
	int board;
	char *why;
	uid_t by;
	unsigned cancels, ended;
};

static void write_state(struct jsontext *json, void *data)
{
	(void)data;
	jsontext_open_object(json, NULL);
	jsontext_text(json, "state", "RUNNING");
	jsontext_integer(json, "boot", 3);
	jsontext_close_object(json);
}

static void on_cancel(const char *why, uid_t by, void *data)
{
	struct fixture *f = data;

	free(f->why);
	f->why = why ? strdup(why) : NULL;
	f->by = by;
	f->cancels++;
}

static struct stream *get_stream(void *data)
{
	const struct fixture *f = data;

	return f->stream;
}

static void on_ended(void *data)
{
	struct fixture *f = data;

	f->ended++;
}

static void start(struct fixture *f, uid_t control_uid)
{
	const struct jobsock_config config = {
		.event = f->lab.event,
		.listen_fd = lab_listen(&f->lab),
		.control_uid = control_uid,
		.job_dir_fd = f->lab.dir_fd,
		.state = write_state,
		.cancel = on_cancel,
		.stream = get_stream,
		.ended = on_ended,
		.data = f,
	};
	struct error err;

	f->jobsock = jobsock_free(f->jobsock);
	if (jobsock_new(&f->jobsock, &config, &err) < 0)
		fail_msg("%s", err.text);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	lab_init(&f->lab);
	f->board = -1;
	start(f, getuid());
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->jobsock = jobsock_free(f->jobsock);
	stream_close(f->stream);
	(void)close_fd(f->board);
	(void)unlinkat(f->lab.dir_fd, "console.log", 0);
	(void)unlinkat(f->lab.dir_fd, "console.idx", 0);
	(void)unlinkat(f->lab.dir_fd, "events.jsonl", 0);
	lab_done(&f->lab);
	free(f->why);
	free(f);
	return 0;
}

static void lend(struct fixture *f)
{
	int sockets[2], pipes[2];
	struct error err;

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets), 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(stream_open(&f->stream, f->lab.dir_fd, "console", BASE, &err), 0);
	assert_int_equal(stream_attach(f->stream, sockets[0], pipes[0], pipes[1], &err), 0);
	f->board = sockets[1];
}

static void board_says(struct fixture *f, const char *text)
{
	struct error err;

	assert_int_equal(write(f->board, text, strlen(text)), strlen(text));
	assert_int_equal(stream_pump(f->stream, &err), strlen(text));
	jobsock_wake(f->jobsock);
}

static void add_event(struct fixture *f, const char *line)
{
	close_ int fd = openat(f->lab.dir_fd, "events.jsonl",
			       O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	assert_int_equal(write(fd, line, strlen(line)), strlen(line));
	jobsock_wake(f->jobsock);
}

/* Asks for a path; what comes is read by the test. */
static struct client ask(struct fixture *f, const char *target)
{
	struct client client = client_open(&f->lab);
	char request[256];

	(void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
	client_send(&client, request);
	return client;
}

static char *post_cancel(struct fixture *f, const char *body)
{
	char request[256];

	(void)snprintf(request, sizeof(request),
		       "POST /api/v1/job/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n"
		       "%s",
		       strlen(body), body);
	return lab_ask(&f->lab, request);
}

static void the_state_is_what_the_executor_says(void **state)
{
	struct fixture *f = *state;
	free_ char *response = lab_ask(&f->lab, "GET /api/v1/state HTTP/1.1\r\nHost: x\r\n\r\n");

	assert_string_equal(body_of(response), "{\"state\":\"RUNNING\",\"boot\":3}\n");
}

static void a_cancel_carries_its_reason(void **state)
{
	struct fixture *f = *state;
	free_ char *first = post_cancel(f, "{\"why\": \"board is needed\"}");
	free_ char *second = NULL, *third = NULL;

	assert_true(starts_with(first, "HTTP/1.1 200 OK\r\n"));
	assert_string_equal(f->why, "board is needed");
	assert_int_equal(f->by, getuid());
	second = post_cancel(f, "");
	assert_null(f->why);
	assert_int_equal(f->cancels, 2);
	third = post_cancel(f, "{\"why\": 7}");
	assert_true(starts_with(third, "HTTP/1.1 400 "));
	assert_int_equal(f->cancels, 2);
}

static void nobody_else_may_cancel(void **state)
{
	enum { NOBODY = 65534 };
	struct fixture *f = *state;
	bool is_root = geteuid() == 0;
	struct client client;

	start(f, getuid() + 1);
	/* Root may always; so be somebody else while connecting. */
	if (is_root) {
		assert_int_equal(fchmod(f->lab.dir_fd, 0711), 0);
		assert_int_equal(fchmodat(f->lab.dir_fd, "socket", 0666, 0), 0);
		assert_int_equal(seteuid(NOBODY), 0);
	}
	client = client_open(&f->lab);
	if (is_root)
		assert_int_equal(seteuid(0), 0);
	client_send(&client, "POST /api/v1/job/cancel HTTP/1.1\r\nHost: x\r\n"
			     "Content-Length: 2\r\n\r\n{}");
	client_wait_for(&client, "\r\n\r\n");
	assert_true(starts_with(client.text, "HTTP/1.1 403 Forbidden\r\n"));
	assert_non_null(strstr(client.text,
			       "\r\nDut-Error: only dutd may cancel here: use dut cancel\r\n"));
	client_close(&client);
	assert_int_equal(f->cancels, 0);
}

static void the_console_is_followed_from_an_offset(void **state)
{
	struct fixture *f = *state;
	struct client client;

	lend(f);
	board_says(f, "0123456789");
	client = ask(f, "/api/v1/console?offset=1004");
	client_wait_for(&client, "\r\n6\r\n456789\r\n");
	assert_non_null(strstr(client.text, "\r\nConsole-Offset: 1004\r\n"));
	board_says(f, "more");
	client_wait_for(&client, "\r\n4\r\nmore\r\n");
	jobsock_end(f->jobsock);
	client_wait_for(&client, "\r\n0\r\n\r\n");
	LAB_WAIT(&f->lab, f->ended == 1);
	client_close(&client);
}

static void a_viewer_chooses_where_to_begin(void **state)
{
	static const struct {
		const char *query, *offset, *first;
	} cases[] = {
		{ "", "1010", "\r\n4\r\nmore\r\n" },
		{ "?offset=1010", "1010", "\r\n4\r\nmore\r\n" },
		{ "?offset=-3", "1007", "\r\n3\r\n789\r\n" },
		{ "?offset=-99", "1000", "\r\n0123456789\r\n" },
		{ "?offset=5", "1000", "\r\n0123456789\r\n" },
	};
	struct fixture *f = *state;
	struct client clients[ARRAY_SIZE(cases)];

	lend(f);
	board_says(f, "0123456789");
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		char target[64], header[64];

		(void)snprintf(target, sizeof(target), "/api/v1/console%s", cases[i].query);
		(void)snprintf(header, sizeof(header), "\r\nConsole-Offset: %s\r\n",
			       cases[i].offset);
		clients[i] = ask(f, target);
		client_wait_for(&clients[i], header);
		lab_settle(&f->lab);
	}
	board_says(f, "more");
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		client_wait_for(&clients[i], cases[i].first);
		client_wait_for(&clients[i], "\r\n4\r\nmore\r\n");
		client_close(&clients[i]);
	}
}

static void an_offset_that_cannot_be_is_refused(void **state)
{
	struct fixture *f = *state;
	free_ char *late = NULL, *wrong = NULL;

	lend(f);
	late = lab_ask(&f->lab, "GET /api/v1/console?offset=1001 HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(starts_with(late, "HTTP/1.1 400 "));
	assert_non_null(strstr(late, "offset 1001 is behind the console's end, 1000"));
	wrong = lab_ask(&f->lab, "GET /api/v1/console?offset=x HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(starts_with(wrong, "HTTP/1.1 400 "));
	assert_non_null(strstr(wrong, "\r\nDut-Error: offset: "));
}

static void a_viewer_waits_for_the_first_console(void **state)
{
	struct fixture *f = *state;
	struct client client = ask(f, "/api/v1/console?offset=0");
	struct client impatient = ask(f, "/api/v1/console");

	lab_settle(&f->lab);
	client_receive(&client);
	assert_int_equal(client.length, 0);
	client_close(&impatient);
	lab_settle(&f->lab);
	lend(f);
	jobsock_wake(f->jobsock);
	client_wait_for(&client, "\r\nConsole-Offset: 1000\r\n");
	board_says(f, "hello");
	client_wait_for(&client, "\r\n5\r\nhello\r\n");
	client_close(&client);
}

static void a_job_without_a_console_has_an_empty_one(void **state)
{
	struct fixture *f = *state;
	struct client client = ask(f, "/api/v1/console?offset=0");

	lab_settle(&f->lab);
	jobsock_end(f->jobsock);
	client_wait_for(&client, "\r\n0\r\n\r\n");
	assert_non_null(strstr(client.text, "\r\nConsole-Offset: 0\r\n"));
	client_close(&client);
}

static void events_are_followed_line_by_line(void **state)
{
	struct fixture *f = *state;
	struct client client = ask(f, "/api/v1/events");

	client_wait_for(&client, "\r\n\r\n");
	assert_non_null(strstr(client.text, "\r\nContent-Type: application/jsonl\r\n"));
	lab_settle(&f->lab);
	add_event(f, "{\"seq\":1}\n");
	client_wait_for(&client, "\r\n{\"seq\":1}\n\r\n");
	add_event(f, "{\"seq\":2}\n");
	client_wait_for(&client, "\r\n{\"seq\":2}\n\r\n");
	jobsock_end(f->jobsock);
	client_wait_for(&client, "\r\n0\r\n\r\n");
	client_close(&client);
}

static void an_end_without_viewers_comes_at_once(void **state)
{
	struct fixture *f = *state;
	uint64_t before_us = clock_now_us();

	jobsock_end(f->jobsock);
	assert_int_equal(f->ended, 0);
	LAB_WAIT(&f->lab, f->ended == 1);
	assert_true(clock_now_us() - before_us < JOBSOCK_LINGER_US);
	jobsock_end(f->jobsock);
	lab_settle(&f->lab);
	assert_int_equal(f->ended, 1);
}

static void a_viewer_that_does_not_read_delays_the_end_a_little(void **state)
{
	struct fixture *f = *state;
	uint64_t before_us, took_us;
	struct client client;
	close_ int log = -1;

	lend(f);
	client = ask(f, "/api/v1/console?offset=0");
	client_wait_for(&client, "\r\n\r\n");
	/* More than the socket holds. */
	log = openat(f->lab.dir_fd, "console.log", O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(log, 8 << 20), 0);
	jobsock_wake(f->jobsock);
	lab_settle(&f->lab);
	before_us = clock_now_us();
	jobsock_end(f->jobsock);
	LAB_WAIT(&f->lab, f->ended == 1);
	took_us = clock_now_us() - before_us;
	assert_true(took_us >= JOBSOCK_LINGER_US && took_us < 5 * JOBSOCK_LINGER_US);
	f->jobsock = jobsock_free(f->jobsock);
	client_close(&client);
}

static void viewers_do_not_outlive_the_socket(void **state)
{
	struct fixture *f = *state;
	struct client waiting = ask(f, "/api/v1/console"), events = ask(f, "/api/v1/events");
	struct client console;

	lab_settle(&f->lab);
	f->jobsock = jobsock_free(f->jobsock);
	client_wait_end(&waiting);
	client_wait_end(&events);
	start(f, getuid());
	lend(f);
	console = ask(f, "/api/v1/console");
	lab_settle(&f->lab);
	f->jobsock = jobsock_free(f->jobsock);
	client_wait_end(&console);
	client_close(&waiting);
	client_close(&events);
	client_close(&console);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_state_is_what_the_executor_says),
		TEST(a_cancel_carries_its_reason),
		TEST(nobody_else_may_cancel),
		TEST(the_console_is_followed_from_an_offset),
		TEST(a_viewer_chooses_where_to_begin),
		TEST(an_offset_that_cannot_be_is_refused),
		TEST(a_viewer_waits_for_the_first_console),
		TEST(a_job_without_a_console_has_an_empty_one),
		TEST(events_are_followed_line_by_line),
		TEST(an_end_without_viewers_comes_at_once),
		TEST(a_viewer_that_does_not_read_delays_the_end_a_little),
		TEST(viewers_do_not_outlive_the_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

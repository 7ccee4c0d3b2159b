/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/http.h"
#include "tests/support/http-client.h"

/* Bodies, forms, and refusals that must reach a client which is still sending. */

enum { MAX_BODY = 1000, MAX_NOTE = 2000, MAX_FILE = 6 << 20, FILE_SIZE = 5 << 20 };

#define FORM_TYPE "Content-Type: multipart/form-data; boundary=XbX\r\n"

struct fixture {
	struct lab lab;
	struct http_server *server;
	char *expected; /* of the file part */
	size_t expected_length;
	unsigned admitted, handled;
	bool refuse;
};

static void on_body(struct http_request *request, void *data)
{
	struct fixture *f = data;
	size_t length = 0;
	const char *body = http_request_body(request, &length);

	f->handled++;
	assert_non_null(body);
	assert_int_equal(body[length], '\0');
	http_reply(request, 200, "application/octet-stream", body, length);
}

static void on_admit(struct http_request *request, void *data)
{
	struct fixture *f = data;

	f->admitted++;
	assert_int_equal(f->handled, 0);
	if (f->refuse)
		http_reply_error(request, 403, "not for you");
}

static void check_file(const struct fixture *f, int fd)
{
	free_ char *got = malloc(f->expected_length + 1);
	struct stat status;

	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_nlink, 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(status.st_size, f->expected_length);
	/* The handler reads from the start without a seek. */
	assert_int_equal(read(fd, got, f->expected_length + 1), f->expected_length);
	assert_memory_equal(got, f->expected, f->expected_length);
}

static void on_form(struct http_request *request, void *data)
{
	struct fixture *f = data;
	size_t length = 99;
	const char *note = http_request_part(request, "note", &length);
	int fd = http_request_part_fd(request, "file");

	f->handled++;
	assert_null(http_request_body(request, NULL));
	assert_null(http_request_part(request, "file", NULL));
	assert_int_equal(http_request_part_fd(request, "note"), -1);
	assert_null(http_request_part(request, "none", NULL));
	if (!note)
		assert_int_equal(length, 0);
	if (fd >= 0 && f->expected)
		check_file(f, fd);
	http_reply_json(request, 201,
			json_pack("{s:s?, s:i, s:b}", "note", note, "length", (int)length, "file",
				  fd >= 0));
}

static const struct http_part parts[] = {
	{ .name = "note", .max_bytes = MAX_NOTE, .limit = "limits.note", .what = "the note" },
	{ .name = "file",
	  .max_bytes = MAX_FILE,
	  .limit = "limits.file",
	  .what = "the file",
	  .to_file = true },
	{ .name = NULL },
};

static const struct http_route routes[] = {
	{ .method = "POST", .path = "/body", .handle = on_body },
	{ .method = "POST", .path = "/form", .handle = on_form, .admit = on_admit, .parts = parts },
	{ .path = NULL },
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	lab_init(&f->lab);
	f->server = lab_serve(&f->lab, (struct http_config){
					       .routes = routes,
					       .data = f,
					       .max_body_bytes = MAX_BODY,
					       .max_connections = 16,
					       .idle_timeout_s = 60,
				       });
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	http_server_free(f->server);
	lab_done(&f->lab);
	free(f->expected);
	free(f);
	return 0;
}

/* Sends what a test has put together, and returns the response. */
static char *ask_bytes(struct fixture *f, const char *headers, const char *body, size_t length)
{
	struct client client = client_open(&f->lab);
	char *response;

	client_send(&client, headers);
	assert_true(client_send_bytes(&client, body, length));
	response = client_take_response(&client);
	client_close(&client);
	return response;
}

static char *post_form(struct fixture *f, const char *form, size_t length)
{
	char headers[256];

	(void)snprintf(headers, sizeof(headers),
		       "POST /form HTTP/1.1\r\nHost: x\r\n" FORM_TYPE "Content-Length: %zu\r\n\r\n",
		       length);
	return ask_bytes(f, headers, form, length);
}

/* A form with one file part of these bytes, and a note; the caller frees it. */
static char *make_form(const char *file, size_t length, size_t *ret_length)
{
	static const char head[] = "--XbX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n"
				   "remember\r\n"
				   "--XbX\r\nContent-Disposition: form-data; name=\"file\"; "
				   "filename=\"/etc/passwd\"\r\n\r\n";
	static const char tail[] = "\r\n--XbX--\r\n";
	char *form = malloc(strlen(head) + length + strlen(tail));

	memcpy(form, head, strlen(head));
	memcpy(form + strlen(head), file, length);
	memcpy(form + strlen(head) + length, tail, strlen(tail));
	*ret_length = strlen(head) + length + strlen(tail);
	return form;
}

static void a_small_body_is_in_memory(void **state)
{
	struct fixture *f = *state;
	free_ char *response = ask_bytes(
		f, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", "a\0b\r\n", 5);
	free_ char *empty = lab_ask(&f->lab, "POST /body HTTP/1.1\r\nHost: x\r\n\r\n");
	free_ char *chunked = lab_ask(&f->lab, "POST /body HTTP/1.1\r\nHost: x\r\n"
					       "Transfer-Encoding: chunked\r\n\r\n"
					       "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");

	assert_memory_equal(body_of(response), "a\0b\r\n", 5);
	assert_string_equal(body_of(empty), "");
	assert_string_equal(body_of(chunked), "abcde");
}

static void a_body_over_the_limit_is_refused_with_its_name(void **state)
{
	struct fixture *f = *state;
	free_ char *body = calloc(1, 200000), *fits = NULL, *known = NULL;
	struct client client = client_open(&f->lab);

	memset(body, 'x', 200000);
	fits = ask_bytes(f, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", body,
			 1000);
	assert_true(starts_with(fits, "HTTP/1.1 200 OK\r\n"));
	f->handled = 0;
	known = ask_bytes(f, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n",
			  body, 200000);
	assert_true(starts_with(known, "HTTP/1.1 413 "));
	assert_non_null(strstr(known, "\r\nDut-Error: the body is longer than 1000 bytes, "
				      "which is the limit\r\n"));

	/* Without a length it shows in the middle only. The connection stays good. */
	client_send(&client, "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
			     "30d40\r\n");
	assert_true(client_send_bytes(&client, body, 200000));
	client_send(&client, "\r\n0\r\n\r\n"
			     "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok");
	client_wait_for(&client, "\r\n\r\nok");
	assert_true(starts_with(client.text, "HTTP/1.1 413 "));
	client_close(&client);
	assert_int_equal(f->handled, 1);
}

static void a_file_of_five_mebibytes_arrives_byte_for_byte(void **state)
{
	struct fixture *f = *state;
	free_ char *form = NULL, *response = NULL, *chunked = NULL;
	uint32_t random = 12345;
	size_t length;
	char size[32];
	struct client client;

	f->expected_length = FILE_SIZE;
	f->expected = malloc(FILE_SIZE);
	for (size_t i = 0; i < FILE_SIZE; i++) {
		random = random * 1664525 + 1013904223;
		f->expected[i] = (char)(random >> 24);
	}
	/* What looks like the end, and is not. */
	memcpy(f->expected + 70000, "\r\n--XbX", 7);
	f->expected[70007] = 'Y';
	memcpy(f->expected + 100000, "\r\n--Xb\r\n--X\r\n--\r\r\n", 18);
	f->expected[70004] = 'x';
	form = make_form(f->expected, FILE_SIZE, &length);
	response = post_form(f, form, length);
	assert_true(starts_with(response, "HTTP/1.1 201 Created\r\n"));
	assert_string_equal(body_of(response),
			    "{\"note\":\"remember\",\"length\":8,\"file\":true}\n");
	assert_int_equal(f->admitted, 1);
	assert_int_equal(f->handled, 1);

	f->handled = 0;
	client = client_open(&f->lab);
	client_send(&client, "POST /form HTTP/1.1\r\nHost: x\r\n" FORM_TYPE
			     "Transfer-Encoding: chunked\r\n\r\n");
	(void)snprintf(size, sizeof(size), "%zx\r\n", length);
	client_send(&client, size);
	assert_true(client_send_bytes(&client, form, length));
	client_send(&client, "\r\n0\r\n\r\n");
	chunked = client_take_response(&client);
	assert_true(starts_with(chunked, "HTTP/1.1 201 Created\r\n"));
	client_close(&client);
}

static void parts_may_be_absent_or_empty(void **state)
{
	struct fixture *f = *state;
	static const char empty[] =
		"--XbX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n\r\n--XbX--\r\n";
	free_ char *none = post_form(f, "--XbX--\r\n", 9);
	free_ char *nothing = NULL;

	assert_string_equal(body_of(none), "{\"note\":null,\"length\":0,\"file\":false}\n");
	f->handled = 0;
	nothing = post_form(f, empty, strlen(empty));
	assert_true(starts_with(nothing, "HTTP/1.1 201 "));
}

static void a_form_that_is_wrong_is_refused_with_the_reason(void **state)
{
	static const struct {
		const char *form, *status, *text;
	} cases[] = {
		{ "--XbX\r\nContent-Disposition: form-data; name=\"nope\"\r\n\r\nx\r\n--XbX--\r\n",
		  "400", "unknown part 'nope'" },
		{ "--XbX\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XbX--\r\n", "400",
		  "a part without a name" },
		{ "--XbX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nx\r\n"
		  "--XbX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\ny\r\n--XbX--\r\n",
		  "400", "part 'note' stands in the form twice" },
		{ "--XbX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nx", "400",
		  "the form ends in the middle of a part" },
		{ "--XbX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nx\r\n--XbX--\r\n"
		  "--XbX\r\nmore",
		  "400", "the form is malformed" },
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		free_ char *response = post_form(f, cases[i].form, strlen(cases[i].form));

		if (strncmp(response + strlen("HTTP/1.1 "), cases[i].status, 3) != 0 ||
		    !strstr(response, cases[i].text))
			fail_msg("%s: %s", cases[i].text, response);
	}
	assert_int_equal(f->handled, 0);
}

static void what_is_no_form_is_refused(void **state)
{
	struct fixture *f = *state;
	free_ char *type = lab_ask(&f->lab, "POST /form HTTP/1.1\r\nHost: x\r\n"
					    "Content-Type: application/json\r\n"
					    "Content-Length: 2\r\n\r\n{}");
	free_ char *none = lab_ask(&f->lab, "POST /form HTTP/1.1\r\nHost: x\r\n\r\n");
	free_ char *boundary = lab_ask(&f->lab, "POST /form HTTP/1.1\r\nHost: x\r\n"
						"Content-Type: multipart/form-data\r\n"
						"Content-Length: 2\r\n\r\n{}");

	assert_true(starts_with(type, "HTTP/1.1 415 "));
	assert_non_null(strstr(type, "\r\nDut-Error: the body must be multipart/form-data\r\n"));
	assert_true(starts_with(none, "HTTP/1.1 415 "));
	assert_true(starts_with(boundary, "HTTP/1.1 400 "));
	assert_non_null(strstr(boundary, "the form has no boundary"));
}

static void a_part_over_its_limit_is_refused_with_its_name(void **state)
{
	struct fixture *f = *state;
	free_ char *big = calloc(1, MAX_FILE + 1), *form = NULL, *response = NULL, *note = NULL;
	char text[MAX_NOTE + 256];
	size_t length;

	/* The form as a whole is within what the route takes. */
	form = make_form(big, MAX_FILE + 1, &length);
	response = post_form(f, form, length);
	assert_true(starts_with(response, "HTTP/1.1 413 "));
	assert_non_null(strstr(response, "the file is larger than limits.file (6 MiB)"));

	length = (size_t)snprintf(text, sizeof(text),
				  "--XbX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n"
				  "%0*d\r\n--XbX--\r\n",
				  MAX_NOTE + 1, 0);
	note = post_form(f, text, length);
	assert_true(starts_with(note, "HTTP/1.1 413 "));
	assert_non_null(strstr(note, "the note is larger than limits.note (2000 bytes)"));
	assert_int_equal(f->handled, 0);
}

static void a_form_that_cannot_fit_is_refused_before_it_is_read(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	client_send(&client, "POST /form HTTP/1.1\r\nHost: x\r\n" FORM_TYPE
			     "Content-Length: 10000000000\r\n\r\n--XbX");
	client_wait_end(&client);
	assert_true(starts_with(client.text, "HTTP/1.1 413 "));
	assert_non_null(strstr(client.text, "a form of 10000000000 bytes is larger than limits.file"
					    " (6 MiB)"));
	client_close(&client);
}

static void a_full_disk_is_said(void **state)
{
	struct fixture *f = *state;
	free_ char *big = calloc(1, FILE_SIZE), *form = NULL, *response = NULL;
	struct rlimit old, tight;
	size_t length;

	/* A limit on file size fails a write at the same place as a full disk does. */
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight = (struct rlimit){ .rlim_cur = 1 << 20, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	form = make_form(big, FILE_SIZE, &length);
	response = post_form(f, form, length);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	(void)signal(SIGXFSZ, SIG_DFL);
	assert_true(starts_with(response, "HTTP/1.1 507 Insufficient Storage\r\n"));
	assert_non_null(strstr(response, "cannot store the upload: File too large"));
	assert_int_equal(f->handled, 0);
}

static void a_refusal_reaches_a_client_that_is_still_sending(void **state)
{
	struct fixture *f = *state;
	free_ char *big = calloc(1, FILE_SIZE), *form = NULL, *response = NULL, *missing = NULL;
	size_t length;

	f->refuse = true;
	form = make_form(big, FILE_SIZE, &length);
	response = post_form(f, form, length);
	assert_true(starts_with(response, "HTTP/1.1 403 Forbidden\r\n"));
	assert_int_equal(f->admitted, 1);
	assert_int_equal(f->handled, 0);
	missing = ask_bytes(f, "POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 5242880\r\n\r\n",
			    big, FILE_SIZE);
	assert_true(starts_with(missing, "HTTP/1.1 404 Not Found\r\n"));
}

static void a_client_that_waits_for_100_is_told_at_once(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);
	static const char headers[] = "POST /form HTTP/1.1\r\nHost: x\r\n" FORM_TYPE
				      "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n";

	client_send(&client, headers);
	client_wait_for(&client, "HTTP/1.1 100 Continue\r\n\r\n");
	client_send(&client, "--XbX--\r\n");
	client_wait_for(&client, "HTTP/1.1 201 Created\r\n");
	client_close(&client);

	f->handled = 0;
	f->refuse = true;
	client = client_open(&f->lab);
	client_send(&client, headers);
	client_wait_end(&client);
	assert_true(starts_with(client.text, "HTTP/1.1 403 Forbidden\r\n"));
	client_close(&client);
}

static void a_refused_body_is_read_up_to_a_bound(void **state)
{
	enum { CHUNK = 1 << 20 };
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);
	free_ char *chunk = calloc(1, CHUNK);
	size_t sent = 0;

	/* Nobody can know how long it will be; the answer comes all the same. */
	f->refuse = true;
	client_send(&client, "POST /form HTTP/1.1\r\nHost: x\r\n" FORM_TYPE
			     "Transfer-Encoding: chunked\r\n\r\n");
	while (client_send_bytes(&client, "100000\r\n", 8) &&
	       client_send_bytes(&client, chunk, CHUNK) && client_send_bytes(&client, "\r\n", 2))
		sent += CHUNK;
	assert_true(sent >= (64U << 20) - CHUNK && sent < (66U << 20));
	client_wait_end(&client);
	assert_true(starts_with(client.text, "HTTP/1.1 403 Refused\r\n"));
	assert_non_null(strstr(client.text, "\r\nDut-Error: not for you\r\n"));
	assert_non_null(strstr(client.text, "\r\n\r\n{\"error\":\"not for you\","));
	client_close(&client);
}

static void a_client_that_leaves_in_the_middle_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct client client = client_open(&f->lab);

	client_send(&client,
		    "POST /form HTTP/1.1\r\nHost: x\r\n" FORM_TYPE "Content-Length: 100000\r\n\r\n"
		    "--XbX\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nbytes");
	lab_settle(&f->lab);
	client_close(&client);
	lab_settle(&f->lab);
	assert_int_equal(f->handled, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_small_body_is_in_memory),
		TEST(a_body_over_the_limit_is_refused_with_its_name),
		TEST(a_file_of_five_mebibytes_arrives_byte_for_byte),
		TEST(parts_may_be_absent_or_empty),
		TEST(a_form_that_is_wrong_is_refused_with_the_reason),
		TEST(what_is_no_form_is_refused),
		TEST(a_part_over_its_limit_is_refused_with_its_name),
		TEST(a_form_that_cannot_fit_is_refused_before_it_is_read),
		TEST(a_full_disk_is_said),
		TEST(a_refusal_reaches_a_client_that_is_still_sending),
		TEST(a_client_that_waits_for_100_is_told_at_once),
		TEST(a_refused_body_is_read_up_to_a_bound),
		TEST(a_client_that_leaves_in_the_middle_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

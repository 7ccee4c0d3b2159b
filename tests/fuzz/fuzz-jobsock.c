/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/stream.h"
#include "executor/jobsock.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/http.h"

/* The bytes of a client of an executor's socket, while the job runs and at its end. */

enum { BASE = 1000 };

struct executor {
	struct stream *stream;
	unsigned cancels;
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
	struct executor *executor = data;

	(void)why;
	assert(by == getuid());
	executor->cancels++;
}

static struct stream *get_stream(void *data)
{
	const struct executor *executor = data;

	return executor->stream;
}

static struct jobsock *start(sd_event *event, struct executor *executor)
{
	struct jobsock_config config = {
		.event = event,
		.control_uid = getuid(),
		.job_dir_fd = fuzz_folder_fd(),
		.state = write_state,
		.cancel = on_cancel,
		.stream = get_stream,
		.data = executor,
	};
	struct jobsock *jobsock;

	assert(file_bind_socket(&config.listen_fd, fuzz_folder_fd(), "job.sock", SOCK_STREAM, 0600,
				NULL) == 0);
	assert(jobsock_new(&jobsock, &config, NULL) == 0);
	return jobsock;
}

static void ask(const uint8_t *data, size_t size, bool has_console)
{
	struct executor executor = { 0 };
	struct jobsock *jobsock;
	sd_event *event = NULL;

	assert(sd_event_new(&event) >= 0);
	fuzz_write("console.log", "login: ", 7);
	fuzz_write("console.idx", "", 0);
	fuzz_write("events.jsonl", "{\"seq\": 0}\n", 11);
	if (has_console)
		assert(stream_open(&executor.stream, fuzz_folder_fd(), "console", BASE, NULL) == 0);
	jobsock = start(event, &executor);
	fuzz_http(event, NULL, fuzz_folder_fd(), "job.sock", data, size);
	jobsock_end(jobsock);
	fuzz_settle(event);
	jobsock_free(jobsock);
	stream_close(executor.stream);
	sd_event_unref(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_begin();
	ask(data, size, true);
	ask(data, size, false);
	return 0;
}

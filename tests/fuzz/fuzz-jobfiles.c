/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stream.h"
#include "dut/history.h"
#include "executor/events.h"
#include "tests/fuzz/fuzz.h"

/*
 * A job's folder as a hostile or killed job leaves it: events.jsonl, console.idx and console.log
 * are continued by the next attempt, finished by dutd, and read by viewers.
 */

enum { BASE = 1000, LOG_MAX = 64 };

static void on_written(void *data)
{
	(void)data;
}

static void continue_events(void)
{
	static json_t *id;
	struct events_config config = { .dir_fd = fuzz_folder_fd(),
					.dut = "bbb-1",
					.written = on_written };
	struct events *events;

	if (!id)
		id = json_integer(17);
	config.job = id;
	assert(events_open(&events, &config, NULL) == 0);
	events_begin(events, 1);
	events_emit(events, "mark", json_pack("{s:s}", "kind", "x"), "what it %s", "says");
	events_close(events);
}

/* The bytes that its reader left in the pipe when it was killed. */
static uint64_t drain(void)
{
	uint64_t size = 0;
	int pipes[2];

	assert(pipe2(pipes, O_CLOEXEC | O_NONBLOCK) == 0);
	assert(write(pipes[1], "left over\n", 10) == 10);
	assert(stream_drain(pipes[0], fuzz_folder_fd(), "console", BASE, LOG_MAX, &size, NULL) ==
	       0);
	assert(size >= 10 && size <= LOG_MAX + 10);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	return size;
}

static void continue_stream(void)
{
	struct stream *stream;
	char buffer[100];

	assert(stream_open(&stream, fuzz_folder_fd(), "console", BASE, NULL) == 0);
	assert(stream_mark(stream, "boot", json_pack("{s:i}", "n", 2), NULL) == 0);
	assert(stream_offset(stream) >= BASE + 10);
	assert(stream_read(stream, BASE, buffer, sizeof(buffer), NULL) >= 10);
	stream_close(stream);
}

static void view(uint64_t size)
{
	struct history history = { .console_dir_fd = fuzz_folder_fd(),
				   .jobs_dir_fd = fuzz_folder_fd() };
	struct history_cursor cursor;
	uint64_t seen = 0;
	char buffer[16];
	ssize_t n;

	assert(history_scan(&history, NULL) == 0);
	assert(history_add(&history, BASE, 17, NULL) == 0);
	assert(history_add(&history, BASE + size, 0, NULL) == 0);
	assert(history_end(&history) == BASE + size);
	history_cursor_init(&cursor, history_clamp(&history, 0));
	while ((n = history_read(&history, &cursor, buffer, sizeof(buffer), NULL)) > 0)
		seen += (uint64_t)n;
	/* A job that wrote more than it was lent does not reach into what came after it. */
	assert(n == 0 && seen <= size);
	history_cursor_done(&cursor);
	history_done(&history);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "events.jsonl", "console.idx", "console.log",
					     "17/console.log" };
	struct fuzz_part rest = { data, size }, part;

	fuzz_begin();
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!fuzz_next_part(&rest, &part))
			part = (struct fuzz_part){ (const uint8_t *)"", 0 };
		fuzz_write(names[i], part.data, part.size);
	}
	continue_events();
	view(drain());
	continue_stream();
	return 0;
}

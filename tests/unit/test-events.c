/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "executor/events.h"

struct place {
	char path[64];
	int dir_fd;
	unsigned written;
};

static void count(void *data)
{
	struct place *place = data;

	place->written++;
}

static void make(struct place *place)
{
	*place = (struct place){ .path = "/tmp/test-events-XXXXXX" };
	assert_non_null(mkdtemp(place->path));
	place->dir_fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(place->dir_fd >= 0);
}

static void clean(struct place *place)
{
	(void)unlinkat(place->dir_fd, "events.jsonl", 0);
	place->dir_fd = close_fd(place->dir_fd);
	assert_int_equal(rmdir(place->path), 0);
}

static struct events *open_events(struct place *place)
{
	json_t *id = json_string("17"), *variables = json_pack("{s:s}", "A_TOKEN", "hunter2");
	const struct events_config config = {
		.dir_fd = place->dir_fd,
		.dut = "bbb-1",
		.job = id,
		.environ = variables,
		.written = count,
		.data = place,
	};
	struct events *events = NULL;
	struct error err;

	assert_int_equal(events_open(&events, &config, &err), 0);
	json_decref(id);
	json_decref(variables);
	return events;
}

/* The lines of events.jsonl as an array; each must be JSON by itself. */
static json_t *read_back(const struct place *place)
{
	int fd = openat(place->dir_fd, "events.jsonl", O_RDONLY | O_CLOEXEC);
	fclose_ FILE *file = fdopen(fd, "r");
	json_t *list = json_array();
	free_ char *line = NULL;
	size_t size = 0;

	assert_non_null(file);
	while (getline(&line, &size, file) > 0) {
		json_t *event = json_loads(line, 0, NULL);

		assert_non_null(event);
		(void)json_array_append_new(list, event);
	}
	return list;
}

static const char *get(json_t *list, size_t index, const char *key)
{
	return json_string_value(json_object_get(json_array_get(list, index), key));
}

static void every_event_says_what_when_and_where(void **state)
{
	struct place place;
	struct events *events;
	json_t *list, *event;

	(void)state;
	make(&place);
	events = open_events(&place);
	events_emit(events, "power", json_pack("{s:s}", "state", "OFF"), "power %s", "off");
	events_emit(events, "phase", NULL, "phase boot");
	assert_int_equal(place.written, 2);
	list = read_back(&place);
	assert_int_equal(json_array_size(list), 2);
	event = json_array_get(list, 0);
	assert_int_equal(json_integer_value(json_object_get(event, "seq")), 0);
	assert_true(json_real_value(json_object_get(event, "elapsed")) == 0);
	assert_string_equal(get(list, 0, "type"), "power");
	assert_string_equal(get(list, 0, "dut"), "bbb-1");
	assert_string_equal(get(list, 0, "job"), "17");
	assert_string_equal(get(list, 0, "state"), "OFF");
	assert_string_equal(get(list, 0, "text"), "power off");
	assert_non_null(get(list, 0, "time"));
	json_decref(list);
	(void)events_close(events);
	clean(&place);
}

static void a_second_attempt_goes_on_with_the_numbers(void **state)
{
	struct place place;
	struct events *events;
	json_t *list;
	int fd;

	(void)state;
	make(&place);
	events = open_events(&place);
	events_emit(events, "mark", NULL, "first");
	(void)events_close(events);
	fd = openat(place.dir_fd, "events.jsonl", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "{}", 2), 2); /* torn by a kill */
	(void)close_fd(fd);
	events = open_events(&place);
	events_emit(events, "mark", NULL, "second");
	(void)events_close(events);
	list = read_back(&place);
	assert_int_equal(json_array_size(list), 3);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 2), "seq")), 2);
	json_decref(list);
	clean(&place);
}

static void what_finds_no_room_leaves_no_trace_and_no_hole(void **state)
{
	struct rlimit old, tight;
	struct place place;
	struct events *events;
	struct stat status;
	unsigned told = 0;
	json_error_t error;
	FILE *file;

	(void)state;
	make(&place);
	events = open_events(&place);
	events_emit(events, "mark", NULL, "before");
	assert_int_equal(fstatat(place.dir_fd, "events.jsonl", &status, 0), 0);
	/* A limit on file size cuts a write at the same place as a full disk does. */
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight = (struct rlimit){ .rlim_cur = (rlim_t)status.st_size + 20,
				 .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	events_emit(events, "mark", NULL, "no room");
	events_emit(events, "mark", NULL, "no room");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	events_emit(events, "mark", NULL, "after");
	events_close(events);

	file = fdopen(openat(place.dir_fd, "events.jsonl", O_RDONLY | O_CLOEXEC), "r");
	assert_non_null(file);
	for (;; told++) {
		json_t *event = json_loadf(file, JSON_DISABLE_EOF_CHECK, &error);

		if (!event)
			break;
		assert_int_equal(json_integer_value(json_object_get(event, "seq")), told);
		assert_string_equal(json_string_value(json_object_get(event, "text")),
				    told == 0 ? "before" : "after");
		json_decref(event);
	}
	assert_int_equal(told, 2);
	assert_int_equal(place.written, 2);
	(void)fclose(file);
	clean(&place);
}

static void secrets_are_hidden_in_text_and_members(void **state)
{
	struct place place;
	struct events *events;
	json_t *list;

	(void)state;
	make(&place);
	events = open_events(&place);
	events_emit(events, "mark", json_pack("{s:s}", "url", "http://x/?t=hunter2"), "got %s",
		    "hunter2");
	list = read_back(&place);
	assert_string_equal(get(list, 0, "url"), "http://x/?t=***");
	assert_string_equal(get(list, 0, "text"), "got ***");
	json_decref(list);
	(void)events_close(events);
	clean(&place);
}

/* Many, or long: only the last word still comes. */
static void events_have_a_limit(void **state)
{
	static const off_t sizes[] = { EVENTS_MAX * 3, EVENTS_BYTES_MAX };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct place place;
		struct events *events;
		struct stat status;
		int fd;

		make(&place);
		fd = openat(place.dir_fd, "events.jsonl", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		for (unsigned n = 0; i == 0 && n < EVENTS_MAX; n++)
			assert_int_equal(write(fd, "{}\n", 3), 3);
		assert_int_equal(ftruncate(fd, sizes[i]), 0);
		assert_int_equal(pwrite(fd, "\n", 1, sizes[i] - 1), 1);
		events = open_events(&place);
		events_emit(events, "mark", NULL, "one too many");
		assert_int_equal(fstat(fd, &status), 0);
		assert_int_equal(status.st_size, sizes[i]);
		events_emit(events, "job_state", NULL, "the end");
		assert_int_equal(fstat(fd, &status), 0);
		assert_true(status.st_size > sizes[i]);
		(void)close(fd);
		(void)events_close(events);
		clean(&place);
	}
}

static void console_lines_become_bounded_printable_texts(void **state)
{
	struct place place;
	struct events *events;
	char bytes[3000];
	json_t *line;

	(void)state;
	make(&place);
	events = open_events(&place);
	line = events_line(events, "a\0\xff\x1b[1mhunter2", 14, EVENT_LINE_MAX);
	assert_string_equal(json_string_value(line), "a\\x00\\xff\\e[1m***");
	json_decref(line);
	memset(bytes, 'x', sizeof(bytes));
	line = events_line(events, bytes, sizeof(bytes), RESULT_LINE_MAX);
	assert_int_equal(json_string_length(line), RESULT_LINE_MAX);
	assert_string_equal(json_string_value(line) + RESULT_LINE_MAX - 3, "...");
	json_decref(line);
	(void)events_close(events);
	clean(&place);
}

static void a_text_that_is_no_utf8_is_told_all_the_same(void **state)
{
	struct place place;
	struct events *events;
	json_t *list;

	(void)state;
	make(&place);
	events = open_events(&place);
	events_emit(events, "mark", NULL, "caf\xc3\xa9");
	events_emit(events, "mark", NULL, "caf\xe9");
	list = read_back(&place);
	assert_string_equal(get(list, 0, "text"), "caf\xc3\xa9");
	assert_string_equal(get(list, 1, "text"), "caf\ufffd");
	json_decref(list);
	(void)events_close(events);
	clean(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_event_says_what_when_and_where),
		cmocka_unit_test(a_second_attempt_goes_on_with_the_numbers),
		cmocka_unit_test(what_finds_no_room_leaves_no_trace_and_no_hole),
		cmocka_unit_test(secrets_are_hidden_in_text_and_members),
		cmocka_unit_test(events_have_a_limit),
		cmocka_unit_test(console_lines_become_bounded_printable_texts),
		cmocka_unit_test(a_text_that_is_no_utf8_is_told_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

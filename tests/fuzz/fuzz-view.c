/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/lines.h"
#include "cli/table.h"
#include "cli/view.h"
#include "tests/fuzz/fuzz.h"

/* What a daemon answers, as the command line shows it: a line is one object. */

static void check_safe(const char *text)
{
	size_t length = strlen(text);

	/* The line feed at its end is ours. */
	if (length > 0 && text[length - 1] == '\n')
		length--;
	assert(text_is_printable(text, length));
}

static void tabulate(const char *text, FILE *sink)
{
	static const char *const header[] = { "ID", "NAME", NULL };
	struct table table;

	table_init(&table, header);
	table_add(&table, text);
	table_add(&table, NULL);
	assert(table_print(&table, sink, true) == 0);
	table_done(&table);
}

static void on_line(const char *line, size_t length, void *data)
{
	json_auto_t *object = json_loadb(line, length, 0, NULL);
	free_ char *event = view_event(object), *job = view_job_line(object);
	free_ char *holder = view_holder(object), *safe = NULL;
	char id[VIEW_ID_SIZE];

	assert(event && job && holder);
	check_safe(event);
	safe = say_safe(job);
	assert(safe);
	check_safe(safe);
	tabulate(holder, data);
	assert(strlen(view_id(id, object)) < sizeof(id));
	(void)view_dut(object);
	assert(view_job_exit(object, 0) < 8);
	(void)view_job_ended(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *sink;
	struct lines *lines;
	size_t half = size / 2;

	if (!sink)
		sink = fopen("/dev/null", "we");
	assert(sink && lines_new(&lines, NULL) == 0);
	assert(lines_add(lines, (const char *)data, half, on_line, sink) == 0);
	assert(lines_add(lines, (const char *)data + half, size - half, on_line, sink) == 0);
	assert(lines_add(lines, "\n", 1, on_line, sink) == 0);
	lines_free(lines);
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/text.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/view.h"

enum { PAGE = 1000, DEFAULT_LIMIT = 100 };

static const char *const header[] = { "TIME", "WHO",	"ROLE",	  "FROM", "DUT",
				      "JOB",  "ACTION", "DETAIL", NULL };

static char *page_path(const char *dut, uint64_t limit, uint64_t before)
{
	char count[24], last[24];

	(void)snprintf(count, sizeof(count), "%" PRIu64, limit < PAGE ? limit : PAGE);
	(void)snprintf(last, sizeof(last), "%" PRIu64, before);
	if (dut)
		return client_path("/history?limit=%s&before=%s&dut=%s", count, last, dut);
	return client_path("/history?limit=%s&before=%s", count, last);
}

/* Appends the pages, the youngest entry first, until there are limit or no more. */
static int ask_all(struct session *session, const char *dut, uint64_t limit, json_t *entries)
{
	uint64_t before = INT64_MAX;

	while (json_array_size(entries) < limit) {
		uint64_t left = limit - json_array_size(entries);
		json_t *answer = NULL, *page;
		size_t count;
		int code;

		if (!session_ask(session, "GET", page_path(dut, left, before), NULL,
				 CLIENT_ANSWER_TIMEOUT_S, &answer, &code))
			return code;
		page = json_object_get(answer, "history");
		count = json_array_size(page);
		if (count > 0)
			before = (uint64_t)json_integer_value(
				json_object_get(json_array_get(page, count - 1), "id"));
		(void)json_array_extend(entries, page);
		json_decref(answer);
		if (count == 0 || before <= 1)
			break;
	}
	return 0;
}

static void add_row(struct table *table, const json_t *entry)
{
	table_add(table, view_text(entry, "time"));
	table_add(table, view_text(entry, "who"));
	table_add(table, view_text(entry, "role"));
	table_add(table, view_text(entry, "from"));
	table_add(table, view_text(entry, "dut"));
	table_add(table, view_text(entry, "job"));
	table_add(table, view_text(entry, "action"));
	table_add(table, view_text(entry, "detail"));
}

/* The youngest last, as jobs has it. */
static int print_entries(const struct cli *cli, const json_t *entries)
{
	struct table table;
	int r = 0;

	table_init(&table, header);
	for (size_t i = json_array_size(entries); i-- > 0;) {
		if (cli->json)
			say_json(json_array_get(entries, i));
		else
			add_row(&table, json_array_get(entries, i));
	}
	if (!cli->json)
		r = table_print(&table, stdout, isatty(STDOUT_FILENO));
	table_done(&table);
	return r < 0 ? say_exit(EXIT_INTERNAL, "out of memory") : say_finish(0);
}

static int ask(const struct cli *cli, const char *dut, uint64_t limit)
{
	json_t *entries = json_array();
	struct session session;
	int code;

	if (session_open(&session, cli, &code)) {
		code = ask_all(&session, dut, limit, entries);
		if (code == 0)
			code = print_entries(cli, entries);
		session_done(&session);
	}
	json_decref(entries);
	return code;
}

static int history(struct cli *cli, int argc, char **argv)
{
	const char *limit_text = NULL;
	bool all = false;
	const struct option options[] = {
		{ "limit", "N", OPTION_TEXT, &limit_text, "the last N lines (100)" },
		{ "all", NULL, OPTION_FLAG, &all, "all that is kept" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	uint64_t limit = DEFAULT_LIMIT;
	struct error err;
	int code;

	if (options_parse(&verb_history, options, cli, 0, 1, &operands, argc, argv, &code)) {
		const char *dut = operands.count > 0 ? operands.items[0] : cli->board;

		if (limit_text && all)
			code = say_exit(EXIT_USAGE, "history: --limit or --all, not both");
		else if (limit_text && text_to_uint64(&limit, limit_text, 1, INT64_MAX, &err) < 0)
			code = say_exit(EXIT_USAGE, "history: --limit: %s", err.text);
		else
			code = ask(cli, dut, all ? UINT64_MAX : limit);
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_history = {
	.name = "history",
	.operands = "[DUT] [OPTION...]",
	.summary = "tells who did what with a DUT, or with all",
	.run = history,
};

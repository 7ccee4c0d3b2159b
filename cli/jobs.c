/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/view.h"

static const char *const header[] = { "ID",	"STATE",  "DUT",  "OWNER",
				      "STATUS", "REASON", "NAME", NULL };

/* When one of them waits. */
static const char *const header_with_place[] = { "ID",	   "STATE", "DUT",   "OWNER", "STATUS",
						 "REASON", "NAME",  "PLACE", NULL };

/* A job moves through the states in this order, so that none is missed between two questions. */
static const char *const unfinished[] = { "WAITING", "STARTING", "RUNNING" };

enum { PAGE = 500 };

struct entry {
	uint64_t id;
	size_t index; /* in the order of the answers */
	json_t *job;  /* borrowed from struct found */
};

struct found {
	struct entry *items;
	size_t count;
	json_t *answers; /* owns the jobs */
};

static int add(struct found *found, const json_t *answer, uint64_t *smallest)
{
	json_t *jobs = json_object_get(answer, "jobs"), *job;
	char id[VIEW_ID_SIZE];
	struct entry *items;
	size_t i;

	if (!json_is_array(jobs))
		return say_exit(EXIT_INTERNAL, "the daemon's answer is not what it should be");
	if (json_array_size(jobs) == 0)
		return 0;
	items = reallocarray(found->items, found->count + json_array_size(jobs), sizeof(*items));
	if (!items || json_array_append(found->answers, jobs) < 0)
		return say_exit(EXIT_INTERNAL, "out of memory");
	found->items = items;
	json_array_foreach(jobs, i, job) {
		struct entry *entry = &items[found->count];

		if (text_to_uint64(&entry->id, view_id(id, job), 1, UINT64_MAX, NULL) < 0)
			continue;
		entry->index = found->count;
		entry->job = job;
		found->count++;
		if (entry->id < *smallest)
			*smallest = entry->id;
	}
	return 0;
}

/* The path of a page: the jobs of a state (NULL: all) that are older than before. */
static char *page_path(const char *state, uint64_t before)
{
	char limit[24], last[24];

	(void)snprintf(limit, sizeof(limit), "%d", PAGE);
	(void)snprintf(last, sizeof(last), "%" PRIu64, before);
	if (state && before < UINT64_MAX)
		return client_path("/jobs?limit=%s&before=%s&state=%s", limit, last, state);
	if (state)
		return client_path("/jobs?limit=%s&state=%s", limit, state);
	if (before < UINT64_MAX)
		return client_path("/jobs?limit=%s&before=%s", limit, last);
	return client_path("/jobs?limit=%s", limit);
}

static int ask_all(struct session *session, const char *state, struct found *found)
{
	uint64_t smallest = UINT64_MAX, before;
	int code;

	do {
		json_t *answer = NULL;

		before = smallest;
		if (!session_ask(session, "GET", page_path(state, before), NULL,
				 CLIENT_ANSWER_TIMEOUT_S, &answer, &code))
			return code;
		code = add(found, answer, &smallest);
		json_decref(answer);
	} while (code == 0 && smallest < before);
	return code;
}

static int by_id(const void *a, const void *b)
{
	const struct entry *left = a, *right = b;

	if (left->id != right->id)
		return left->id < right->id ? -1 : 1;
	return left->index < right->index ? -1 : 1;
}

static bool has_place(const json_t *job)
{
	return json_is_integer(json_object_get(job, "place"));
}

static bool any_has_place(const struct found *found)
{
	for (size_t i = 0; i < found->count; i++)
		if (has_place(found->items[i].job))
			return true;
	return false;
}

static void add_row(struct table *table, const json_t *job, bool with_place)
{
	const json_t *place = json_object_get(job, "place");
	char id[VIEW_ID_SIZE], number[24] = "";

	if (has_place(job))
		(void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
			       json_integer_value(place));
	table_add(table, view_id(id, job));
	table_add(table, view_text(job, "state"));
	table_add(table, view_text(job, "dut"));
	table_add(table, view_text(job, "owner"));
	table_add(table, view_text(job, "status"));
	table_add(table, view_text(job, "reason"));
	table_add(table, view_text(job, "name"));
	if (with_place)
		table_add(table, number);
}

static int print_jobs(const struct cli *cli, struct found *found)
{
	bool with_place = any_has_place(found);
	struct table table;
	int r = 0;

	table_init(&table, with_place ? header_with_place : header);
	if (found->count > 0)
		qsort(found->items, found->count, sizeof(*found->items), by_id);
	for (size_t i = 0; i < found->count; i++) {
		/* The later answer, of a job that changed its state meanwhile. */
		if (i + 1 < found->count && found->items[i].id == found->items[i + 1].id)
			continue;
		if (cli->json)
			say_json(found->items[i].job);
		else
			add_row(&table, found->items[i].job, with_place);
	}
	if (!cli->json)
		r = table_print(&table, stdout, isatty(STDOUT_FILENO));
	table_done(&table);
	return r < 0 ? say_exit(EXIT_INTERNAL, "out of memory") : say_finish(0);
}

static int ask(struct cli *cli, const char *const *states, size_t n)
{
	struct found found = { .answers = json_array() };
	struct session session;
	int code;

	if (session_open(&session, cli, &code)) {
		code = 0;
		for (size_t i = 0; i < n && code == 0; i++)
			code = ask_all(&session, states[i], &found);
		if (code == 0)
			code = print_jobs(cli, &found);
		session_done(&session);
	}
	free(found.items);
	json_decref(found.answers);
	return code;
}

/* ---- all of them, which may be many: page by page, the oldest first ---- */

struct pages {
	const struct cli *cli;
	const char *state; /* or NULL: all of them */
	bool with_place;   /* who waits has one */
	bool is_first;	   /* nothing was printed yet */
	uint64_t last;	   /* id that was printed */
};

static int print_page(struct pages *pages, const json_t *jobs)
{
	char id[VIEW_ID_SIZE];
	struct table table;
	const json_t *job;
	uint64_t number;
	size_t i;
	int r = 0;

	table_init(&table, pages->with_place ? header_with_place : header);
	json_array_foreach(jobs, i, job) {
		/* One that is not in order was there already. */
		if (text_to_uint64(&number, view_id(id, job), pages->last + 1, UINT64_MAX, NULL) <
		    0)
			continue;
		pages->last = number;
		if (pages->cli->json)
			say_json(job);
		else
			add_row(&table, job, pages->with_place);
	}
	if (!pages->cli->json)
		r = table_print_part(&table, stdout, isatty(STDOUT_FILENO), pages->is_first);
	pages->is_first = false;
	table_done(&table);
	return r < 0 ? say_exit(EXIT_INTERNAL, "out of memory") : 0;
}

static char *ascending_path(const char *state, uint64_t after)
{
	char limit[24], last[24];

	(void)snprintf(limit, sizeof(limit), "%d", PAGE);
	(void)snprintf(last, sizeof(last), "%" PRIu64, after);
	if (state)
		return client_path("/jobs?limit=%s&after=%s&state=%s", limit, last, state);
	return client_path("/jobs?limit=%s&after=%s", limit, last);
}

static int stream_pages(struct pages *pages, struct session *session)
{
	uint64_t before;
	int code;

	do {
		json_auto_t *answer = NULL;
		const json_t *jobs;

		before = pages->last;
		if (!session_ask(session, "GET", ascending_path(pages->state, before), NULL,
				 CLIENT_ANSWER_TIMEOUT_S, &answer, &code))
			return code;
		jobs = json_object_get(answer, "jobs");
		if (!json_is_array(jobs))
			return say_exit(EXIT_INTERNAL,
					"the daemon's answer is not what it should be");
		code = print_page(pages, jobs);
		/* Whoever reads may have left, as head(1) does. */
	} while (code == 0 && pages->last > before && !ferror(stdout));
	return code == 0 ? say_finish(0) : code;
}

static int stream(struct cli *cli, const char *state)
{
	struct pages pages = {
		.cli = cli,
		.state = state,
		.with_place = state && strcmp(state, "WAITING") == 0,
		.is_first = true,
	};
	struct session session;
	int code;

	if (!session_open(&session, cli, &code))
		return code;
	code = stream_pages(&pages, &session);
	session_done(&session);
	return code;
}

static bool state_is_known(const char *state)
{
	static const char *const known[] = { "WAITING", "STARTING", "RUNNING", "ENDED" };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(state, known[i]) == 0)
			return true;
	return false;
}

static int jobs(struct cli *cli, int argc, char **argv)
{
	const char *state = NULL;
	bool all = false;
	const struct option options[] = {
		{ "all", NULL, OPTION_FLAG, &all, "also those that have ended" },
		{ "state", "STATE", OPTION_TEXT, &state, "WAITING, STARTING, RUNNING or ENDED" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_jobs, options, cli, 0, 0, &operands, argc, argv, &code)) {
		if (state && !state_is_known(state))
			code = say_exit(EXIT_USAGE,
					"jobs: --state '%.60s' is not WAITING, STARTING, RUNNING "
					"or ENDED",
					state);
		else if (state && all)
			code = say_exit(EXIT_USAGE, "jobs: --all or --state, not both");
		else
			code = state || all ? stream(cli, state)
					    : ask(cli, unfinished, ARRAY_SIZE(unfinished));
	}
	option_list_done(&operands);
	return code;
}

const struct verb verb_jobs = {
	.name = "jobs",
	.operands = "[OPTION...]",
	.summary = "lists the jobs that have not ended",
	.run = jobs,
};

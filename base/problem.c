/* SPDX-License-Identifier: MIT */
#include "base/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "base/yaml.h"

enum { MAX_TEXT = 1000 };

static void problem_done(struct problem *problem)
{
	free(problem->file);
	free(problem->text);
	free(problem->key);
}

void problems_done(struct problems *problems)
{
	for (size_t i = 0; i < problems->count; i++)
		problem_done(&problems->items[i]);
	free(problems->items);
	*problems = (struct problems){ 0 };
}

/* A copy that may go to a terminal or into one line of a log: texts hold words of the input. */
static char *copy_printable(const char *text)
{
	size_t length = strlen(text);
	char *copy;

	if (length < MAX_TEXT && text_is_printable(text, length))
		return strdup(text);
	copy = malloc(MAX_TEXT);
	if (copy)
		(void)text_escape(copy, MAX_TEXT, text, length);
	return copy;
}

printf_(6, 0) static void add(struct problems *problems, const char *file, unsigned line,
			      unsigned column, const char *key, const char *format,
			      va_list arguments)
{
	struct problem problem = { .line = line, .column = column };
	struct problem *items;
	free_ char *text = NULL;

	if (problems->count == PROBLEMS_MAX) {
		problems->lost++;
		return;
	}
	items = realloc(problems->items, (problems->count + 1) * sizeof(*items));
	if (items)
		problems->items = items;
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	if (items && text) {
		problem.file = file ? strdup(file) : NULL;
		problem.text = copy_printable(text);
		problem.key = key ? copy_printable(key) : NULL;
		if (problem.text && (problem.file || !file) && (problem.key || !key)) {
			items[problems->count++] = problem;
			return;
		}
		problem_done(&problem);
	}
	problems->lost++;
}

void problems_add(struct problems *problems, const char *file, unsigned line, unsigned column,
		  const char *key, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(problems, file, line, column, key, format, arguments);
	va_end(arguments);
}

void problems_add_at(struct problems *problems, const struct yaml_node *node, const char *key,
		     const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(problems, node->file, node->line, node->column, key, format, arguments);
	va_end(arguments);
}

static int compare_places(const struct problem *a, const struct problem *b)
{
	int order = strcmp(a->file ? a->file : "", b->file ? b->file : "");

	if (order != 0)
		return order;
	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	if (a->column != b->column)
		return a->column < b->column ? -1 : 1;
	return 0;
}

/* Whether one of those before says the same of the same place. */
static bool is_repeated(const struct problem *items, size_t at)
{
	for (size_t i = at; i > 0 && compare_places(&items[i - 1], &items[at]) == 0; i--)
		if (strcmp(items[i - 1].text, items[at].text) == 0)
			return true;
	return false;
}

void problems_sort(struct problems *problems)
{
	struct problem *items = problems->items;
	size_t kept = 0;

	/* By insertion: there are at most PROBLEMS_MAX, and those at one place keep their order. */
	for (size_t i = 1; i < problems->count; i++) {
		struct problem problem = items[i];
		size_t at = i;

		for (; at > 0 && compare_places(&items[at - 1], &problem) > 0; at--)
			items[at] = items[at - 1];
		items[at] = problem;
	}
	for (size_t i = 0; i < problems->count; i++) {
		items[kept] = items[i];
		if (is_repeated(items, kept))
			problem_done(&items[kept]);
		else
			kept++;
	}
	problems->count = kept;
}

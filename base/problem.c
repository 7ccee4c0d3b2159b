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

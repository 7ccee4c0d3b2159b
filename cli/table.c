/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/table.h"

void table_init(struct table *table, const char *const *header)
{
	*table = (struct table){ .header = header };
	while (header[table->columns])
		table->columns++;
	assert(table->columns <= TABLE_COLUMNS_MAX);
}

void table_done(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){ 0 };
}

void table_add(struct table *table, const char *text)
{
	char **cells = reallocarray(table->cells, table->count + 1, sizeof(*cells));

	if (!cells) {
		table->failed = true;
		return;
	}
	table->cells = cells;
	cells[table->count] = say_safe(text ? text : "");
	if (cells[table->count])
		table->count++;
	else
		table->failed = true;
}

/* In characters, not bytes: the rest of a UTF-8 sequence takes no column. */
static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		if ((*text & 0xc0) != 0x80)
			n++;
	return n;
}

static void print_row(const struct table *table, const char *const *cells, const size_t *widths,
		      FILE *out)
{
	size_t last = table->columns;

	/* No blanks at the end of a line. */
	while (widths && last > 1 && !*cells[last - 1])
		last--;
	for (size_t i = 0; i < last; i++) {
		(void)fputs(cells[i], out);
		if (i + 1 == last)
			break;
		if (widths)
			(void)fprintf(out, "%*s", (int)(widths[i] - width(cells[i]) + 2), "");
		else
			(void)fputc('\t', out);
	}
	(void)fputc('\n', out);
}

int table_print_part(const struct table *table, FILE *out, bool for_people, bool is_first)
{
	size_t widths[TABLE_COLUMNS_MAX] = { 0 };

	if (table->failed || table->count % table->columns != 0)
		return -ENOMEM;
	for (size_t i = 0; i < table->columns; i++)
		widths[i] = width(table->header[i]);
	for (size_t i = 0; i < table->count; i++)
		if (width(table->cells[i]) > widths[i % table->columns])
			widths[i % table->columns] = width(table->cells[i]);

	if (for_people && is_first)
		print_row(table, table->header, widths, out);
	for (size_t i = 0; i < table->count; i += table->columns)
		print_row(table, (const char *const *)table->cells + i, for_people ? widths : NULL,
			  out);
	return 0;
}

int table_print(const struct table *table, FILE *out, bool for_people)
{
	return table_print_part(table, out, for_people, true);
}

/* SPDX-License-Identifier: MIT */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/text.h"

enum { MAX_LINE = 1024 };

static struct {
	int level;
	log_sink_fn sink;
	void *data;
	int to_journal; /* -1: not looked up yet */
} log_state = { .level = LOG_INFO, .to_journal = -1 };

void log_set_level(int level)
{
	log_state.level = level;
}

void log_set_sink(log_sink_fn fn, void *data)
{
	log_state.sink = fn;
	log_state.data = data;
}

/* systemd puts device:inode of the journal's socket into JOURNAL_STREAM; see systemd.exec(5). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat status;
	char own[64];

	if (log_state.to_journal < 0) {
		log_state.to_journal = 0;
		if (stream && fstat(STDERR_FILENO, &status) == 0) {
			(void)snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)status.st_dev,
				       (uintmax_t)status.st_ino);
			log_state.to_journal = strcmp(own, stream) == 0;
		}
	}
	return log_state.to_journal;
}

static void write_line(int level, const char *board, uint64_t job, const char *text)
{
	char line[MAX_LINE + 192];
	size_t used = 0;

	if (!isatty(STDERR_FILENO))
		used += (size_t)snprintf(line + used, sizeof(line) - used, "<%d>", level);
	if (board)
		used += (size_t)snprintf(line + used, sizeof(line) - used, "%.64s: ", board);
	if (job)
		used += (size_t)snprintf(line + used, sizeof(line) - used, "job %" PRIu64 ": ",
					 job);
	used += (size_t)snprintf(line + used, sizeof(line) - used, "%s\n", text);
	/* One write(), so that lines of several processes on one pipe do not mix. */
	if (write(STDERR_FILENO, line, used) < 0)
		return;
}

static void write_journal(int level, const char *board, uint64_t job, const char *text)
{
	char number[24] = "";

	if (job)
		(void)snprintf(number, sizeof(number), "%" PRIu64, job);
	(void)sd_journal_send("PRIORITY=%d", level, "MESSAGE=%s%s%s", board ? board : "",
			      board ? ": " : "", text, "BOARD=%s", board ? board : "", "JOB=%s",
			      number, NULL);
}

printf_(4, 0) static void log_line(int level, const char *board, uint64_t job, const char *format,
				   va_list arguments)
{
	char raw[MAX_LINE / 2];
	char text[MAX_LINE];

	if (level > log_state.level)
		return;

	(void)vsnprintf(raw, sizeof(raw), format, arguments);
	(void)text_show(text, sizeof(text), raw);
	if (log_state.sink)
		log_state.sink(level, board, job, text, log_state.data);
	else if (stderr_is_journal())
		write_journal(level, board, job, text);
	else
		write_line(level, board, job, text);
}

void log_msg(int level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_line(level, NULL, 0, format, arguments);
	va_end(arguments);
}

void log_board(const char *board, int level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_line(level, board, 0, format, arguments);
	va_end(arguments);
}

void log_job(const char *board, uint64_t job, int level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_line(level, board, job, format, arguments);
	va_end(arguments);
}

/* SPDX-License-Identifier: MIT */
#include "dut/words.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

enum {
	MAX_LINE = 400,	    /* bytes; what is longer goes on in the next line */
	MAX_LINES = 60,	    /* in a minute */
	MAX_LAST_READS = 16 /* at the end: a pipe's worth */
};

static const uint64_t MINUTE_US = UINT64_C(60) * 1000000;

struct words {
	struct words_config config;
	char board[80];
	int fd;
	sd_event_source *source;
	char line[MAX_LINE + 1];
	size_t length;
	uint64_t minute_us; /* CLOCK_BOOTTIME, when it began */
	unsigned lines, dropped;
};

int words_pipe(int *ret_read_fd, int *ret_write_fd, struct error *err)
{
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_errno(err, "pipe");
	*ret_read_fd = pipes[0];
	*ret_write_fd = pipes[1];
	return 0;
}

static void show(const struct words *words, int level, const char *text)
{
	const struct words_config *config = &words->config;

	if (config->job > 0)
		log_job(words->board, config->job, level, "%s: %s", config->who, text);
	else
		log_msg(level, "%s: %s", config->who, text);
}

static void tell_dropped(struct words *words)
{
	char text[64];

	if (words->dropped == 0)
		return;
	(void)snprintf(text, sizeof(text), "%u more lines are not shown", words->dropped);
	show(words, LOG_WARNING, text);
	words->dropped = 0;
}

static bool is_too_much(struct words *words)
{
	uint64_t now_us = clock_now_us();

	if (now_us - words->minute_us >= MINUTE_US) {
		tell_dropped(words);
		words->minute_us = now_us;
		words->lines = 0;
	}
	return words->lines++ >= MAX_LINES;
}

/* Our own programs begin a line with its level, as sd-daemon(3) has it, and with DUT and job, which
 * the log says by itself. */
static const char *take_prefixes(const struct words *words, int *level)
{
	const char *text = words->line;
	char prefix[128];

	if (text[0] == '<' && text[1] >= '0' && text[1] <= '7' && text[2] == '>') {
		*level = text[1] - '0' < LOG_ERR ? LOG_ERR : text[1] - '0';
		text += 3;
	}
	(void)snprintf(prefix, sizeof(prefix), "%.64s: job %" PRIu64 ": ", words->board,
		       words->config.job);
	return strncmp(text, prefix, strlen(prefix)) == 0 ? text + strlen(prefix) : text;
}

static void end_line(struct words *words)
{
	int level = LOG_WARNING; /* who says something without a level is in trouble */
	const char *text;

	if (words->length == 0)
		return;
	words->line[words->length] = '\0';
	words->length = 0;
	text = take_prefixes(words, &level);
	if (is_too_much(words))
		words->dropped++;
	else
		show(words, level, text);
}

static void take_byte(struct words *words, char byte)
{
	if (byte == '\n') {
		end_line(words);
		return;
	}
	words->line[words->length++] = (char)(byte ? byte : ' ');
	if (words->length == MAX_LINE)
		end_line(words);
}

/* What one read() brings: a process that never stops talking delays nobody. False at the end. */
static bool read_some(struct words *words)
{
	char buffer[4096];
	ssize_t n = read(words->fd, buffer, sizeof(buffer));

	for (ssize_t i = 0; i < n; i++)
		take_byte(words, buffer[i]);
	return n > 0 || (n < 0 && errno == EINTR);
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *data)
{
	(void)fd;
	/* All writers are gone. */
	if (!read_some(data) && (events & EPOLLHUP))
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

struct words *words_free(struct words *words)
{
	if (!words)
		return NULL;
	for (unsigned i = 0; i < MAX_LAST_READS && read_some(words); i++)
		;
	end_line(words);
	tell_dropped(words);
	sd_event_source_disable_unref(words->source);
	(void)close_fd(words->fd);
	free(words);
	return NULL;
}

int words_new(struct words **ret, const struct words_config *config, int read_fd, struct error *err)
{
	struct words *words = calloc(1, sizeof(*words));
	int r;

	if (!words) {
		(void)close_fd(read_fd);
		return error_oom(err);
	}
	words->config = *config;
	(void)snprintf(words->board, sizeof(words->board), "%s",
		       config->board ? config->board : "");
	words->fd = read_fd;
	r = sd_event_add_io(config->event, &words->source, read_fd, EPOLLIN, on_readable, words);
	if (r < 0) {
		words_free(words);
		return error_code(err, r, "cannot watch what a process says");
	}
	(void)sd_event_source_set_description(words->source, "words");
	/* After what decides: what it says is read when there is time. */
	(void)sd_event_source_set_priority(words->source, SD_EVENT_PRIORITY_IDLE);
	*ret = words;
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "hw/sim-script.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

enum { MAX_SCRIPT = 1 << 20, MAX_PRINT = 4 << 20, MAX_LINES = 1000, MAX_WORDS = 8 };

/* A word of a line; a text in quotes may hold anything. */
struct word {
	char *text;
	size_t length;
	bool quoted;
};

struct reader {
	struct sim_script *script;
	const char *path;
	unsigned boot;
	struct word words[MAX_WORDS];
	size_t count, at;
};

void sim_script_done(struct sim_script *script)
{
	for (size_t i = 0; i < script->count; i++) {
		free(script->lines[i].trigger);
		free(script->lines[i].text);
	}
	free(script->lines);
	for (size_t i = 0; i < SIM_VERBS; i++)
		free(script->fail[i]);
	*script = (struct sim_script){ 0 };
}

static void drop_words(struct reader *reader)
{
	for (size_t i = 0; i < reader->count; i++)
		free(reader->words[i].text);
	reader->count = reader->at = 0;
}

/* ---- words ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* One escape after the backslash at *at, which moves behind it. */
static int read_escape(const char **at, const char *end, char *ret, struct error *err)
{
	static const char names[] = "rnte0\\\"", values[] = "\r\n\t\x1b\0\\\"";
	const char *found;

	if (*at >= end)
		return error_set(err, -EINVAL, "a backslash at the end of the line");
	if (**at == 'x') {
		int high = *at + 2 < end ? hex_digit((*at)[1]) : -1;
		int low = *at + 2 < end ? hex_digit((*at)[2]) : -1;

		if (high < 0 || low < 0)
			return error_set(err, -EINVAL, "\\x needs two hex digits");
		*ret = (char)(high * 16 + low);
		*at += 3;
		return 0;
	}
	found = strchr(names, **at);
	if (!found || !**at)
		return error_set(err, -EINVAL, "unknown escape \\%c", **at);
	*ret = values[found - names];
	(*at)++;
	return 0;
}

static int read_quoted(const char **at, const char *end, struct word *word, struct error *err)
{
	for ((*at)++; *at < end && **at != '"';) {
		char c = *(*at)++;
		int r = c == '\\' ? read_escape(at, end, &c, err) : 0;

		if (r < 0)
			return r;
		word->text[word->length++] = c;
	}
	if (*at >= end)
		return error_set(err, -EINVAL, "a text without closing quote");
	(*at)++;
	return 0;
}

static int split_words(struct reader *reader, const char *at, const char *end, struct error *err)
{
	for (;;) {
		struct word *word = &reader->words[reader->count];
		int r = 0;

		while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
			at++;
		if (at >= end || *at == '#')
			return 0;
		if (reader->count == MAX_WORDS)
			return error_set(err, -EINVAL, "too many words");
		*word = (struct word){ .text = malloc((size_t)(end - at) + 1),
				       .quoted = *at == '"' };
		if (!word->text)
			return error_oom(err);
		reader->count++;
		if (word->quoted)
			r = read_quoted(&at, end, word, err);
		else
			while (at < end && *at != ' ' && *at != '\t' && *at != '\r')
				word->text[word->length++] = *at++;
		word->text[word->length] = '\0';
		if (r < 0)
			return r;
	}
}

static struct word *next_word(struct reader *reader)
{
	return reader->at < reader->count ? &reader->words[reader->at++] : NULL;
}

/* The next word must be one of these; its index. */
static int next_of(struct reader *reader, const char *const *known, const char *what,
		   struct error *err)
{
	const struct word *word = next_word(reader);

	for (int i = 0; word && !word->quoted && known[i]; i++)
		if (strcmp(word->text, known[i]) == 0)
			return i;
	return error_set(err, -EINVAL, "%s expected%s%s%s", what, word ? ", not '" : "",
			 word ? word->text : "", word ? "'" : "");
}

static int next_time(struct reader *reader, uint64_t *ret_us, struct error *err)
{
	const struct word *word = next_word(reader);

	if (!word)
		return error_set(err, -EINVAL, "a time expected");
	return text_to_duration_us(ret_us, word->text, err);
}

/* The next word must be a text in quotes, which is taken. */
static int next_text(struct reader *reader, char **ret, size_t *ret_length, struct error *err)
{
	struct word *word = next_word(reader);

	if (!word || !word->quoted || word->length == 0)
		return error_set(err, -EINVAL, "a text in quotes expected");
	*ret = word->text;
	*ret_length = word->length;
	word->text = NULL;
	return 0;
}

/* ---- actions ---- */

static int read_print(struct reader *reader, struct sim_line *line, struct error *err)
{
	const struct word *word = next_word(reader);
	const char *slash = strrchr(reader->path, '/');
	free_ char *path = NULL;
	close_ int fd = -1;
	int r;

	if (!word)
		return error_set(err, -EINVAL, "the name of a file expected");
	if (asprintf(&path, "%.*s%s", slash ? (int)(slash - reader->path + 1) : 0, reader->path,
		     word->text) < 0) {
		path = NULL;
		return error_oom(err);
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, "%s", path);
	line->action = SIM_SEND;
	r = file_read_fd(&line->text, &line->length, fd, MAX_PRINT, err);
	return r < 0 ? error_prefix(err, r, "%s", path) : 0;
}

static int read_flood(struct reader *reader, struct sim_line *line, struct error *err)
{
	static const char *const words[] = { "for", NULL };
	const struct word *word = next_word(reader);
	int r = 0;

	line->action = SIM_FLOOD;
	line->rate = line->for_us = UINT64_MAX;
	if (!word)
		return error_set(err, -EINVAL, "bytes a second expected, or max");
	if (strcmp(word->text, "max") != 0)
		r = text_to_uint64(&line->rate, word->text, 1, UINT32_MAX, err);
	if (r < 0 || reader->at == reader->count)
		return r;
	r = next_of(reader, words, "'for'", err);
	return r < 0 ? r : next_time(reader, &line->for_us, err);
}

static int read_action(struct reader *reader, struct sim_line *line, struct error *err)
{
	static const char *const names[] = { "silent", "crash", "reboot", "poweroff",
					     "send",   "print", "flood",  NULL };
	static const enum sim_action plain[] = { SIM_SILENT, SIM_CRASH, SIM_REBOOT, SIM_POWEROFF };
	int which = next_of(reader, names, "send, print, flood, silent, crash, reboot or poweroff",
			    err);

	if (which < 0)
		return which;
	if (which < (int)ARRAY_SIZE(plain)) {
		line->action = plain[which];
		return 0;
	}
	if (which == 4) {
		line->action = SIM_SEND;
		return next_text(reader, &line->text, &line->length, err);
	}
	return which == 5 ? read_print(reader, line, err) : read_flood(reader, line, err);
}

/* ---- lines ---- */

static int read_timed(struct reader *reader, enum sim_when when, struct error *err)
{
	struct sim_script *script = reader->script;
	struct sim_line *line;
	int r;

	if (script->count == MAX_LINES)
		return error_set(err, -E2BIG, "more than %d lines", MAX_LINES);
	line = reallocarray(script->lines, script->count + 1, sizeof(*line));
	if (!line)
		return error_oom(err);
	script->lines = line;
	line += script->count++;
	*line = (struct sim_line){ .when = when, .boot = reader->boot };
	if (when == SIM_ON)
		r = next_text(reader, &line->trigger, &line->trigger_length, err);
	else
		r = next_time(reader, &line->time_us, err);
	if (r >= 0 && when == SIM_EVERY && line->time_us == 0)
		r = error_set(err, -EINVAL, "every needs a time above 0");
	if (r >= 0 && line->trigger_length > SIM_TRIGGER_MAX)
		r = error_set(err, -EINVAL, "a text to wait for has at most %d bytes",
			      SIM_TRIGGER_MAX);
	return r < 0 ? r : read_action(reader, line, err);
}

static int read_boot(struct reader *reader, struct error *err)
{
	const struct word *word = next_word(reader);
	uint64_t number = 0;
	int r = 0;

	if (!word)
		return error_set(err, -EINVAL, "a number expected, or any");
	if (strcmp(word->text, "any") != 0)
		r = text_to_uint64(&number, word->text, 1, 1000000, err);
	reader->boot = (unsigned)number;
	return r;
}

static int read_ignore(struct reader *reader, struct error *err)
{
	static const char *const words[] = { "off", NULL };
	const struct word *word;
	uint64_t times;
	int r;

	r = next_of(reader, words, "'off'", err);
	if (r < 0)
		return r;
	reader->script->ignore_off = UINT_MAX;
	word = next_word(reader);
	if (!word)
		return 0;
	r = text_to_uint64(&times, word->text, 1, 1000000, err);
	if (r >= 0)
		reader->script->ignore_off = (unsigned)times;
	return r;
}

static int read_line(struct reader *reader, struct error *err)
{
	static const char *const names[] = { "at",  "every", "on",   "boot", "ignore",
					     "lie", "delay", "fail", NULL };
	static const char *const verbs[] = { "on", "off", "read", NULL };
	static const char *const states[] = { "off", "on", NULL };
	struct sim_script *script = reader->script;
	size_t length;
	int verb, which = next_of(reader, names, "at, every, on, boot, ignore, lie, delay or fail",
				  err);

	switch (which) {
	case 0:
	case 1:
	case 2:
		return read_timed(reader, (enum sim_when)which, err);
	case 3:
		return read_boot(reader, err);
	case 4:
		return read_ignore(reader, err);
	case 5:
		script->lie = next_of(reader, states, "on or off", err);
		return script->lie;
	case 6:
		verb = next_of(reader, verbs, "on, off or read", err);
		return verb < 0 ? verb : next_time(reader, &script->delay_us[verb], err);
	case 7:
		verb = next_of(reader, verbs, "on, off or read", err);
		if (verb < 0)
			return verb;
		free(script->fail[verb]);
		script->fail[verb] = NULL;
		return next_text(reader, &script->fail[verb], &length, err);
	default:
		return which;
	}
}

static int read_script(struct reader *reader, const char *text, size_t length, struct error *err)
{
	const char *stop = text + length;
	unsigned number = 0;

	for (const char *at = text; at < stop;) {
		const char *newline = memchr(at, '\n', (size_t)(stop - at));
		const char *end = newline ? newline : stop;
		int r;

		number++;
		r = memchr(at, '\0', (size_t)(end - at))
			    ? error_set(err, -EINVAL, "a NUL character; write it as \\0")
			    : split_words(reader, at, end, err);
		if (r >= 0 && reader->count > 0)
			r = read_line(reader, err);
		if (r >= 0 && reader->at < reader->count)
			r = error_set(err, -EINVAL, "'%s' is one word too many",
				      reader->words[reader->at].text);
		drop_words(reader);
		if (r < 0)
			return error_prefix(err, r, "%s:%u", reader->path, number);
		at = newline ? newline + 1 : stop;
	}
	return 0;
}

int sim_script_load(struct sim_script *script, const char *path, struct error *err)
{
	struct reader reader = { .script = script, .path = path };
	free_ char *text = NULL;
	close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length;
	int r;

	*script = (struct sim_script){ .lie = -1 };
	if (fd < 0)
		return error_errno(err, "%s", path);
	r = file_read_fd(&text, &length, fd, MAX_SCRIPT, err);
	if (r < 0)
		return error_prefix(err, r, "%s", path);
	r = read_script(&reader, text, length, err);
	if (r < 0)
		sim_script_done(script);
	return r;
}

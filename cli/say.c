/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/protocol.h"
#include "base/text.h"
#include "cli/cli.h"

enum { STUCK_MS = 2000 };

int exit_from_http(unsigned status)
{
	switch (status) {
	case 401:
	case 403:
		return EXIT_NOT_PERMITTED;
	case 404:
	case 406:
	case 410:
		return EXIT_NOT_FOUND;
	case 409:
	case 429:
		return EXIT_BUSY;
	case 502:
	case 503:
	case 504:
	case 507:
		return EXIT_LAB;
	default:
		return status >= 400 && status < 500 ? EXIT_DATA : EXIT_INTERNAL;
	}
}

int exit_parse_ok(unsigned *ret_mask, const char *text, struct error *err)
{
	unsigned mask = 0;
	char word[32];

	for (;;) {
		size_t length = strcspn(text, ",");
		int r = -EINVAL;

		if (length < sizeof(word)) {
			memcpy(word, text, length);
			word[length] = '\0';
			r = job_status_from_name(word);
		}
		if (r < 0)
			return error_set(err, -EINVAL,
					 "--ok: '%.*s' is no status: PASS, WARN, COMPLETE, FAIL, "
					 "INCOMPLETE, UNKNOWN, SETUP_FAIL or CANCELLED",
					 (int)(length < 40 ? length : 40), text);
		mask |= 1U << (unsigned)r;
		if (text[length] == '\0')
			break;
		text += length + 1;
	}
	*ret_mask = mask;
	return 0;
}

char *say_safe(const char *text)
{
	size_t length = strlen(text);
	char *copy;

	if (text_is_printable(text, length))
		return strdup(text);
	copy = malloc(length * 4 + 1);
	if (copy)
		(void)text_escape(copy, length * 4 + 1, text, length);
	return copy;
}

static void say_text(const char *format, va_list arguments) printf_(1, 0);

/* A stderr that nobody reads must not hold us for ever: a line that finds no room is dropped. */
static void say_text(const char *format, va_list arguments)
{
	struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };
	free_ char *text = NULL, *safe = NULL;

	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	safe = text ? say_safe(text) : NULL;
	if (poll(&room, 1, STUCK_MS) != 0)
		(void)dprintf(STDERR_FILENO, "dut: %s\n", safe ? safe : "out of memory");
}

void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say_text(format, arguments);
	va_end(arguments);
}

int say_exit(int code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say_text(format, arguments);
	va_end(arguments);
	return code;
}

void say_out(const char *text)
{
	free_ char *safe = say_safe(text ? text : "");

	(void)fputs(safe ? safe : "?", stdout);
}

void say_json(const json_t *object)
{
	free_ char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);

	/* DEL is ASCII, but nothing for a terminal. */
	for (const char *at = text; at && *at; at++)
		if (*at == 0x7f)
			(void)fputs("\\u007f", stdout);
		else
			(void)fputc(*at, stdout);
	(void)fputc('\n', stdout);
}

int say_finish(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	if (errno == EPIPE)
		return code;
	return say_exit(EXIT_LAB, "cannot write to stdout: %s", strerror(errno));
}

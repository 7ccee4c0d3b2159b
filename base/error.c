/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* A text that was cut inside a character would be no UTF-8, and so no JSON. */
static void end_whole(struct error *err)
{
	size_t length = strlen(err->text);

	if (length == sizeof(err->text) - 1)
		err->text[text_whole_utf8(err->text, length)] = '\0';
}

/* strerror_r() of GNU: the text may lie in the buffer or in the C library. */
static void append_strerror(struct error *err, int number)
{
	char buffer[128];
	size_t used = strlen(err->text);

	(void)snprintf(err->text + used, sizeof(err->text) - used, ": %s",
		       strerror_r(number, buffer, sizeof(buffer)));
	end_whole(err);
}

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list arguments;

	if (!err)
		return code;

	va_start(arguments, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, arguments);
	va_end(arguments);
	end_whole(err);
	return code;
}

int error_errno(struct error *err, const char *format, ...)
{
	int number = errno ? errno : EIO;
	va_list arguments;

	if (!err)
		return -number;

	va_start(arguments, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, arguments);
	va_end(arguments);
	append_strerror(err, number);
	return -number;
}

int error_code(struct error *err, int code, const char *format, ...)
{
	va_list arguments;

	if (!err)
		return code;

	va_start(arguments, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, arguments);
	va_end(arguments);
	append_strerror(err, -code);
	return code;
}

int error_prefix(struct error *err, int code, const char *format, ...)
{
	struct error inner;
	va_list arguments;
	size_t used;

	if (!err)
		return code;

	inner = *err;
	va_start(arguments, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, arguments);
	va_end(arguments);
	used = strlen(err->text);
	(void)snprintf(err->text + used, sizeof(err->text) - used, ": %s", inner.text);
	end_whole(err);
	return code;
}

int error_oom(struct error *err)
{
	return error_set(err, -ENOMEM, "out of memory");
}

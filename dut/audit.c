/* SPDX-License-Identifier: MIT */
#include "dut/audit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/log.h"
#include "base/text.h"
#include "dut/daemon.h"

enum { MAX_DETAIL = 512 /* bytes */ };

static void note(struct daemon *daemon, const struct access_identity *who, const char *dut,
		 uint64_t job, const char *action, const char *format, va_list arguments)
	printf_(6, 0);

static void note(struct daemon *daemon, const struct access_identity *who, const char *dut,
		 uint64_t job, const char *action, const char *format, va_list arguments)
{
	char detail[MAX_DETAIL] = "";

	(void)daemon;
	if (format)
		(void)vsnprintf(detail, sizeof(detail), format, arguments);
	detail[text_whole_utf8(detail, strlen(detail))] = '\0';
	if (job)
		log_job(dut, job, LOG_INFO, "%s by %s (%s)%s%s", action, who->name, who->from,
			*detail ? ": " : "", detail);
	else if (dut)
		log_board(dut, LOG_INFO, "%s by %s (%s)%s%s", action, who->name, who->from,
			  *detail ? ": " : "", detail);
	else
		log_msg(LOG_INFO, "%s by %s (%s)%s%s", action, who->name, who->from,
			*detail ? ": " : "", detail);
}

void audit_note(struct daemon *daemon, const struct access_identity *who, const char *dut,
		uint64_t job, const char *action, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	note(daemon, who, dut, job, action, format, arguments);
	va_end(arguments);
}

void audit_request(struct daemon *daemon, const struct http_request *request, const char *dut,
		   uint64_t job, const char *action, const char *format, ...)
{
	struct access_identity who;
	va_list arguments;

	access_identify(daemon, request, &who);
	va_start(arguments, format);
	note(daemon, &who, dut, job, action, format, arguments);
	va_end(arguments);
}

/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/protocol.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/view.h"

const char *view_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

const char *view_id(char buffer[VIEW_ID_SIZE], const json_t *job)
{
	const json_t *id = json_object_get(job, "id");

	buffer[0] = '\0';
	if (json_is_integer(id))
		(void)snprintf(buffer, VIEW_ID_SIZE, "%" JSON_INTEGER_FORMAT,
			       json_integer_value(id));
	else if (json_is_string(id))
		(void)view_read_id(buffer, json_string_value(id));
	return buffer;
}

bool view_read_id(char buffer[VIEW_ID_SIZE], const char *word)
{
	uint64_t id;

	if (text_to_uint64(&id, word, 1, UINT64_MAX, NULL) < 0)
		return false;
	(void)snprintf(buffer, VIEW_ID_SIZE, "%" PRIu64, id);
	return true;
}

bool view_job_ended(const json_t *job)
{
	const char *state = view_text(job, "state");

	return state && strcmp(state, "ENDED") == 0;
}

char *view_job_line(const json_t *job)
{
	const char *dut = view_text(job, "dut"), *status = view_text(job, "status");
	const char *reason = view_text(job, "reason"), *message = view_text(job, "message");
	char id[VIEW_ID_SIZE];
	char *line;

	if (asprintf(&line, "job %s%s%s: %s%s%s%s%s%s", view_id(id, job), dut ? " on " : "",
		     dut ? dut : "", status ? status : "UNKNOWN", reason ? " (" : "",
		     reason ? reason : "", reason ? ")" : "", message && *message ? ": " : "",
		     message ? message : "") < 0)
		return NULL;
	return line;
}

int view_job_exit(const json_t *job, unsigned ok)
{
	const char *status = view_text(job, "status"), *reason = view_text(job, "reason");
	int r = status ? job_status_from_name(status) : -1;

	if (r < 0)
		r = JOB_UNKNOWN;
	if (ok & (1U << (unsigned)r))
		return 0;
	return reason && strcmp(reason, "queue_timeout") == 0 ? EXIT_TIMED_OUT : r;
}

const json_t *view_dut(const json_t *answer)
{
	json_t *duts = json_object_get(answer, "duts");

	if (!duts)
		return json_is_object(answer) ? answer : NULL;
	return json_object_iter_value(json_object_iter(duts));
}

char *view_holder(const json_t *dut)
{
	const json_t *job = json_object_get(dut, "job"), *holder = json_object_get(dut, "holder");
	const char *owner, *name;
	char id[VIEW_ID_SIZE] = "";
	char *text;

	if (json_is_object(job)) {
		(void)view_id(id, job);
		owner = view_text(job, "owner");
		name = view_text(job, "name");
	} else {
		owner = view_text(holder, "owner");
		name = view_text(holder, "why");
	}
	if (asprintf(&text, "%s%s%s%s%s%s", id, *id && owner ? " " : "", owner ? owner : "",
		     name ? " \"" : "", name ? name : "", name ? "\"" : "") < 0)
		return NULL;
	return text;
}

char *view_event(const json_t *event)
{
	const json_t *elapsed = json_object_get(event, "elapsed");
	const char *text = view_text(event, "text");
	free_ char *safe = NULL;
	double seconds = json_number_value(elapsed);
	char *line;
	int r;

	if (!text)
		text = view_text(event, "type");
	safe = say_safe(text ? text : "event");
	if (!safe)
		return NULL;
	if (json_is_number(elapsed) && isfinite(seconds) && fabs(seconds) < 1e9)
		r = asprintf(&line, "%+.3fs: %s\n", seconds, safe);
	else
		r = asprintf(&line, "%s\n", safe);
	return r < 0 ? NULL : line;
}

void view_field(const char *label, const char *text)
{
	if (!text || !*text)
		return;
	(void)printf("  %-12s ", label);
	say_out(text);
	(void)fputc('\n', stdout);
}

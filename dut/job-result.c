/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/protocol.h"
#include "base/text.h"
#include "dut/job.h"

/*
 * result.json as dutd takes it. It decides a job's end, and a job that has taken its executor over
 * may have written it: all of it holds, or there is none. What may be in it is dut-job(5)'s.
 */

enum { MAX_RESULT = 4 << 20, MAX_TEXT = 4096 /* bytes; in JSON a byte may have become six */ };

static const json_int_t MAX_NUMBER = INT64_C(1) << 53; /* what every reader of JSON has */

void job_result_done(struct job_result *result)
{
	free(result->reason);
	free(result->verdict);
	free(result->message);
	*result = (struct job_result){ 0 };
}

/* ---- one member ---- */

static bool is_text(const json_t *value)
{
	return json_is_string(value) && json_string_length(value) <= MAX_TEXT;
}

static bool is_text_or_null(const json_t *value)
{
	return json_is_null(value) || is_text(value);
}

static bool is_count(const json_t *value)
{
	return json_is_integer(value) && json_integer_value(value) >= 0 &&
	       json_integer_value(value) <= MAX_NUMBER;
}

static bool is_boot_number(const json_t *value)
{
	return is_count(value) && json_integer_value(value) <= UINT32_MAX;
}

static bool is_seconds_or_null(const json_t *value)
{
	return json_is_null(value) || is_count(value) ||
	       (json_is_real(value) && json_real_value(value) >= 0 &&
		json_real_value(value) <= (double)MAX_NUMBER);
}

/* What an entry of a list has to have; more is nobody's harm. */
struct member {
	const char *name;
	bool (*holds)(const json_t *value);
};

static const struct member boot_members[] = {
	{ "n", is_boot_number },
	{ "console_offset", is_count },
	{ "power_on", is_text_or_null },
	{ "first_byte", is_text_or_null },
	{ "end", is_text_or_null },
	{ "reason", is_text_or_null },
	{ NULL, NULL },
};

static const struct member timeout_members[] = {
	{ "limit", is_seconds_or_null },
	{ "retries", is_count },
	{ "retried", is_count },
	{ NULL, NULL },
};

static const struct member match_members[] = {
	{ "boot", is_boot_number },
	{ "offset", is_count },
	{ "line", is_text },
	{ NULL, NULL },
};

static const struct member fault_members[] = {
	{ "kind", is_text },	{ "boot", is_boot_number },
	{ "offset", is_count }, { "line", is_text },
	{ NULL, NULL },
};

static const struct member test_members[] = {
	{ "name", is_text },
	{ "result", is_text },
	{ NULL, NULL },
};

static const struct member file_members[] = {
	{ "path", is_text },
	{ "size", is_count },
	{ NULL, NULL },
};

static int check_entry(const char *list, const json_t *entry, const struct member *members,
		       struct error *err)
{
	if (!json_is_object(entry))
		return error_set(err, -EBADMSG, "an entry of '%s' is no object", list);
	for (; members->name; members++)
		if (!members->holds(json_object_get(entry, members->name)))
			return error_set(err, -EBADMSG, "'%s' of an entry of '%s' is not right",
					 members->name, list);
	return 0;
}

/* ---- the lists ---- */

static int check_list(const json_t *result, const char *name, const struct member *members,
		      size_t max, struct error *err)
{
	const json_t *list = json_object_get(result, name), *entry;
	size_t i;
	int r = 0;

	if (!json_is_array(list))
		return error_set(err, -EBADMSG, "'%s' is no list", name);
	if (json_array_size(list) > max)
		return error_set(err, -EBADMSG, "'%s' has %zu entries, more than %zu", name,
				 json_array_size(list), max);
	for (i = 0; i < json_array_size(list) && r >= 0; i++) {
		entry = json_array_get(list, i);
		r = check_entry(name, entry, members, err);
	}
	return r;
}

static int check_patterns(const json_t *result, struct error *err)
{
	const json_t *patterns = json_object_get(result, "patterns");
	const char *name;
	size_t count = 0;
	json_t *list;

	if (!json_is_object(patterns))
		return error_set(err, -EBADMSG, "'patterns' is no object");
	json_object_foreach((json_t *)(uintptr_t)patterns, name, list) {
		int r = check_list(patterns, name, match_members, RESULT_PATTERNS_MAX, err);

		if (r < 0)
			return error_prefix(err, r, "'patterns'");
		/* A name without a match is not there: this bounds the names, too. */
		count += json_array_size(list);
		if (json_array_size(list) == 0 || count > RESULT_PATTERNS_MAX)
			return error_set(err, -EBADMSG, "'patterns' has %s",
					 count > RESULT_PATTERNS_MAX ? "too many entries"
								     : "an empty list");
	}
	return 0;
}

static int check_timeouts(const json_t *result, struct error *err)
{
	const json_t *timeouts = json_object_get(result, "timeouts");
	const char *name;
	json_t *timeout;
	int r;

	if (!json_is_object(timeouts))
		return error_set(err, -EBADMSG, "'timeouts' is no object");
	json_object_foreach((json_t *)(uintptr_t)timeouts, name, timeout) {
		r = check_entry("timeouts", timeout, timeout_members, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_lists(const json_t *result, struct error *err)
{
	int r = check_list(result, "boots", boot_members, RESULT_BOOTS_MAX, err);

	if (r >= 0)
		r = check_list(result, "faults", fault_members, RESULT_FAULTS_MAX, err);
	if (r >= 0)
		r = check_list(result, "tests", test_members, RESULT_TESTS_MAX, err);
	if (r >= 0)
		r = check_list(result, "files", file_members, RESULT_FILES_MAX, err);
	if (r >= 0)
		r = check_patterns(result, err);
	if (r >= 0)
		r = check_timeouts(result, err);
	return r;
}

/* ---- the end ---- */

/* The id may stand as a text or as a number. */
static bool is_this_job(const struct job *job, const json_t *result)
{
	const json_t *id = json_object_get(result, "id");
	const char *nonce = json_string_value(json_object_get(result, "nonce"));
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRIu64, job->id);
	return nonce && strcmp(nonce, job->nonce) == 0 &&
	       json_integer_value(json_object_get(result, "attempt")) == (json_int_t)job->attempt &&
	       (json_is_string(id) ? strcmp(json_string_value(id), text) == 0
				   : json_integer_value(id) == (json_int_t)job->id);
}

/* Only an end that is somebody's fault has a verdict, and it always has. */
static bool verdict_fits(enum job_status status, const json_t *verdict)
{
	static const char *const verdicts[] = { "lab", "job", "kernel", "boot", "test" };

	if (status == JOB_PASS || status == JOB_WARN || status == JOB_COMPLETE ||
	    status == JOB_CANCELLED)
		return !verdict || json_is_null(verdict);
	for (size_t i = 0; i < ARRAY_SIZE(verdicts) && json_is_string(verdict); i++)
		if (strcmp(json_string_value(verdict), verdicts[i]) == 0)
			return true;
	return false;
}

static int check_end(const json_t *result, enum job_status *ret, struct error *err)
{
	const char *status = json_string_value(json_object_get(result, "status"));
	const char *reason = json_string_value(json_object_get(result, "reason"));
	int number = status ? job_status_from_name(status) : -EINVAL;

	if (number < 0 || !reason || strlen(reason) >= RESULT_REASON_MAX ||
	    !job_reason_known(reason) || !text_is_printable(reason, strlen(reason)))
		return error_set(err, -EBADMSG, "it has an unknown status or reason");
	if (!job_status_fits((enum job_status)number, reason))
		return error_set(err, -EBADMSG, "status %s does not fit the reason '%s'", status,
				 reason);
	if (!verdict_fits((enum job_status)number, json_object_get(result, "verdict")))
		return error_set(err, -EBADMSG, "the verdict does not fit status %s", status);
	if (!is_text_or_null(json_object_get(result, "message")))
		return error_set(err, -EBADMSG, "'message' is not right");
	*ret = (enum job_status)number;
	return 0;
}

/* The place in console.log is an offset less this. */
static int check_console(const struct job *job, const json_t *result, struct error *err)
{
	const json_t *base = json_object_get(result, "console_base");

	if (!json_is_null(base) && (!is_count(base) || !job->has_console ||
				    json_integer_value(base) != (json_int_t)job->console_base))
		return error_set(err, -EBADMSG,
				 "'console_base' is not what the console was lent at");
	return 0;
}

static int check_result(const struct job *job, const json_t *result, enum job_status *ret_status,
			struct error *err)
{
	int r;

	if (!json_is_object(result))
		return error_set(err, -EBADMSG, "it is no JSON object");
	if (json_integer_value(json_object_get(result, "v")) != PROTOCOL_VERSION)
		return error_set(err, -EBADMSG, "it is not of version %d", PROTOCOL_VERSION);
	if (!is_this_job(job, result))
		return error_set(err, -EBADMSG, "it is not that of this attempt");
	r = check_end(result, ret_status, err);
	if (r >= 0)
		r = check_console(job, result, err);
	return r < 0 ? r : check_lists(result, err);
}

static char *copy_member(const json_t *result, const char *name)
{
	return job_copy_text(json_string_value(json_object_get(result, name)));
}

int job_read_result(const struct job *job, int dir_fd, struct job_result *ret, struct error *err)
{
	json_auto_t *result = NULL;
	free_ char *text = NULL;
	enum job_status status = JOB_UNKNOWN;
	size_t length;
	int r;

	r = file_read_beneath(&text, &length, dir_fd, "result.json", MAX_RESULT, err);
	if (r < 0)
		return r;
	result = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
	r = check_result(job, result, &status, err);
	if (r < 0)
		return error_prefix(err, r, "result.json does not hold");
	*ret = (struct job_result){
		.status = status,
		.reason = copy_member(result, "reason"),
		.verdict = copy_member(result, "verdict"),
		.message = copy_member(result, "message"),
	};
	if (!ret->reason) {
		job_result_done(ret);
		return error_oom(err);
	}
	return 0;
}

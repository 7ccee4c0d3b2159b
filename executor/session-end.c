/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/jsontext.h"
#include "base/log.h"
#include "executor/session-internal.h"

/*
 * The end has one way, whatever the cause: session_end() or session_cancel() set the reason and
 * begin the teardown, the console may say its last words, and on_conclude() writes the last event
 * and result.json, in that order, says so to dutd, gives the console back and leaves.
 */

enum { DRAIN_US = 1000000, DRAIN_ACCURACY_US = 1000 };

void session_conclude(struct session *session)
{
	if (sd_event_source_set_enabled(session->conclude, SD_EVENT_ONESHOT) < 0)
		log_job(session->config.assignment->dut, session->config.assignment->number,
			LOG_ERR, "cannot conclude");
}

static int on_drained(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	session_conclude(data);
	return 0;
}

printf_(3, 0) static void set_reason(struct session *session, const char *reason,
				     const char *format, va_list arguments)
{
	(void)snprintf(session->reason, sizeof(session->reason), "%s", reason ? reason : "");
	(void)vsnprintf(session->message, sizeof(session->message), format, arguments);
}

/* Leaves every phase: nothing is asked for, fetched or timed any more, except the end itself. */
static void begin_teardown(struct session *session, enum session_drain drain)
{
	uint64_t now_us = clock_now_us();

	session->ended = true;
	(void)boot_next(&session->boot, BOOT_END);
	control_forget(session->control);
	timeouts_stop_boot(&session->timeouts);
	timeouts_stop(&session->timeouts, TIMEOUT_OVERALL);
	timeouts_stop(&session->timeouts, TIMEOUT_INFRA_SETUP);
	timeouts_stop(&session->timeouts, TIMEOUT_DAEMON);
	timeouts_start(&session->timeouts, TIMEOUT_INFRA_TEARDOWN, now_us);
	session_arm(session);
	session_tell_phase(session);
	fetcher_cancel(session->config.fetcher);
	if (drain == DRAIN_A_SECOND && loan_is_live(session->loan) &&
	    sd_event_source_set_time(session->drain, now_us + DRAIN_US) >= 0 &&
	    sd_event_source_set_enabled(session->drain, SD_EVENT_ONESHOT) >= 0)
		return;
	session_conclude(session);
}

void session_end(struct session *session, enum session_drain drain, const char *reason,
		 const char *format, ...)
{
	va_list arguments;

	if (session->ended && (!session->over || !reason))
		return;
	va_start(arguments, format);
	set_reason(session, reason, format, arguments);
	va_end(arguments);
	session->over = !reason;
	if (!session->ended)
		begin_teardown(session, drain);
}

void session_cancel(struct session *session, const char *reason, const char *by, const char *why)
{
	if (session->concluded)
		return;
	control_send(session->control, json_pack("{s:s}", "t", "cancelling"));
	if (session->cancelled)
		return;
	session->cancelled = true;
	session->over = false;
	(void)snprintf(session->reason, sizeof(session->reason), "%s",
		       reason && job_reason_cancels(reason) ? reason : "cancelled");
	(void)snprintf(session->message, sizeof(session->message), "%s%s%.128s%s%.256s",
		       strcmp(session->reason, "cancelled") == 0 ? "cancelled" : session->reason,
		       by ? " by " : "", by ? by : "", why ? ": " : "", why ? why : "");
	if (!session->ended)
		begin_teardown(session, DRAIN_WHAT_IS_THERE);
	session_conclude(session);
}

void session_give_back(struct session *session, uint64_t generation)
{
	uint64_t offset;
	bool had = loan_is_lent(session->loan);

	/* An older loan has been replaced: there is nothing of it to give back. */
	if (generation < loan_generation(session->loan))
		return;
	offset = loan_give_back(session->loan);
	control_send(session->control,
		     json_pack("{s:s, s:I, s:I, s:o}", "t", "returned", "gen",
			       (json_int_t)generation, "offset", (json_int_t)offset, "codec",
			       loan_codec(session->loan)));
	if (had && !session->concluded)
		events_emit(session->events, "console",
			    json_pack("{s:s, s:s, s:I}", "name", loan_name(session->loan), "state",
				      "returned", "offset", (json_int_t)offset),
			    "console %s is given back", loan_name(session->loan));
}

/* The status, with the reason and the message when the patterns decide. */
static enum job_status judge(struct session *session)
{
	const struct description *description = session->config.description;
	const struct matcher *matcher = &session->matcher;
	const struct result_session facts = {
		.success_defined = description->patterns[PATTERN_JOB_SUCCESS],
		.success_seen = matcher->seen[PATTERN_JOB_SUCCESS],
		.warn_seen = matcher->seen[PATTERN_JOB_WARN] || session->fault_warns,
	};
	enum job_status status;
	const char *message;

	if (!session->over)
		return job_reason_status(session->reason, session->boot.number == 0);

	(void)snprintf(session->reason, sizeof(session->reason), "%s",
		       result_session_reason(&facts, &status));
	if (status == JOB_COMPLETE)
		message = "the session has ended; the job has no job_success to tell more";
	else if (status == JOB_FAIL)
		message = "the session has ended, and no line matched job_success";
	else if (status == JOB_WARN)
		message = matcher->seen[PATTERN_JOB_WARN]
				  ? "job_success matched, and so did job_warn"
				  : "job_success matched, and the kernel had a fault";
	else
		message = "job_success matched";
	(void)snprintf(session->message, sizeof(session->message), "%s", message);
	return status;
}

static const char *find_verdict(const struct session *session, enum job_status status)
{
	const struct description *description = session->config.description;
	const struct result_facts facts = {
		.boots = session->boot.number,
		.fault_seen = session->matcher.fault_seen,
		.kernel_seen = session->matcher.kernel_seen,
		.deploys_kernel = description->start.kernel.url || description->start.kernel.bucket,
		.silent = session->silent,
		.power_verified = session->power_verified,
	};

	return result_verdict(status, session->reason, &facts);
}

/* The files beside result.json that a person will want. */
static json_t *list_files(const struct session *session)
{
	static const char *const names[] = { "console.log", "console.idx", "events.jsonl" };
	json_t *files = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct stat status;

		if (fstatat(session->config.dir_fd, names[i], &status, AT_SYMLINK_NOFOLLOW) == 0)
			(void)json_array_append_new(files,
						    json_pack("{s:s, s:I}", "path", names[i],
							      "size", (json_int_t)status.st_size));
	}
	return files;
}

json_t *session_iso_time(uint64_t realtime_us)
{
	char time[CLOCK_ISO_SIZE];

	return realtime_us ? json_string(clock_format_iso(time, realtime_us)) : json_null();
}

static json_t *make_result(const struct session *session, enum job_status status,
			   const char *verdict, uint64_t ended_realtime_us)
{
	const struct assignment *assignment = session->config.assignment;
	const char *name = assignment->name ? assignment->name : session->config.description->name;
	const char *console = loan_name(session->loan);
	json_t *result = json_pack(
		"{s:i, s:O, s:I, s:s, s:s?, s:o, s:s?, s:s, s:s?, s:s, s:s, s:s?, s:o}", "v",
		PROTOCOL_VERSION, "id", assignment->id, "attempt", (json_int_t)assignment->attempt,
		"nonce", assignment->nonce, "console", console, "console_base",
		console ? json_integer((json_int_t)loan_base(session->loan)) : json_null(), "name",
		name, "dut", assignment->dut, "owner", assignment->owner, "status",
		job_status_name(status), "reason", session->reason, "verdict", verdict, "message",
		jsontext_new(session->message));

	if (!result)
		return NULL;
	(void)json_object_set_new(result, "submitted",
				  session_iso_time(assignment->submitted_realtime_us));
	(void)json_object_set_new(result, "started", session_iso_time(session->begun_realtime_us));
	(void)json_object_set_new(result, "ended", session_iso_time(ended_realtime_us));
	(void)json_object_set(result, "boots", session->result.boots);
	(void)json_object_set_new(result, "timeouts", timeouts_result(&session->timeouts));
	(void)json_object_set(result, "patterns", session->result.patterns);
	(void)json_object_set(result, "faults", session->result.faults);
	(void)json_object_set_new(result, "tests", json_array());
	(void)json_object_set_new(result, "files", list_files(session));
	if (session->result.dropped > 0)
		(void)json_object_set_new(result, "dropped", json_integer(session->result.dropped));
	return result;
}

/* The last event and result.json: after its rename nothing changes the end. */
static int write_end(struct session *session, enum job_status status, struct error *err)
{
	const char *verdict = find_verdict(session, status);
	uint64_t now_us = clock_realtime_us();
	json_t *result;

	events_mask(session->events, session->message);
	result_boot_end(&session->result, now_us, session->reason);
	loan_mark(session->loan, "job",
		  json_pack("{s:s, s:s, s:s}", "event", "end", "status", job_status_name(status),
			    "reason", session->reason));
	events_emit(session->events, "job_state",
		    json_pack("{s:s, s:s, s:s, s:s?, s:o}", "state", "ENDED", "status",
			      job_status_name(status), "reason", session->reason, "verdict",
			      verdict, "message", jsontext_new(session->message)),
		    "%s (%s): %s", job_status_name(status), session->reason, session->message);
	result = make_result(session, status, verdict, now_us);
	if (!result)
		return error_oom(err);
	return result_write(session->config.dir_fd, take_fd(&session->reserved_fd), result, err);
}

static int on_conclude(sd_event_source *source, void *data)
{
	struct session *session = data;
	enum job_status status;
	struct error err;
	int r;

	(void)source;
	if (session->concluded)
		return 0;
	loan_pump(session->loan);
	loan_flush_line(session->loan);
	loan_stop(session->loan);
	session->concluded = true;
	status = judge(session);
	r = write_end(session, status, &err);
	if (r < 0)
		log_job(session->config.assignment->dut, session->config.assignment->number,
			LOG_ERR, "%s", err.text);
	else
		control_send(session->control,
			     json_pack("{s:s, s:s, s:s}", "t", "end", "status",
				       job_status_name(status), "reason", session->reason));
	if (loan_is_lent(session->loan))
		session_give_back(session, loan_generation(session->loan));
	/* Viewers get the rest first; session_leave() follows. */
	session->failed = r < 0;
	jobsock_end(session->jobsock);
	return 0;
}

void session_leave(struct session *session)
{
	control_finish(session->control);
	(void)sd_event_exit(session->config.event, session->failed ? -EIO : 0);
}

int session_end_init(struct session *session, struct error *err)
{
	sd_event *event = session->config.event;
	int r;

	r = sd_event_add_time(event, &session->drain, CLOCK_BOOTTIME, 0, DRAIN_ACCURACY_US,
			      on_drained, session);
	if (r >= 0)
		r = sd_event_source_set_enabled(session->drain, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_defer(event, &session->conclude, on_conclude, session);
	if (r >= 0)
		r = sd_event_source_set_enabled(session->conclude, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "cannot prepare the end");
	return result_reserve(&session->reserved_fd, session->config.dir_fd, err);
}

void session_end_done(struct session *session)
{
	session->conclude = sd_event_source_disable_unref(session->conclude);
	session->drain = sd_event_source_disable_unref(session->drain);
	session->reserved_fd = close_fd(session->reserved_fd);
}

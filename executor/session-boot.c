/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/jsontext.h"
#include "base/log.h"
#include "base/text.h"
#include "executor/session-internal.h"

/*
 * A job between its setup and its end: what dutd, the console and the clock say is translated into
 * events of the tables (boot, timeouts, matcher), and their actions into requests and timers. The
 * decisions are in the tables.
 */

enum { TIMER_ACCURACY_US = 1000, DURATION_SIZE = 32 };

/* ---- timeouts ---- */

void session_arm(struct session *session)
{
	uint64_t next_us = timeouts_next_us(&session->timeouts);

	/* One that runs early looks again: activity moves deadlines away all the time, and each
	 * move of the timer would be a system call. */
	if (next_us == UINT64_MAX || session->armed_us <= next_us)
		return;
	session->armed_us = next_us;
	/* A timeout is over strictly after its limit. */
	(void)sd_event_source_set_time(session->timer, next_us + 1);
	(void)sd_event_source_set_enabled(session->timer, SD_EVENT_ONESHOT);
}

void session_start_timeout(struct session *session, size_t index)
{
	timeouts_start(&session->timeouts, index, clock_now_us());
	session_arm(session);
}

/* From the end of a boot, for which cause names the reason, to the next one. */
void session_restart(struct session *session, const char *cause)
{
	timeouts_stop_boot(&session->timeouts);
	result_boot_end(&session->result, clock_realtime_us(), cause);
	session_act(session, boot_next(&session->boot, BOOT_RESTART));
}

/* Spends a retry for cause, and tells. */
enum timeout_verdict session_spend(struct session *session, size_t index, const char *cause)
{
	const struct timeout *timeout = &session->timeouts.items[index];
	enum timeout_verdict verdict = timeouts_spend(&session->timeouts, index);
	bool retry = verdict == TIMEOUT_RETRY, by_clock = strcmp(cause, "timeout") == 0;
	char limit[DURATION_SIZE];
	json_t *extra;

	extra = json_pack(
		"{s:s, s:o, s:i, s:i, s:s, s:s, s:i}", "name", timeout->name, "limit",
		timeout->limit_us == DURATION_INFINITE ? json_null()
						       : json_real((double)timeout->limit_us / 1e6),
		"retries", (int)timeout->retries, "retried", (int)timeout->retried, "action",
		retry ? "retry" : "abort", "cause", cause, "boot", (int)session->boot.number);
	(void)text_format_duration(limit, sizeof(limit), timeout->limit_us);
	events_emit(session->events, "timeout", extra,
		    retry ? "%s %s%s%s%s: trying again, retry %u of %u"
			  : "%s %s%s%s%s: not trying again, %u of %u retries are used",
		    by_clock ? "timeout" : "the board asked for a reboot, which counts as",
		    timeout->name, by_clock ? " (" : "", by_clock ? limit : "", by_clock ? ")" : "",
		    timeout->retried, timeout->retries);
	return verdict;
}

static void end_by_timeout(struct session *session, size_t index)
{
	const struct timeout *timeout = &session->timeouts.items[index];
	char reason[RESULT_REASON_MAX], limit[DURATION_SIZE];

	(void)snprintf(reason, sizeof(reason), "timeout:%s", timeout->name);
	(void)text_format_duration(limit, sizeof(limit), timeout->limit_us);
	if (timeout->retries > 0)
		session_end(session, DRAIN_WHAT_IS_THERE, reason,
			    "timeout %s (%s) was hit, and all its %u retries are used",
			    timeout->name, limit, timeout->retries);
	else
		session_end(session, DRAIN_WHAT_IS_THERE, reason, "timeout %s (%s) was hit",
			    timeout->name, limit);
}

static void end_by_daemon(struct session *session)
{
	char limit[DURATION_SIZE];

	(void)text_format_duration(limit, sizeof(limit), session->config.assignment->daemon_us);
	session_end(session, DRAIN_WHAT_IS_THERE, "daemon_lost",
		    control_connected(session->control)
			    ? "dutd did not answer for %s (timeouts.daemon)"
			    : "no dutd was there for %s (timeouts.daemon)",
		    limit);
}

static void check_timeouts(struct session *session)
{
	uint64_t now_us = clock_now_us();
	size_t index, aborted = SIZE_MAX, retried = SIZE_MAX;

	while (timeouts_expired(&session->timeouts, now_us, &index)) {
		if (index == TIMEOUT_INFRA_TEARDOWN) {
			session_conclude(session);
		} else if (index == TIMEOUT_DAEMON) {
			end_by_daemon(session);
		} else if (index == TIMEOUT_OVERALL || index == TIMEOUT_INFRA_SETUP) {
			(void)session_spend(session, index, "timeout");
			end_by_timeout(session, index);
		} else if (session->ended) {
			continue;
		} else if (session_spend(session, index, "timeout") == TIMEOUT_RETRY) {
			retried = index;
		} else if (aborted == SIZE_MAX) {
			aborted = index;
		}
	}
	if (aborted != SIZE_MAX) {
		end_by_timeout(session, aborted);
	} else if (retried != SIZE_MAX && !session->ended) {
		char cause[RESULT_REASON_MAX];

		(void)snprintf(cause, sizeof(cause), "timeout:%s",
			       session->timeouts.items[retried].name);
		session_restart(session, cause);
	}
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct session *session = data;

	(void)source;
	(void)usec;
	session->armed_us = UINT64_MAX;
	/* What the board said in time counts, also when we come late to read it. */
	loan_pump(session->loan);
	check_timeouts(session);
	session_arm(session);
	return 0;
}

/* ---- power ---- */

/* The mark after which this job may not be started a second time. */
static int make_started_file(const struct session *session, struct error *err)
{
	close_ int fd = openat(session->config.dir_fd, "started",
			       O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);

	if (fd < 0)
		return error_errno(err, "cannot create 'started'");
	if (fsync(fd) < 0 || fsync(session->config.dir_fd) < 0)
		return error_errno(err, "cannot write 'started'");
	return 0;
}

/* From the request to its answer only overall and timeouts.daemon run. */
static void ask(struct session *session, const char *state, json_t *request)
{
	uint64_t now_us = clock_now_us();

	timeouts_pause(&session->timeouts, now_us);
	timeouts_start(&session->timeouts, TIMEOUT_DAEMON, now_us);
	session_arm(session);
	session_tell_phase(session);
	loan_mark(session->loan, "power", json_pack("{s:s}", "asked", state));
	control_ask(session->control, request);
}

static void ask_off(struct session *session)
{
	struct error err;

	if (session->boot.number == 0 && make_started_file(session, &err) < 0) {
		session_end(session, DRAIN_WHAT_IS_THERE, "disk", "%s", err.text);
		return;
	}
	ask(session, "OFF", json_pack("{s:s}", "t", "off"));
}

static void ask_on(struct session *session)
{
	unsigned number = session->boot.number;
	bool first = number == 1;
	const char *deployment = first ? "start" : "continue";
	uint64_t offset = loan_offset(session->loan);

	matcher_boot(&session->matcher);
	session->silent = true;
	session->power_verified = false;
	result_boot(&session->result, number, offset);
	loan_mark(session->loan, "boot",
		  json_pack("{s:i, s:s}", "boot", (int)number, "deployment", deployment));
	events_emit(session->events, "boot",
		    json_pack("{s:i, s:s, s:I}", "boot", (int)number, "deployment", deployment,
			      "offset", (json_int_t)offset),
		    "boot %u, deployment %s", number, deployment);
	ask(session, "ON",
	    json_pack("{s:s, s:i, s:o}", "t", "on", "boot", (int)number, "deploy",
		      setup_deploy(session->setup, first)));
}

/* The board is on. What a line of it started meanwhile stood still until now. */
static void start_boot_timers(struct session *session)
{
	uint64_t now_us = clock_now_us();

	timeouts_resume(&session->timeouts, now_us);
	timeouts_start(&session->timeouts, TIMEOUT_BOOT_CYCLE, now_us);
	timeouts_start(&session->timeouts,
		       session->boot.line_seen ? TIMEOUT_CONSOLE_ACTIVITY
					       : TIMEOUT_FIRST_CONSOLE_ACTIVITY,
		       now_us);
	session_arm(session);
	session_tell_phase(session);
}

void session_act(struct session *session, enum boot_action action)
{
	switch (action) {
	case BOOT_ASK_OFF:
		ask_off(session);
		break;
	case BOOT_ASK_ON:
		ask_on(session);
		break;
	case BOOT_STARTED:
		start_boot_timers(session);
		break;
	case BOOT_RUNS:
		timeouts_stop(&session->timeouts, TIMEOUT_FIRST_CONSOLE_ACTIVITY);
		session_start_timeout(session, TIMEOUT_CONSOLE_ACTIVITY);
		session_tell_phase(session);
		break;
	case BOOT_NOTHING:
	case BOOT_TEARDOWN:
		break;
	}
}

static void tell_power(struct session *session, const struct control_answer *answer, bool on)
{
	json_t *extra = json_pack("{s:s, s:i, s:b}", "state", answer->state, "boot",
				  (int)session->boot.number, "verified", answer->verified);
	const char *wanted = on ? "on" : "off";

	loan_mark(session->loan, "power",
		  json_pack("{s:s, s:b}", "state", answer->state, "verified", answer->verified));
	if (answer->ok) {
		events_emit(session->events, "power", extra, "power %s%s", wanted,
			    answer->verified ? "" : ", not read back");
		return;
	}
	(void)json_object_set_new(extra, "error", jsontext_new(answer->error));
	events_emit(session->events, "power", extra, "power %s failed: %s", wanted, answer->error);
}

void session_answered(struct session *session, const struct control_answer *answer)
{
	bool on = session->boot.phase == PHASE_POWER_ON;

	if (session->ended)
		return;
	timeouts_stop(&session->timeouts, TIMEOUT_DAEMON);
	tell_power(session, answer, on);
	if (!answer->ok) {
		session_end(session, DRAIN_WHAT_IS_THERE, "power", "power %s failed: %s",
			    on ? "on" : "off", answer->error);
		return;
	}
	if (on) {
		session->power_verified = answer->verified;
		result_boot_time(&session->result, "power_on", clock_realtime_us());
	} else {
		/* What came until now belongs to the boot before, and may yet be its end. */
		loan_new_boot(session->loan);
	}
	session_act(session, boot_next(&session->boot, BOOT_ANSWERED));
}

int session_boot_init(struct session *session, struct error *err)
{
	int r;

	if (timeouts_init(&session->timeouts, session->config.description,
			  session->config.assignment->daemon_us) < 0 ||
	    result_init(&session->result) < 0)
		return error_oom(err);
	r = sd_event_add_time(session->config.event, &session->timer, CLOCK_BOOTTIME, 0,
			      TIMER_ACCURACY_US, on_timer, session);
	if (r < 0)
		return error_code(err, r, "cannot make the timer of timeouts");
	(void)sd_event_source_set_description(session->timer, "timeouts");
	(void)sd_event_source_set_enabled(session->timer, SD_EVENT_OFF);
	session->armed_us = UINT64_MAX;
	return 0;
}

void session_boot_done(struct session *session)
{
	session->timer = sd_event_source_disable_unref(session->timer);
	result_done(&session->result);
	timeouts_done(&session->timeouts);
}

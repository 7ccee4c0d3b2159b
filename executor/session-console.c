/* SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/text.h"
#include "executor/session-internal.h"

/*
 * What the console says: bytes move the silence timers, lines go through the patterns, and what
 * matches decides.
 */

/* Whether this boot's timers and rules hold: from the sending of `on` to that of `off`. */
static bool in_boot(const struct session *session)
{
	enum job_phase phase = session->boot.phase;

	return phase == PHASE_POWER_ON || phase == PHASE_BOOT || phase == PHASE_RUNNING;
}

static void on_bytes(uint64_t now_us, void *data)
{
	struct session *session = data;

	if (!in_boot(session))
		return;
	if (session->silent) {
		session->silent = false;
		/* What talks has power, whether or not dutd has said so yet. */
		result_boot_time(&session->result, "power_on", clock_realtime_us());
		result_boot_time(&session->result, "first_byte", clock_realtime_us());
	}
	/* Adapters send junk at power-on: activity counts from the first line end on. */
	if (session->boot.line_seen) {
		timeouts_start(&session->timeouts, TIMEOUT_CONSOLE_ACTIVITY, now_us);
		session_arm(session);
	}
}

static void on_line(const struct line *line, void *data)
{
	struct session *session = data;

	/* What a board said before its first power-on is not this job's. */
	if (session->boot.number == 0)
		return;
	if (line->ended)
		session_act(session, boot_next(&session->boot, BOOT_LINE));
	matcher_line(&session->matcher, line);
}

/* A board's first complete line is an event; later ones are what the patterns make of them. */
static size_t on_quiet(const char *bytes, size_t length, void *data)
{
	struct session *session = data;
	enum job_phase phase = session->boot.phase;

	if (phase == PHASE_POWER_ON || phase == PHASE_BOOT)
		return 0;
	return session->boot.number == 0 ? length : matcher_quiet(&session->matcher, bytes, length);
}

static json_t *describe_match(const struct session *session, const char *key,
			      const struct match *match, const struct line *line)
{
	return json_pack("{s:s, s:i, s:I, s:o}", key, match->name, "boot",
			 (int)session->boot.number, "offset", (json_int_t)line->offset, "line",
			 events_line(session->events, line->text, line->length, EVENT_LINE_MAX));
}

/* Notes and tells that a pattern matched. */
static void note_match(struct session *session, const struct match *match, const struct line *line)
{
	json_t *extra = describe_match(session, "name", match, line);

	result_pattern(&session->result, match->name, session->boot.number, line->offset,
		       events_line(session->events, line->text, line->length, RESULT_LINE_MAX));
	events_emit(session->events, "pattern", extra, "%s: %s", match->name,
		    json_string_value(json_object_get(extra, "line")));
}

static void on_reboot_asked(struct session *session)
{
	if (!in_boot(session))
		return;
	if (session_spend(session, TIMEOUT_BOOT_CYCLE, "session_reboot") == TIMEOUT_RETRY)
		session_restart(session, "session_reboot");
	else
		session_end(session, DRAIN_A_SECOND, "timeout:boot_cycle",
			    "the board asked for a reboot (session_reboot), and boot_cycle has no "
			    "retries left (%u)",
			    session->timeouts.items[TIMEOUT_BOOT_CYCLE].retries);
}

static void on_pattern(struct session *session, enum pattern_name pattern)
{
	switch (pattern) {
	case PATTERN_SESSION_END:
		session_end(session, DRAIN_A_SECOND, NULL, "the session has ended");
		break;
	case PATTERN_SESSION_REBOOT:
		on_reboot_asked(session);
		break;
	case PATTERN_JOB_FAIL:
		session_end(session, DRAIN_A_SECOND, "pattern_fail", "a line matched job_fail");
		break;
	case PATTERN_MACHINE_UNFIT:
		session_end(session, DRAIN_A_SECOND, "unfit",
			    "a line matched machine_unfit_for_service");
		break;
	case PATTERN_JOB_SUCCESS:
	case PATTERN_JOB_WARN:
	case PATTERN_NAMES:
		break;
	}
}

static void on_fault(struct session *session, const struct match *match, const struct line *line)
{
	enum kernel_fault_policy policy = session->config.description->kernel_fault;

	if (session->result.n_faults < RESULT_FAULTS_MAX) {
		json_t *extra = describe_match(session, "kind", match, line);

		result_fault(
			&session->result, match->name, session->boot.number, line->offset,
			events_line(session->events, line->text, line->length, RESULT_LINE_MAX));
		events_emit(session->events, "fault", extra, "kernel fault (%s): %s", match->name,
			    json_string_value(json_object_get(extra, "line")));
	}
	if (policy == KERNEL_FAULT_FAIL)
		session_end(session, DRAIN_A_SECOND, "pattern_fail", "kernel fault: %s",
			    match->name);
	else if (policy == KERNEL_FAULT_WARN)
		session->fault_warns = true;
}

static void on_match(const struct match *match, const struct line *line, void *data)
{
	struct session *session = data;

	switch (match->kind) {
	case MATCH_PATTERN:
		note_match(session, match, line);
		on_pattern(session, match->pattern);
		break;
	case MATCH_WATCHDOG_START:
	case MATCH_WATCHDOG_RESET:
		/* Resets may come with every line; the start and the stop tell enough. */
		if (match->kind == MATCH_WATCHDOG_START)
			note_match(session, match, line);
		if (in_boot(session))
			session_start_timeout(session, TIMEOUT_WATCHDOGS + match->watchdog);
		break;
	case MATCH_WATCHDOG_STOP:
		note_match(session, match, line);
		timeouts_stop(&session->timeouts, TIMEOUT_WATCHDOGS + match->watchdog);
		break;
	case MATCH_FAULT:
		on_fault(session, match, line);
		break;
	case MATCH_LIMIT:
		session_end(session, DRAIN_WHAT_IS_THERE, "regex_limit",
			    "the pattern of %s takes too long to search for", match->name);
		break;
	}
}

static void on_loan_ended(enum loan_end how, void *data)
{
	struct session *session = data;
	uint64_t offset = loan_offset(session->loan);
	char floor[TEXT_SIZE_SIZE], said[TEXT_SIZE_SIZE];

	switch (how) {
	case LOAN_HUNG_UP:
		events_emit(session->events, "console",
			    json_pack("{s:s, s:s, s:I}", "name", loan_name(session->loan), "state",
				      "ended", "offset", (json_int_t)offset),
			    "the console has hung up");
		if (session->ended)
			session_conclude(session);
		break;
	case LOAN_DISK_FULL:
		session_end(session, DRAIN_WHAT_IS_THERE, "disk",
			    "the disk is full: console.log cannot grow");
		break;
	case LOAN_DISK_LOW:
		session_end(session, DRAIN_WHAT_IS_THERE, "disk",
			    "less than limits.free_space (%s) is left on the disk, and the console "
			    "has said more than %s since",
			    text_format_size(floor, sizeof(floor),
					     session->config.assignment->min_free),
			    text_format_size(said, sizeof(said), LOAN_LOW_MAX));
		break;
	case LOAN_OVER_LIMIT:
		session_end(session, DRAIN_WHAT_IS_THERE, "console_flood",
			    "the console has said more than limits.console_log (%s)",
			    text_format_size(said, sizeof(said),
					     session->config.assignment->console_log_max));
		break;
	}
}

static void on_appended(void *data)
{
	struct session *session = data;

	jobsock_wake(session->jobsock);
}

int session_console_init(struct session *session, struct error *err)
{
	const struct loan_config loan_config = {
		.event = session->config.event,
		.dir_fd = session->config.dir_fd,
		.name = session->config.assignment->console,
		.base = session->config.assignment->console_base,
		.console_log_max = session->config.assignment->console_log_max,
		.min_free = session->config.assignment->min_free,
		.bytes = on_bytes,
		.line = on_line,
		.quiet = on_quiet,
		.ended = on_loan_ended,
		.appended = on_appended,
		.data = session,
	};

	if (matcher_init(&session->matcher, session->config.description, on_match, session) < 0)
		return error_oom(err);
	return loan_new(&session->loan, &loan_config, err);
}

void session_console_done(struct session *session)
{
	session->loan = loan_free(session->loan);
	matcher_done(&session->matcher);
}

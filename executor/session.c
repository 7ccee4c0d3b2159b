/* SPDX-License-Identifier: MIT */
#include "executor/session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/log.h"
#include "executor/session-internal.h"

/* The beginning of a job, and what belongs to it as a process: signals, helper, sockets. */

static void log_session(const struct session *session, int level, const char *text)
{
	log_job(session->config.assignment->dut, session->config.assignment->number, level, "%s",
		text);
}

/* dutd hears of the present phase, and so of an event, also while no console is lent. */
static void send_phase(struct session *session)
{
	control_send(session->control, json_pack("{s:s, s:s, s:i}", "t", "phase", "phase",
						 job_phase_name(session->boot.phase), "boot",
						 (int)session->boot.number));
}

void session_tell_phase(struct session *session)
{
	static const char *const texts[JOB_PHASES] = {
		[PHASE_SETUP] = "getting the files of the job",
		[PHASE_POWER_OFF] = "switching the board off",
		[PHASE_POWER_ON] = "switching the board on",
		[PHASE_BOOT] = "waiting for the first line",
		[PHASE_RUNNING] = "the board is running",
		[PHASE_TEARDOWN] = "finishing the job",
	};
	const char *phase = job_phase_name(session->boot.phase);
	int boot = (int)session->boot.number;

	events_emit(session->events, "phase", json_pack("{s:s, s:i}", "phase", phase, "boot", boot),
		    "%s", texts[session->boot.phase]);
	send_phase(session);
}

static void on_setup_progress(json_t *extra, const char *text, void *data)
{
	struct session *session = data;

	(void)json_object_set_new(extra, "phase", json_string(job_phase_name(PHASE_SETUP)));
	(void)json_object_set_new(extra, "boot", json_integer(0));
	events_emit(session->events, "phase", extra, "%s", text);
	send_phase(session);
}

static void on_setup_done(const char *reason, const char *text, void *data)
{
	struct session *session = data;

	if (session->ended)
		return;
	timeouts_stop(&session->timeouts, TIMEOUT_INFRA_SETUP);
	if (reason)
		session_end(session, DRAIN_WHAT_IS_THERE, reason, "%s", text);
	else
		session_act(session, boot_next(&session->boot, BOOT_READY));
}

/* A job of the queue may get its board too late. */
static bool missed_deadline(const struct session *session)
{
	return session->config.description->deadline_realtime_us <= session->begun_realtime_us &&
	       !session->config.assignment->ignore_deadline;
}

void session_go(struct session *session)
{
	const struct setup_config config = {
		.event = session->config.event,
		.fetcher = session->config.fetcher,
		.assignment = session->config.assignment,
		.description = session->config.description,
		.dir_fd = session->config.dir_fd,
		.tarball_fd = session->config.tarball_fd,
		.progress = on_setup_progress,
		.done = on_setup_done,
		.data = session,
	};
	uint64_t now_us = clock_now_us();
	struct error err;
	int r;

	if (session->begun_realtime_us || session->ended)
		return;
	session->begun_realtime_us = clock_realtime_us();
	events_begin(session->events, now_us);
	timeouts_stop(&session->timeouts, TIMEOUT_DAEMON);
	timeouts_start(&session->timeouts, TIMEOUT_OVERALL, now_us);
	timeouts_start(&session->timeouts, TIMEOUT_INFRA_SETUP, now_us);
	session_arm(session);
	loan_mark(session->loan, "job", json_pack("{s:s}", "event", "go"));
	events_emit(session->events, "job_state", json_pack("{s:s}", "state", "RUNNING"),
		    "job started");
	session_tell_phase(session);
	if (missed_deadline(session)) {
		char date[CLOCK_ISO_SIZE];

		session_end(
			session, DRAIN_WHAT_IS_THERE, "deadline",
			"the job had to begin before its deadline, %s",
			clock_format_iso(date, session->config.description->deadline_realtime_us));
		return;
	}
	r = setup_new(&session->setup, &config, &err);
	if (r < 0)
		session_end(session, DRAIN_WHAT_IS_THERE, "executor_failed", "%s", err.text);
}

/* ---- the process ---- */

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	(void)source;
	(void)info;
	session_cancel(data, NULL, NULL, "the executor was told to stop");
	return 0;
}

static int on_helper_gone(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct session *session = data;

	(void)fd;
	(void)revents;
	(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	if (session->ended)
		return 0;
	if (session->boot.phase == PHASE_SETUP && session->begun_realtime_us)
		session_end(session, DRAIN_WHAT_IS_THERE, "executor_failed",
			    "dut-helper has died while it was needed");
	else
		log_session(session, LOG_WARNING, "dut-helper has died");
	return 0;
}

static void write_state(struct jsontext *json, void *data)
{
	const struct session *session = data;
	const struct assignment *assignment = session->config.assignment;
	uint64_t now_us = clock_now_us();

	jsontext_open_object(json, NULL);
	jsontext_text(json, "state", session->begun_realtime_us ? "RUNNING" : "QUEUED");
	jsontext_open_object(json, "job");
	jsontext_tree(json, "id", json_incref(assignment->id));
	jsontext_text(json, "name", assignment->name);
	jsontext_close_object(json);
	jsontext_text(json, "phase", job_phase_name(session->boot.phase));
	jsontext_integer(json, "boot", session->boot.number);
	jsontext_real(json, "elapsed", events_elapsed(session->events, now_us));
	timeouts_write_state(&session->timeouts, now_us, json);
	jsontext_time(json, "last_console", loan_last_byte_realtime_us(session->loan));
	jsontext_close_object(json);
}

static void on_job_cancel(const char *why, uid_t uid, void *data)
{
	char by[32];

	(void)snprintf(by, sizeof(by), "uid %u", (unsigned)uid);
	session_cancel(data, NULL, by, why && why[0] ? why : NULL);
}

static struct stream *get_stream(void *data)
{
	const struct session *session = data;

	return loan_stream(session->loan);
}

static void on_viewers_gone(void *data)
{
	session_leave(data);
}

static void on_event_written(void *data)
{
	struct session *session = data;

	if (session->loan && loan_stream(session->loan))
		stream_wake(loan_stream(session->loan));
	if (session->jobsock)
		jobsock_wake(session->jobsock);
}

static int open_sources(struct session *session, struct error *err)
{
	sd_event *event = session->config.event;
	int r;

	r = sd_event_add_signal(event, &session->sigterm, SIGTERM, on_signal, session);
	if (r >= 0)
		r = sd_event_add_signal(event, &session->sigint, SIGINT, on_signal, session);
	if (r >= 0)
		r = sd_event_add_io(event, &session->helper, fetcher_pidfd(session->config.fetcher),
				    EPOLLIN, on_helper_gone, session);
	return r < 0 ? error_code(err, r, "cannot watch signals and dut-helper") : 0;
}

static int open_events(struct session *session, struct error *err)
{
	const struct events_config events_config = {
		.dir_fd = session->config.dir_fd,
		.dut = session->config.assignment->dut,
		.job = session->config.assignment->id,
		.environ = session->config.assignment->environ,
		.written = on_event_written,
		.data = session,
	};

	return events_open(&session->events, &events_config, err);
}

static int open_sockets(struct session *session, struct error *err)
{
	const struct assignment *assignment = session->config.assignment;
	const struct control_config control_config = {
		.event = session->config.event,
		.listen_fd = session->config.control_socket_fd,
		.uid = assignment->socket_uid,
		.epoch = assignment->epoch,
		.id = assignment->id_text,
		.attempt = assignment->attempt,
		.nonce = assignment->nonce,
		.handlers = &session_control_handlers,
		.data = session,
	};
	const struct jobsock_config jobsock_config = {
		.event = session->config.event,
		.listen_fd = session->config.job_socket_fd,
		.control_uid = assignment->socket_uid,
		.job_dir_fd = session->config.dir_fd,
		.state = write_state,
		.cancel = on_job_cancel,
		.stream = get_stream,
		.ended = on_viewers_gone,
		.data = session,
	};
	int r;

	r = control_new(&session->control, &control_config, err);
	if (r < 0)
		return r;
	return jobsock_new(&session->jobsock, &jobsock_config, err);
}

int session_new(struct session **ret, const struct session_config *config, struct error *err)
{
	struct session *session = calloc(1, sizeof(*session));
	int r;

	if (!session)
		return error_oom(err);
	session->config = *config;
	session->reserved_fd = -1;
	session->boot.phase = PHASE_SETUP;
	r = session_boot_init(session, err);
	if (r >= 0)
		r = session_console_init(session, err);
	if (r >= 0)
		r = session_end_init(session, err);
	if (r >= 0)
		r = open_sources(session, err);
	if (r >= 0)
		r = open_events(session, err);
	if (r >= 0)
		r = open_sockets(session, err);
	if (r < 0) {
		(void)session_free(session);
		return r;
	}
	/* A dutd that never says go must not hold the board for ever. */
	session_start_timeout(session, TIMEOUT_DAEMON);
	*ret = session;
	return 0;
}

struct session *session_free(struct session *session)
{
	if (session) {
		session->jobsock = jobsock_free(session->jobsock);
		session->control = control_free(session->control);
		session->helper = sd_event_source_disable_unref(session->helper);
		session->sigint = sd_event_source_disable_unref(session->sigint);
		session->sigterm = sd_event_source_disable_unref(session->sigterm);
		session->setup = setup_free(session->setup);
		session_end_done(session);
		session_console_done(session);
		session_boot_done(session);
		session->events = events_close(session->events);
		free(session);
	}
	return NULL;
}
